/* SPDX-License-Identifier: MIT */
#include "boot/lock.h"

#include "boot/assert.h"
#include "boot/cpu.h"

void lock_rank_panic(enum lock_rank rank, const char *const *name)
{
    panic("lock order: %s (rank %u) taken with ranks %x held", *name, rank, cpu_this()->locks_held);
}

bool lock_try(struct lock *lock)
{
    if (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
        return false;
    lock_rank_enter(lock->rank, &lock->name);
    return true;
}

void lock_take(struct lock *lock)
{
    lock_rank_enter(lock->rank, &lock->name);
    while (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
        while (atomic_load_explicit(&lock->taken, memory_order_relaxed))
            cpu_relax();
}

void lock_release(struct lock *lock)
{
    lock_rank_leave(lock->rank);
    atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

/* The rest of lock_share. */
void lock_share_wait(struct shared_lock *lock)
{
    for (;;) {
        u32 state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if (!(state & (SHARED_LOCK_EXCLUDED | SHARED_LOCK_EXCLUDER_WAITS)) &&
            atomic_compare_exchange_weak_explicit(&lock->state, &state, state + 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return;
        cpu_relax();
    }
}

void lock_exclude(struct shared_lock *lock)
{
    lock_rank_enter(lock->rank, &lock->name);
    for (;;) {
        u32 state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if ((state & ~SHARED_LOCK_EXCLUDER_WAITS) == 0) {
            if (atomic_compare_exchange_weak_explicit(&lock->state, &state, SHARED_LOCK_EXCLUDED,
                                                      memory_order_acquire, memory_order_relaxed))
                return;
        } else if (!(state & SHARED_LOCK_EXCLUDER_WAITS)) {
            atomic_fetch_or_explicit(&lock->state, SHARED_LOCK_EXCLUDER_WAITS,
                                     memory_order_relaxed);
        }
        cpu_relax();
    }
}

void lock_unexclude(struct shared_lock *lock)
{
    lock_rank_leave(lock->rank);
    atomic_fetch_and_explicit(&lock->state, ~SHARED_LOCK_EXCLUDED, memory_order_release);
}
