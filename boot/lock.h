/* SPDX-License-Identifier: MIT */
/*
 * Spin locks with a rank. A processor takes locks in rising rank only; the order is checked at
 * run time (a violation panics and names both locks). LOCKS.md lists the ranks and what each
 * lock guards. Interrupts stay as they are: no lock is taken by an interrupt handler.
 */
#ifndef BOOT_LOCK_H
#define BOOT_LOCK_H

#include <stdatomic.h>

#include "boot/cpu.h"
#include "boot/types.h"

enum lock_rank {
    RANK_VM = 1,     /* vmm: one VM's devices and vCPU bookkeeping */
    RANK_SWITCH = 2, /* vmm: the network between guests */
    RANK_MIRROR = 3, /* mm: one mirror's map/removal lock */
    RANK_EPT = 4,    /* mm: one direct EPT */
    RANK_TD = 5,     /* tdx: TRACK-and-kick, one TD */
    RANK_KEYS = 6,   /* tdx: KeyIDs, and the leaves that take the module's key table */
    RANK_PAGES = 7,  /* mm: the page allocator */
    RANK_LOG = 8,    /* boot: the log */
};

struct lock {
    _Atomic u32 taken;
    enum lock_rank rank;
    const char *name;
};

#define LOCK_INIT(rank_, name_) ((struct lock){.rank = (rank_), .name = (name_)})

/* The order's check, of what every lock below does first and last. */
__attribute__((noreturn)) void lock_rank_panic(enum lock_rank rank, const char *const *name);
static inline void lock_rank_enter(enum lock_rank rank, const char *const *name)
{
    struct cpu *cpu = cpu_this();
    if (cpu->locks_held >> rank)
        lock_rank_panic(rank, name);
    cpu->locks_held |= 1u << rank;
}
static inline void lock_rank_leave(enum lock_rank rank)
{
    cpu_this()->locks_held &= ~(1u << rank);
}

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

#define SHARED_LOCK_EXCLUDED (1u << 31)
#define SHARED_LOCK_EXCLUDER_WAITS (1u << 30)

/* Two of these are in every page fault: the way without contention is here. */
void lock_share_wait(struct shared_lock *lock);
static inline void lock_share(struct shared_lock *lock)
{
    lock_rank_enter(lock->rank, &lock->name);
    u32 state = atomic_load_explicit(&lock->state, memory_order_relaxed);
    if ((state & (SHARED_LOCK_EXCLUDED | SHARED_LOCK_EXCLUDER_WAITS)) ||
        !atomic_compare_exchange_strong_explicit(&lock->state, &state, state + 1,
                                                 memory_order_acquire, memory_order_relaxed))
        lock_share_wait(lock);
}
static inline void lock_unshare(struct shared_lock *lock)
{
    lock_rank_leave(lock->rank);
    atomic_fetch_sub_explicit(&lock->state, 1, memory_order_release);
}
void lock_exclude(struct shared_lock *lock);
void lock_unexclude(struct shared_lock *lock);

#endif
