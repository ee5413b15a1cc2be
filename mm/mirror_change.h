/* SPDX-License-Identifier: MIT */
/*
 * Changes of entries that the guest may be using: removals, demotions, promotions. Each freezes
 * its entry, blocks it, waits for one TRACK (together with others, if there are several), makes
 * its change and publishes; or goes back. All under the lock, excluding: the mirror engine's own.
 */
#ifndef MM_MIRROR_CHANGE_H
#define MM_MIRROR_CHANGE_H

#include "mm/mirror_entry.h"

struct change {
    struct mirror *mirror;
    gfn_t frame;
    enum level level;
    mirror_slot *slot;
    struct mirror_entry old; /* as it is when it is neither frozen nor blocked */
};

/* What is asked of the owner. */
enum change_step {
    STEP_BLOCK,
    STEP_TRACK, /* of the whole mirror: only `mirror` of the change is looked at */
    STEP_UNBLOCK,
    STEP_REMOVE,
    STEP_UNLINK,
    STEP_DEMOTE,
    STEP_PROMOTE,
};

/* Freezes and blocks the entry (one that was left blocked is taken up). On an error it is as
 * before. */
enum error change_begin(struct change *change);
/* Makes every vCPU forget what was blocked: one TRACK and one kick, however much it is. */
enum error changes_track(struct mirror *mirror);
/*
 * One call to the owner; a busy one once more, with all vCPUs held out of the guest. `caches` and
 * `table`, the external one, are for the steps that need them.
 */
enum error change_step(const struct change *change, enum change_step step,
                       struct vcpu_caches *caches, hpa_t table);
/* The way back: present as before, or (false), where the owner cannot unblock it, blocked. */
bool change_undo(const struct change *change);

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
