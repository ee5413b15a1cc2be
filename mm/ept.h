/* SPDX-License-Identifier: MIT */
/*
 * A direct EPT: an ordinary extended page table that VMM and processor both walk. For a TD it
 * holds the shared GPAs (with the SHARED bit in the GPA), for a VM all of them.
 * An absent entry of a TD's table has "suppress #VE" clear, so that an access to an unmapped
 * shared GPA (MMIO) becomes the guest's #VE.
 */
#ifndef MM_EPT_H
#define MM_EPT_H

#include "boot/lock.h"
#include "mm/caches.h"

struct ept {
    struct lock lock;
    hpa_t root; /* also what VP.WR of the shared EPTP takes */
    u64 frames; /* GFNs are in [0, frames), SHARED bit included */
    _Atomic u64 leaves;
    _Atomic u64 tables;
};

enum error ept_init(struct ept *ept, u32 gpa_bits);
/* Maps `page` at `frame`, read-write(-execute for a VM: `permissions` are EPT_READ...). */
enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                   u64 permissions);
/* Unmaps; *page is what was there. ERR_NOT_FOUND. The caller flushes before it reuses the page. */
enum error ept_unmap(struct ept *ept, gfn_t frame, hpa_t *page);
hpa_t ept_lookup(struct ept *ept, gfn_t frame);
/* Frees every mapped page and every table. */
void ept_destroy(struct ept *ept);
u64 ept_pointer(const struct ept *ept); /* the EPTP of a VM */

#endif
