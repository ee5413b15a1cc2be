/* SPDX-License-Identifier: MIT */
/*
 * Removal of a range: the lock is excluded, so that no map is under way; entries are frozen one
 * after the other, blocked, tracked once for all of them, removed, published.
 */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "mm/mirror_table.h"

/*
 * Page frames [start, end) of one removal. `step` is asked for each leaf in turn until it fails;
 * the result is where it failed, or end.
 */
struct removal {
    struct mirror *mirror;
    gfn_t start, end;
    enum error error;
    u64 blocked_leaves;
};

typedef enum error (*leaf_step_t)(struct removal *removal, gfn_t frame, mirror_slot_t *slot);

/* The next frame that a table at `level` does not cover. */
static u64 frame_after(gfn_t frame, enum level level)
{
    return align_down(frame.raw, level_pages(level)) + level_pages(level);
}

static gfn_t each_leaf(struct removal *removal, gfn_t end, leaf_step_t step)
{
    gfn_t frame = removal->start;
    removal->error = OK;
    while (frame.raw < end.raw) {
        enum level missing;
        mirror_slot_t *slot = mirror_walk(removal->mirror, frame, &missing);
        if (!slot) {
            frame.raw = frame_after(frame, missing);
            continue;
        }
        if (mirror_entry_is_present(mirror_slot_read(slot)))
            removal->error = step(removal, frame, slot);
        if (removal->error)
            return frame;
        frame.raw++;
    }
    return end;
}

/*
 * Runs `call` and, if the module is busy, once more with every vCPU out and none entering
 * (mirror-invariants: "BUSY on BLOCK, TRACK or REMOVE").
 */
#define WITH_ONE_RETRY(mirror, call)                       \
    ({                                                     \
        enum error error_ = (call);                        \
        if (error_ == ERR_BUSY) {                          \
            (mirror)->stats.busy++;                        \
            (mirror)->ops->hold_vcpus((mirror)->owner);    \
            error_ = (call);                               \
            (mirror)->ops->release_vcpus((mirror)->owner); \
        }                                                  \
        error_;                                            \
    })

/* The entry stays as it is for readers: its translation may still be in use until TRACK. */
static enum error leaf_block(struct removal *removal, gfn_t frame, mirror_slot_t *slot)
{
    struct mirror *mirror = removal->mirror;
    (void)slot;
    enum error error = WITH_ONE_RETRY(mirror, mirror->ops->block(mirror->owner, frame, LEVEL_4K));
    if (!error)
        removal->blocked_leaves++;
    return error;
}

static enum error leaf_unblock(struct removal *removal, gfn_t frame, mirror_slot_t *slot)
{
    struct mirror *mirror = removal->mirror;
    (void)slot;
    return WITH_ONE_RETRY(mirror, mirror->ops->unblock(mirror->owner, frame, LEVEL_4K));
}

static enum error leaf_remove(struct removal *removal, gfn_t frame, mirror_slot_t *slot)
{
    struct mirror *mirror = removal->mirror;
    struct mirror_entry old = mirror_slot_read(slot);
    hpa_t page = mirror_entry_address(old);
    bool frozen = mirror_slot_freeze(slot, old);
    ASSERT(frozen); /* maps are excluded */
    enum error error =
        WITH_ONE_RETRY(mirror, mirror->ops->remove_leaf(mirror->owner, frame, LEVEL_4K, page));
    if (error) {
        mirror_slot_publish(slot, old);
        return error;
    }
    mirror_slot_publish(slot, mirror_entry_none);
    mirror->stats.leaves--;
    page_free(page);
    return OK;
}

/* Takes back the blocking of [removal->start, end). */
static void unblock(struct removal *removal, gfn_t end)
{
    gfn_t at = each_leaf(removal, end, leaf_unblock);
    if (removal->error)
        log_line("mirror: GPA 0x%llx stays blocked: the module refuses to unblock it",
                 (unsigned long long)gfn_to_gpa(at).raw);
}

static enum error remove_locked(struct removal *removal, gfn_t *done)
{
    struct mirror *mirror = removal->mirror;
    gfn_t blocked_end = each_leaf(removal, removal->end, leaf_block);
    enum error block_error = removal->error;
    *done = removal->blocked_leaves ? removal->start : blocked_end;
    if (removal->blocked_leaves == 0)
        return block_error;

    enum error error = WITH_ONE_RETRY(mirror, mirror->ops->track(mirror->owner));
    if (error) {
        unblock(removal, blocked_end);
        return error;
    }
    *done = each_leaf(removal, blocked_end, leaf_remove);
    error = removal->error;
    if (error) {
        removal->start = *done;
        unblock(removal, blocked_end);
        return error;
    }
    return block_error;
}

enum error mirror_remove_range(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done)
{
    struct removal removal = {.mirror = mirror, .start = start, .end = end};
    *done = start;
    if (start.raw > end.raw || end.raw > mirror->frames)
        return ERR_RANGE;
    lock_exclude(&mirror->lock);
    enum error error = remove_locked(&removal, done);
    lock_unexclude(&mirror->lock);
    return error;
}
