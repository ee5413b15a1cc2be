/* SPDX-License-Identifier: MIT */
/* The sizes of leaves: demotion splits one, promotion joins 512. */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "mm/mirror_change.h"

enum error mirror_demote(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                         enum level level)
{
    if (frame.raw >= mirror->frames)
        return ERR_RANGE;
    splits_prepare(caches);
    lock_exclude(&mirror->lock);
    enum error error = hpa_is_none(mirror->root) ? ERR_STATE : OK;
    while (!error) {
        struct leaf_cursor at = {.mirror = mirror, .frame = frame, .end = gfn(frame.raw + 1)};
        if (!leaf_cursor_find(&at) || at.level <= level)
            break;
        struct change split = {.mirror = mirror,
                               .frame = frame_align(frame, at.level),
                               .level = at.level,
                               .slot = at.slot,
                               .count = 1};
        error = leaves_split(&split, 1, caches);
    }
    lock_unexclude(&mirror->lock);
    return error;
}

enum table_content {
    TABLE_MIXED,
    TABLE_EMPTY,
    TABLE_IN_A_ROW, /* 512 leaves of memory that could be one */
};

/* Of a table under an entry of `level`. */
static enum table_content table_content(hpa_t table, enum level level)
{
    mirror_slot *slots = table_slot(table, gfn(0), LEVEL_4K);
    struct mirror_entry first = slot_read(&slots[0]);
    hpa_t page = entry_page(first);
    bool empty = entry_is_absent(first);
    if (!empty && !(entry_is_present(first) && entry_is_leaf(first, level - 1) &&
                    is_aligned(page.raw, level_bytes(level))))
        return TABLE_MIXED;
    u64 step = empty ? 0 : level_bytes(level - 1);
    if (slots_in_a_row(slots, TABLE_ENTRIES, first, step) < TABLE_ENTRIES)
        return TABLE_MIXED;
    return empty ? TABLE_EMPTY : TABLE_IN_A_ROW;
}

/* The table of `frame` under an entry at `level`, present or blocked; false: there is none. */
static bool table_find(struct mirror *mirror, gfn_t frame, enum level level, struct change *change)
{
    if (hpa_is_none(mirror->root) || frame.raw >= mirror->frames)
        return false;
    *change = (struct change){.mirror = mirror, .frame = frame_align(frame, level), .count = 1};
    change->slot = slot_find(mirror, frame, level, &change->level);
    struct mirror_entry entry = slot_read(change->slot);
    change->old.raw = entry.raw & ~(ENTRY_BLOCKED | ENTRY_FROZEN);
    return change->level == level && !entry_is_frozen(entry) && !entry_is_absent(entry) &&
           !entry_is_leaf(entry, level);
}

bool mirror_can_promote(struct mirror *mirror, gfn_t frame, enum level level)
{
    struct change change;
    lock_share(&mirror->lock);
    bool can = table_find(mirror, frame, level, &change) &&
               table_content(entry_page(change.old), level) != TABLE_MIXED;
    lock_unshare(&mirror->lock);
    return can;
}

/* Blocked and tracked. */
static enum error table_join(struct change *change, enum table_content content)
{
    struct mirror *mirror = change->mirror;
    hpa_t table = entry_page(change->old);
    enum change_step step = content == TABLE_EMPTY ? STEP_UNLINK : STEP_PROMOTE;
    enum error error = change_step(change, step, NULL, page_partner(table));
    if (error)
        return error;
    struct mirror_entry joined = {0};
    if (content == TABLE_IN_A_ROW) {
        hpa_t page = entry_page(slot_read(table_slot(table, gfn(0), LEVEL_4K)));
        joined = entry_of_leaf(page, change->level);
        atomic_fetch_add(&mirror->stats.leaves[change->level], 1);
        atomic_fetch_sub(&mirror->stats.leaves[change->level - 1], TABLE_ENTRIES);
    }
    atomic_fetch_add(content == TABLE_EMPTY ? &mirror->stats.unlinked : &mirror->stats.promoted, 1);
    slot_publish(change->slot, joined);
    table_free(mirror, table);
    return OK;
}

enum error mirror_promote(struct mirror *mirror, gfn_t frame, enum level level)
{
    ASSERT(level > LEVEL_4K && level < MIRROR_LEAF_LEVELS);
    struct change change;
    enum error error = OK;
    lock_exclude(&mirror->lock);
    if (table_find(mirror, frame, level, &change)) {
        enum table_content content = table_content(entry_page(change.old), level);
        error = content == TABLE_MIXED ? ERR_STATE : change_begin(&change);
        if (!error) {
            error = changes_track(mirror);
            if (!error)
                error = table_join(&change, content);
            /* Not eligible, and nothing changed, are one answer: left blocked is another. */
            if (error && !change_undo(&change) && error == ERR_STATE)
                error = ERR_REFUSED;
        }
    }
    lock_unexclude(&mirror->lock);
    return error;
}
