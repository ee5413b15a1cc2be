/* SPDX-License-Identifier: MIT */
/*
 * Changes of entries that the guest may be using: removals, demotions, promotions. Each freezes
 * its entry, blocks it, waits for one TRACK (together with others, if there are several), makes
 * its change and publishes; or goes back. All under the lock, excluding: the mirror engine's own.
 */
#ifndef MM_MIRROR_CHANGE_H
#define MM_MIRROR_CHANGE_H

#include "mm/mirror_entry.h"

/* Of one entry, or of a row of leaves (struct entry_row). */
struct change {
    struct mirror *mirror;
    gfn_t frame;
    enum level level;
    mirror_slot *slot;
    struct mirror_entry old; /* the first, as it is when it is neither frozen nor blocked */
    u32 count;
    u32 done; /* of them, by the last step */
};

/* Number `index` of a row that begins with `first`. */
static inline struct mirror_entry row_entry(const struct change *change, struct mirror_entry first,
                                            u32 index)
{
    return (struct mirror_entry){first.raw + index * level_bytes(change->level)};
}

/* What is asked of the owner. */
enum change_step {
    STEP_BLOCK,
    STEP_TRACK, /* of the whole mirror: nothing else of the change is looked at */
    STEP_UNBLOCK,
    STEP_REMOVE,
    STEP_UNLINK,
    STEP_DEMOTE,
    STEP_PROMOTE,
};

/*
 * Freezes and blocks what is in a row of `count` entries at most, and sets `count` to that. What
 * was left blocked is taken up; it makes no row with what was not. On an error the first `done` are
 * blocked, the rest is as before.
 */
enum error change_begin(struct change *change);
/* Makes every vCPU forget what was blocked: one TRACK and one kick, however much it is. */
enum error changes_track(struct mirror *mirror);
/*
 * One call to the owner; a busy entry once more, with all vCPUs held out of the guest. `caches` and
 * `table`, the external one, are for the steps that need them. Of a row that is blocked or removed
 * `done` says how far it got; the other steps are for single entries.
 */
enum error change_step(struct change *change, enum change_step step, struct vcpu_caches *caches,
                       hpa_t table);
/* The way back: present as before, or (false), where the owner cannot unblock it, blocked. */
bool change_undo(struct change *change);

/* Before the lock: what splits may need, as far as there is memory; they look whether it is there.
 */
void splits_prepare(struct vcpu_caches *caches);

/* Unlinked, and empty: the mirror's table and its external partner go back to the allocator. */
void table_free(struct mirror *mirror, hpa_t table);

/*
 * Splits each of the leaves, of which there are up to two, into a table of leaves a level below;
 * one TRACK for both. What fails stays, or is, as change_undo leaves it.
 */
#define SPLITS_MAX 2
enum error leaves_split(struct change *splits, u32 count, struct vcpu_caches *caches);

#endif
