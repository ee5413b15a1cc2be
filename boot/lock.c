/* SPDX-License-Identifier: MIT */
#include "boot/lock.h"

#include "boot/assert.h"
#include "boot/cpu.h"

#define STATE_EXCLUDED (1u << 31)
#define STATE_EXCLUDER_WAITS (1u << 30)

static void rank_enter(enum lock_rank rank, const char *name)
{
    struct cpu *cpu = cpu_this();
    if (cpu->locks_held >> rank)
        panic("lock order: %s (rank %u) taken with ranks %x held", name, rank, cpu->locks_held);
    cpu->locks_held |= 1u << rank;
}

static void rank_leave(enum lock_rank rank)
{
    cpu_this()->locks_held &= ~(1u << rank);
}

bool lock_try(struct lock *lock)
{
    if (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
        return false;
    rank_enter(lock->rank, lock->name);
    return true;
}

void lock_take(struct lock *lock)
{
    rank_enter(lock->rank, lock->name);
    while (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
        while (atomic_load_explicit(&lock->taken, memory_order_relaxed))
            cpu_relax();
}

void lock_release(struct lock *lock)
{
    rank_leave(lock->rank);
    atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

void lock_share(struct shared_lock *lock)
{
    rank_enter(lock->rank, lock->name);
    for (;;) {
        u32 state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if (!(state & (STATE_EXCLUDED | STATE_EXCLUDER_WAITS)) &&
            atomic_compare_exchange_weak_explicit(&lock->state, &state, state + 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return;
        cpu_relax();
    }
}

void lock_unshare(struct shared_lock *lock)
{
    rank_leave(lock->rank);
    atomic_fetch_sub_explicit(&lock->state, 1, memory_order_release);
}

void lock_exclude(struct shared_lock *lock)
{
    rank_enter(lock->rank, lock->name);
    for (;;) {
        u32 state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if ((state & ~STATE_EXCLUDER_WAITS) == 0) {
            if (atomic_compare_exchange_weak_explicit(&lock->state, &state, STATE_EXCLUDED,
                                                      memory_order_acquire, memory_order_relaxed))
                return;
        } else if (!(state & STATE_EXCLUDER_WAITS)) {
            atomic_fetch_or_explicit(&lock->state, STATE_EXCLUDER_WAITS, memory_order_relaxed);
        }
        cpu_relax();
    }
}

void lock_unexclude(struct shared_lock *lock)
{
    rank_leave(lock->rank);
    atomic_fetch_and_explicit(&lock->state, ~STATE_EXCLUDED, memory_order_release);
}
