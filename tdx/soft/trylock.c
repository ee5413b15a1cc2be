/* SPDX-License-Identifier: MIT */
#include "tdx/soft/td.h"

#define TRYLOCK_EXCLUSIVE 0x8000

bool trylock_share(trylock_t *lock)
{
    u16 seen = atomic_load_explicit(lock, memory_order_relaxed);
    while (seen < TRYLOCK_EXCLUSIVE - 1)
        if (atomic_compare_exchange_weak(lock, &seen, (u16)(seen + 1)))
            return true;
    return false;
}

void trylock_unshare(trylock_t *lock)
{
    atomic_fetch_sub(lock, 1);
}

bool trylock_exclude(trylock_t *lock)
{
    u16 free = 0;
    return atomic_compare_exchange_strong(lock, &free, TRYLOCK_EXCLUSIVE);
}

void trylock_unexclude(trylock_t *lock)
{
    atomic_store(lock, 0);
}
