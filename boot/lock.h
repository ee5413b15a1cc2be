/* SPDX-License-Identifier: MIT */
/*
 * Spin locks with a rank. A processor takes locks in rising rank only; the order is checked at
 * run time (a violation panics and names both locks). LOCKS.md lists the ranks and what each
 * lock guards. Interrupts stay as they are: no lock is taken by an interrupt handler.
 */
#ifndef BOOT_LOCK_H
#define BOOT_LOCK_H

#include <stdatomic.h>

#include "boot/types.h"

enum lock_rank {
    RANK_VM = 1,     /* vmm: one VM's devices and vCPU bookkeeping */
    RANK_MIRROR = 2, /* mm: one mirror's map/removal lock */
    RANK_EPT = 3,    /* mm: one direct EPT */
    RANK_TD = 4,     /* tdx: TRACK-and-kick, one TD */
    RANK_KEYS = 5,   /* tdx: KeyIDs, and the leaves that take the module's key table */
    RANK_PAGES = 6,  /* mm: the page allocator */
    RANK_LOG = 7,    /* boot: the log */
};

struct lock {
    _Atomic u32 taken;
    enum lock_rank rank;
    const char *name;
};

#define LOCK_INIT(rank_, name_) ((struct lock){.rank = (rank_), .name = (name_)})

void lock_take(struct lock *lock);
bool lock_try(struct lock *lock);
void lock_release(struct lock *lock);

/* Many sharers or one excluder; a waiting excluder keeps new sharers out. */
struct shared_lock {
    _Atomic u32 state; /* bit 31: excluded; bit 30: excluder waits; rest: sharers */
    enum lock_rank rank;
    const char *name;
};

#define SHARED_LOCK_INIT(rank_, name_) ((struct shared_lock){.rank = (rank_), .name = (name_)})

void lock_share(struct shared_lock *lock);
void lock_unshare(struct shared_lock *lock);
void lock_exclude(struct shared_lock *lock);
void lock_unexclude(struct shared_lock *lock);

#endif
