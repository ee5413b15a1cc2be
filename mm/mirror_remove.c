/* SPDX-License-Identifier: MIT */
/*
 * Removal of private pages: block every leaf of the range, track once, remove every leaf. The
 * lock is held exclusively, so nobody freezes an entry but us; lock-free lookups may look on.
 */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "mm/mirror_entry.h"

enum removal_step {
    REMOVAL_BLOCK,
    REMOVAL_TRACK,
    REMOVAL_REMOVE,
};

static enum error step_once(struct mirror *mirror, enum removal_step step, gfn_t frame, hpa_t page)
{
    const struct mirror_ops *ops = mirror->ops;
    switch (step) {
    case REMOVAL_BLOCK:
        return ops->block(mirror->owner, frame, LEVEL_4K);
    case REMOVAL_TRACK:
        return ops->track(mirror->owner);
    case REMOVAL_REMOVE:
        return ops->remove_leaf(mirror->owner, frame, LEVEL_4K, page);
    }
    return ERR_INVALID;
}

/*
 * A removal cannot be left half done to be taken up by a guest's next fault. With no vCPU inside
 * and none entering, nobody is left to contend: if the second try is busy too, a third would be.
 */
static enum error step_run(struct mirror *mirror, enum removal_step step, gfn_t frame, hpa_t page)
{
    enum error error = step_once(mirror, step, frame, page);
    if (error != ERR_BUSY)
        return error;
    atomic_fetch_add(&mirror->stats.busy, 1);
    mirror->ops->hold_vcpus(mirror->owner);
    error = step_once(mirror, step, frame, page);
    mirror->ops->release_vcpus(mirror->owner);
    return error;
}

/* Freezes and blocks the leaves of [start, *end). On an error *end is the leaf that caused it. */
static enum error leaves_block(struct mirror *mirror, gfn_t start, gfn_t *end)
{
    mirror_slot *slot;
    for (gfn_t at = start; (slot = mirror_leaf_find(mirror, &at, *end)); at.raw++) {
        struct mirror_entry old = slot_read(slot);
        bool frozen = slot_freeze(mirror, slot, old);
        ASSERT(frozen);
        /* An earlier removal stopped behind the block. */
        if (old.raw & ENTRY_BLOCKED)
            continue;
        enum error error = step_run(mirror, REMOVAL_BLOCK, at, entry_page(old));
        if (error) {
            slot_publish(slot, old);
            *end = at;
            return error;
        }
    }
    return OK;
}

static enum error leaf_remove(struct mirror *mirror, gfn_t frame, mirror_slot *slot)
{
    hpa_t page = entry_page(slot_read(slot));
    enum error error = step_run(mirror, REMOVAL_REMOVE, frame, page);
    if (error)
        return error;
    slot_publish(slot, (struct mirror_entry){0});
    atomic_fetch_sub(&mirror->stats.leaves, 1);
    page_free(page);
    return OK;
}

/* The way back for frozen, blocked leaves: mapped if the owner unblocks them, else blocked. */
static void leaves_restore(struct mirror *mirror, gfn_t start, gfn_t end)
{
    mirror_slot *slot;
    for (gfn_t at = start; (slot = mirror_leaf_find(mirror, &at, end)); at.raw++) {
        u64 flags = ENTRY_FROZEN | ENTRY_BLOCKED;
        struct mirror_entry mapped = {slot_read(slot).raw & ~flags};
        struct mirror_entry blocked = {mapped.raw | ENTRY_BLOCKED};
        const struct mirror_ops *ops = mirror->ops;
        bool unblocked = ops->unblock && ops->unblock(mirror->owner, at, LEVEL_4K) == OK;
        slot_publish(slot, unblocked ? mapped : blocked);
    }
}

/* Under the exclusive lock, of leaves below `end` that are all frozen and blocked. */
static enum error leaves_remove(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done)
{
    gfn_t at = start;
    mirror_slot *slot = mirror_leaf_find(mirror, &at, end);
    enum error error = slot ? step_run(mirror, REMOVAL_TRACK, at, HPA_NONE) : OK;
    while (slot && !error) {
        error = leaf_remove(mirror, at, slot);
        if (error)
            break;
        at.raw++;
        slot = mirror_leaf_find(mirror, &at, end);
    }
    if (error)
        leaves_restore(mirror, at, end);
    *done = at;
    return error;
}

enum error mirror_remove_range(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done)
{
    *done = start;
    if (start.raw > end.raw || end.raw > mirror->frames)
        return ERR_RANGE;
    lock_exclude(&mirror->lock);
    if (hpa_is_none(mirror->root)) {
        lock_unexclude(&mirror->lock);
        return ERR_STATE;
    }
    gfn_t blocked_end = end;
    enum error block_error = leaves_block(mirror, start, &blocked_end);
    /* What was blocked before the refusal is removed all the same: it cannot stay as it is. */
    enum error error = leaves_remove(mirror, start, blocked_end, done);
    lock_unexclude(&mirror->lock);
    return error ? error : block_error;
}
