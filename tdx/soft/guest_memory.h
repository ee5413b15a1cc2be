/* SPDX-License-Identifier: MIT */
/* Addresses of a guest, translated by software as the processor translates them. */
#ifndef TDX_SOFT_GUEST_MEMORY_H
#define TDX_SOFT_GUEST_MEMORY_H

#include "tdx/soft/run.h"

/* The SHARED bit of this TD's guest physical addresses. */
u64 gpa_shared_bit(const struct tdcs *tdcs);

/* The EPT entry at which the walk for `address` ends: a present leaf, or one not present. */
u64 ept_last_entry(u64 eptp, u64 address);

/* The VMM's shared EPT as this vCPU has it, as an EPTP; 0 where it has none. */
u64 shared_eptp(const struct run *run);

/*
 * The host address behind a guest physical one, if the guest can read there now. Private or
 * shared by the SHARED bit.
 */
bool guest_physical_find(const struct run *run, u64 address, u64 *host);

/* An access of the guest's, walked as the processor walks it. `rights` is of EPT_RWX. */
enum guest_access {
    GUEST_ACCESS_GRANTED,
    GUEST_ACCESS_VIOLATION,        /* the VMM hears of it */
    GUEST_ACCESS_VE,               /* a violation that the guest hears of itself */
    GUEST_ACCESS_MISCONFIGURATION, /* of the shared EPT */
};
struct guest_translation {
    u64 host;   /* if granted */
    u64 entry;  /* at which the walk ended */
    u64 rights; /* that all entries on the way give */
};
enum guest_access guest_access_walk(const struct run *run, u64 address, u64 rights,
                                    struct guest_translation *translation);

/* The guest physical address of a linear one; false where the guest's own tables have none. */
bool guest_linear_find(const struct run *run, u64 linear, u64 *address);

#endif
