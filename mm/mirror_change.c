/* SPDX-License-Identifier: MIT */
#include "mm/mirror_change.h"

#include "boot/assert.h"

/* Goes on with the row where the step stopped, for `most` entries. */
static enum error row_once(struct change *change, u32 most,
                           enum error (*call)(void *owner, struct entry_row *row))
{
    u32 left = change->count - change->done;
    struct entry_row row = {
        .frame = gfn(change->frame.raw + change->done * level_pages(change->level)),
        .level = change->level,
        .count = most < left ? most : left,
        .page = entry_page(row_entry(change, change->old, change->done)),
    };
    u32 asked = row.count;
    enum error error = call(change->mirror->owner, &row);
    change->done += asked - row.count;
    return error;
}

static enum error step_once(struct change *change, u32 most, enum change_step step,
                            struct vcpu_caches *caches, hpa_t table)
{
    const struct mirror_ops *ops = change->mirror->ops;
    void *owner = change->mirror->owner;
    hpa_t page = entry_page(change->old);
    switch (step) {
    case STEP_BLOCK:
        return row_once(change, most, ops->block);
    case STEP_REMOVE:
        return row_once(change, most, ops->remove);
    case STEP_TRACK:
        return ops->track(owner);
    case STEP_UNBLOCK:
        return ops->unblock ? ops->unblock(owner, change->frame, change->level) : ERR_REFUSED;
    case STEP_UNLINK:
        return ops->unlink_table(owner, change->frame, change->level, table);
    case STEP_DEMOTE:
        return ops->demote(owner, caches, change->frame, change->level, page, table);
    case STEP_PROMOTE:
        /* `page` is the mirror's table: the memory is where its first entry says. */
        page = entry_page(slot_read(table_slot(page, gfn(0), LEVEL_4K)));
        return ops->promote(owner, change->frame, change->level, page, table);
    }
    return ERR_INVALID;
}

/*
 * A change cannot be left half done to be taken up by a guest's next fault. With no vCPU inside
 * and none entering, nobody is left to contend: if the second try is busy too, a third would be.
 */
enum error change_step(struct change *change, enum change_step step, struct vcpu_caches *caches,
                       hpa_t table)
{
    struct mirror *mirror = change->mirror;
    change->done = 0;
    for (;;) {
        enum error error = step_once(change, change->count, step, caches, table);
        if (error != ERR_BUSY)
            return error;
        atomic_fetch_add(&mirror->stats.busy, 1);
        mirror->ops->hold_vcpus(mirror->owner);
        error = step_once(change, 1, step, caches, table);
        mirror->ops->release_vcpus(mirror->owner);
        /* The rest of a row is not busy for that. */
        if (error || change->count <= 1 || change->done == change->count)
            return error;
    }
}

enum error changes_track(struct mirror *mirror)
{
    struct change all = {.mirror = mirror};
    atomic_fetch_add(&mirror->stats.tracks, 1);
    return change_step(&all, STEP_TRACK, NULL, HPA_NONE);
}

enum error change_begin(struct change *change)
{
    struct mirror_entry before = slot_read(change->slot);
    change->old.raw = before.raw & ~ENTRY_BLOCKED;
    /* The lock is ours alone, and nobody else freezes: what is something else ends the row. */
    change->count = slots_freeze(change->slot, change->count, before, level_bytes(change->level));
    ASSERT(change->count > 0);
    /* An earlier change stopped behind the block. */
    if (before.raw & ENTRY_BLOCKED)
        return OK;
    enum error error = change_step(change, STEP_BLOCK, NULL, HPA_NONE);
    if (error)
        slots_publish(&change->slot[change->done], change->count - change->done,
                      row_entry(change, before, change->done), level_bytes(change->level));
    return error;
}

bool change_undo(struct change *change)
{
    bool all = true;
    for (u32 i = 0; i < change->count; i++) {
        struct change one = {
            .mirror = change->mirror,
            .frame = gfn(change->frame.raw + i * level_pages(change->level)),
            .level = change->level,
        };
        struct mirror_entry present = row_entry(change, change->old, i);
        struct mirror_entry blocked = {present.raw | ENTRY_BLOCKED};
        bool unblocked = change_step(&one, STEP_UNBLOCK, NULL, HPA_NONE) == OK;
        slot_publish(&change->slot[i], unblocked ? present : blocked);
        all &= unblocked;
    }
    return all;
}

void splits_prepare(struct vcpu_caches *caches)
{
    (void)page_cache_fill(&caches->mirror_tables);
    (void)page_cache_fill(&caches->external_tables);
    (void)page_cache_fill(&caches->metadata_pages);
}

void table_free(struct mirror *mirror, hpa_t table)
{
    page_free(page_partner(table));
    page_free(table);
    atomic_fetch_sub(&mirror->stats.tables, 1);
    atomic_fetch_add(&mirror->stats.external_returned, 1);
}

/* Under the block and after the TRACK. The mirror's table is whole before it is published. */
static enum error leaf_split(struct change *split, struct vcpu_caches *caches)
{
    struct mirror *mirror = split->mirror;
    hpa_t external = page_cache_take(&caches->external_tables);
    enum error error = change_step(split, STEP_DEMOTE, caches, external);
    if (error) {
        page_cache_return(&caches->external_tables, external);
        (void)change_undo(split);
        return error;
    }
    hpa_t table = page_cache_take(&caches->mirror_tables);
    mirror_slot *slots = table_slot(table, gfn(0), LEVEL_4K);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        hpa_t page = entry_child_page(entry_page(split->old), split->level, i);
        atomic_store_explicit(&slots[i], entry_of_leaf(page, split->level - 1).raw,
                              memory_order_relaxed);
    }
    page_set_partner(table, external);
    atomic_fetch_sub(&mirror->stats.leaves[split->level], 1);
    atomic_fetch_add(&mirror->stats.leaves[split->level - 1], TABLE_ENTRIES);
    atomic_fetch_add(&mirror->stats.tables, 1);
    atomic_fetch_add(&mirror->stats.external_taken, 1);
    atomic_fetch_add(&mirror->stats.demoted, 1);
    slot_publish(split->slot, entry_of_table(table));
    return OK;
}

enum error leaves_split(struct change *splits, u32 count, struct vcpu_caches *caches)
{
    ASSERT(count <= SPLITS_MAX);
    if (count == 0)
        return OK;
    /* A caller may be here just because memory is short: what it needs no table for must work. */
    if (caches->mirror_tables.count < count || caches->external_tables.count < count)
        return ERR_NO_MEMORY;
    enum error error = OK;
    u32 begun = 0;
    while (begun < count && !error) {
        error = change_begin(&splits[begun]);
        if (!error)
            begun++;
    }
    /* Even for those that only go back: none is unblocked before it was tracked. */
    enum error tracked = begun ? changes_track(splits[0].mirror) : OK;
    if (!error)
        error = tracked;
    for (u32 i = 0; i < begun; i++) {
        if (error)
            (void)change_undo(&splits[i]);
        else
            error = leaf_split(&splits[i], caches);
    }
    return error;
}
