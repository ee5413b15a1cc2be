/* SPDX-License-Identifier: MIT */
/*
 * A direct EPT: an ordinary extended page table that VMM and processor both walk. For a TD it
 * holds the shared GPAs (with the SHARED bit in the GPA), for a VM all of them.
 * An absent entry of a TD's table has "suppress #VE" clear, so that an access to an unmapped
 * shared GPA (MMIO) becomes the guest's #VE.
 *
 * A processor that walks meanwhile finds the old or the new mapping, never a part: a table is
 * filled before it is linked, and every change of what is mapped is one store.
 *
 * A flush is an INVEPT of this EPT on each processor that runs a vCPU of it. Who calls owes
 *   ept_map                 none: nothing was mapped there
 *   ept_unmap               one before the page is used again
 *   ept_split               none for the translations, which stay right; one before the flags of
 *                           the small leaves are read
 *   ept_collapse            one before `page` of a frame is used for something else, that is: none
 *                           if the frames stay; flags set by a processor until then may be lost
 *   ept_test_and_clear      one before the flags are read again
 * and, before tables that a call took out of the tree are freed: ept_retired, flush,
 * ept_free_tables.
 */
#ifndef MM_EPT_H
#define MM_EPT_H

#include "boot/lock.h"
#include "mm/caches.h"

#define EPT_LEAF_LEVELS 3

struct ept {
    struct lock lock;
    hpa_t root;                          /* also what VP.WR of the shared EPTP takes */
    u64 frames;                          /* GFNs are in [0, frames), SHARED bit included */
    u32 features;                        /* EPT_FEATURE_... */
    _Atomic u64 leaves[EPT_LEAF_LEVELS]; /* by level */
    _Atomic u64 tables;                  /* linked ones, without the root */
    hpa_t retired;                       /* unlinked tables, a list by their partners */
    _Atomic u32 lookups;                 /* under way: they may still read a retired table */
};

/* `features`: what the processors have, less what is not wanted (vmx_ept_features). */
enum error ept_init(struct ept *ept, u32 gpa_bits, u32 features);
/*
 * Maps `page` at `frame`, read-write(-execute for a VM: `permissions` are EPT_READ...), by one
 * leaf of `level`. ERR_EXISTS: something of the range is mapped; ERR_UNSUPPORTED: no leaves of
 * this level; ERR_INVALID: frame or page is not aligned to it; ERR_RANGE, ERR_NO_MEMORY.
 */
enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                   hpa_t page, u64 permissions);
/*
 * Unmaps the leaf that maps `frame`, a larger one split first until it is of `level`. *page and
 * *found are its page and level: the page for `frame` rounded down to that level. The caller
 * flushes before it reuses the page. Tables that have become empty are retired. ERR_NOT_FOUND:
 * absent, all of the *found that `frame` is in; ERR_NO_MEMORY: no table for the split; ERR_RANGE.
 */
enum error ept_unmap(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                     hpa_t *page, enum level *found);
/* Splits until the leaf of `frame` is at `level` or below; OK too if it is absent. */
enum error ept_split(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level);
/*
 * Makes one leaf of `level` of 512 that are alike and map an aligned page in order; their flags
 * are OR-ed. 512 absent entries become one. OK too if that is so already. ERR_STATE: they are not
 * so; ERR_UNSUPPORTED, ERR_RANGE.
 */
enum error ept_collapse(struct ept *ept, gfn_t frame, enum level level);
/*
 * What maps `frame` (its 4 KiB page; HPA_NONE: nothing); `level`, unless null, is the leaf's, or
 * how much is absent. Takes no lock.
 */
hpa_t ept_lookup(struct ept *ept, gfn_t frame, enum level *level);

/*
 * Clears `flags` (EPT_ACCESSED, EPT_DIRTY) of the leaves in [start, end) and returns how many
 * frames were mapped by one that had any; a bit is set for each in `map` (unless null; bit 0 is
 * `start`). A leaf that reaches out of the range is told but not cleared. Always 0 without
 * EPT_FEATURE_AD.
 */
u64 ept_test_and_clear(struct ept *ept, gfn_t start, gfn_t end, u64 flags, u8 *map);

/* Takes the tables retired until now; for ept_free_tables, after a flush. HPA_NONE: none. */
hpa_t ept_retired(struct ept *ept);
void ept_free_tables(struct ept *ept, hpa_t tables);

/* Frees every mapped page and every table. No vCPU runs. */
void ept_destroy(struct ept *ept);
u64 ept_pointer(const struct ept *ept); /* the EPTP of a VM */

#endif
