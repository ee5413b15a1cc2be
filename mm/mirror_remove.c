/* SPDX-License-Identifier: MIT */
/*
 * Removal of private memory: split what the range cuts, then block every leaf of it, track once,
 * remove every leaf. The lock is held exclusively, so nobody freezes an entry but us.
 */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "mm/mirror_change.h"

/* Of the leaf that the cursor stands on and all behind it, as far as its table and the range go. */
static struct change change_at(const struct leaf_cursor *at)
{
    u64 pages = level_pages(at->level);
    gfn_t frame = frame_align(at->frame, at->level);
    u64 in_table = TABLE_ENTRIES - level_index(frame, at->level);
    u64 in_range = (at->end.raw - frame.raw + pages - 1) / pages;
    return (struct change){
        .mirror = at->mirror,
        .frame = frame,
        .level = at->level,
        .slot = at->slot,
        .old = {slot_read(at->slot).raw & ~(ENTRY_FROZEN | ENTRY_BLOCKED)},
        .count = (u32)(in_table < in_range ? in_table : in_range),
    };
}

/* Of those the ones that are frozen and make a row with the first. */
static struct change frozen_at(const struct leaf_cursor *at)
{
    struct change change = change_at(at);
    struct mirror_entry first = slot_read(at->slot);
    ASSERT(entry_is_frozen(first));
    change.count = slots_in_a_row(at->slot, change.count, first, level_bytes(at->level));
    return change;
}

/* True if a leaf stands at `frame` and has memory on both sides of `border`. */
static bool leaf_is_cut(struct mirror *mirror, gfn_t frame, gfn_t border, struct change *change)
{
    struct leaf_cursor cursor = {.mirror = mirror, .frame = frame, .end = gfn(frame.raw + 1)};
    if (frame.raw >= mirror->frames || !leaf_cursor_find(&cursor) || cursor.level == LEVEL_4K)
        return false;
    *change = change_at(&cursor);
    change->count = 1;
    return change->frame.raw < border.raw &&
           border.raw < change->frame.raw + level_pages(change->level);
}

/* Until no leaf lies across an end of the range: from 1 GiB that takes two rounds. */
static enum error ends_split(struct mirror *mirror, struct vcpu_caches *caches, gfn_t start,
                             gfn_t end)
{
    for (;;) {
        struct change cut[SPLITS_MAX];
        u32 count = 0;
        if (leaf_is_cut(mirror, start, start, &cut[0]))
            count++;
        if (leaf_is_cut(mirror, end, end, &cut[count]) &&
            (count == 0 || cut[0].slot != cut[1].slot))
            count++;
        if (count == 0)
            return OK;
        enum error error = leaves_split(cut, count, caches);
        if (error)
            return error;
    }
}

/* A promotion that could not go back left a table blocked: nothing below it can be reached. */
static enum error tables_unblock(struct mirror *mirror, gfn_t start, gfn_t end)
{
    gfn_t frame = start;
    while (frame.raw < end.raw) {
        enum level level;
        mirror_slot *slot = slot_find(mirror, frame, LEVEL_4K, &level);
        struct mirror_entry entry = slot_read(slot);
        if (entry_is_blocked(entry) && !entry_is_leaf(entry, level)) {
            struct change change = {.mirror = mirror,
                                    .frame = frame_align(frame, level),
                                    .level = level,
                                    .slot = slot,
                                    .count = 1};
            enum error error = change_begin(&change);
            if (!error)
                error = changes_track(mirror);
            if (!change_undo(&change) || error)
                return error ? error : ERR_REFUSED;
        }
        if (level == LEVEL_4K) /* one table at a time */
            level = LEVEL_2M;
        frame = gfn(frame_align(frame, level).raw + level_pages(level));
    }
    return OK;
}

/* Freezes and blocks the leaves of [start, *end). On an error *end is the leaf that caused it. */
static enum error leaves_block(struct mirror *mirror, gfn_t start, gfn_t *end)
{
    struct leaf_cursor at = {.mirror = mirror, .frame = start, .end = *end};
    while (leaf_cursor_find(&at)) {
        struct change change = change_at(&at);
        enum error error = change_begin(&change);
        if (error) {
            leaf_cursor_step(&at, change.done);
            *end = at.frame;
            return error;
        }
        leaf_cursor_step(&at, change.count);
    }
    return OK;
}

/* On an error the first `done` of the row are gone, the rest is frozen and blocked as before. */
static enum error row_remove(struct change *change)
{
    enum error error = change_step(change, STEP_REMOVE, NULL, HPA_NONE);
    slots_publish(change->slot, change->done, (struct mirror_entry){0}, 0);
    atomic_fetch_sub(&change->mirror->stats.leaves[change->level], change->done);
    if (change->done)
        pages_free(entry_page(change->old), change->done * level_pages(change->level));
    return error;
}

/* Of leaves before `end` that are all frozen and blocked. */
static enum error leaves_remove(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done)
{
    struct leaf_cursor at = {.mirror = mirror, .frame = start, .end = end};
    enum error error = leaf_cursor_find(&at) ? changes_track(mirror) : OK;
    while (!error && leaf_cursor_find(&at)) {
        struct change change = frozen_at(&at);
        error = row_remove(&change);
        leaf_cursor_step(&at, change.done);
    }
    *done = at.frame.raw < end.raw ? at.frame : end;
    while (error && leaf_cursor_find(&at)) {
        struct change change = frozen_at(&at);
        (void)change_undo(&change);
        leaf_cursor_step(&at, change.count);
    }
    return error;
}

enum error mirror_remove_range(struct mirror *mirror, struct vcpu_caches *caches, gfn_t start,
                               gfn_t end, gfn_t *done)
{
    *done = start;
    if (start.raw > end.raw || end.raw > mirror->frames)
        return ERR_RANGE;
    splits_prepare(caches);
    lock_exclude(&mirror->lock);
    enum error error = hpa_is_none(mirror->root) ? ERR_STATE : tables_unblock(mirror, start, end);
    if (!error)
        error = ends_split(mirror, caches, start, end);
    if (!error) {
        gfn_t blocked_end = end;
        enum error block_error = leaves_block(mirror, start, &blocked_end);
        /* What was blocked before the refusal is removed all the same: it cannot stay as it is. */
        error = leaves_remove(mirror, start, blocked_end, done);
        if (!error)
            error = block_error;
    }
    lock_unexclude(&mirror->lock);
    return error;
}
