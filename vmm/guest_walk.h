/* SPDX-License-Identifier: MIT */
/* A guest's own page tables, walked by us: to read what it executes. */
#ifndef VMM_GUEST_WALK_H
#define VMM_GUEST_WALK_H

#include "boot/types.h"

struct guest_paging {
    u64 cr0, cr3, cr4, efer;
};

/* Reads the guest's memory; false: there is none. */
typedef bool guest_read(void *context, gpa_t address, void *bytes, u32 len_bytes);

/*
 * Where the linear address is in guest memory, in any mode but 5-level paging. Presence alone is
 * looked at: the processor has been there just now. False: not mapped, or a table is no memory.
 */
bool guest_walk(const struct guest_paging *paging, u64 linear, guest_read *read, void *context,
                gpa_t *address);

#endif
