/* SPDX-License-Identifier: MIT */
/*
 * The calls that GCC puts into sources compiled with -fsanitize=thread, answered here and not by
 * the sanitizer's library. A call for a plain access comes before the access; an atomic access is
 * made by its call. Memory orders do not matter: one thread runs.
 */
#include "tests/mm/history_seam.h"

#define SEAM(type, name, ...)        \
    type __tsan_##name(__VA_ARGS__); \
    type __tsan_##name(__VA_ARGS__)

SEAM(void, init, void) {}

SEAM(void, func_entry, void *caller)
{
    (void)caller;
    seam_nothing_follows();
}

SEAM(void, func_exit, void *caller)
{
    (void)caller;
    seam_nothing_follows();
}

#define PLAIN(name)                                  \
    SEAM(void, read##name, void *address)            \
    {                                                \
        (void)address;                               \
        seam_nothing_follows();                      \
    }                                                \
    SEAM(void, write##name, void *address)           \
    {                                                \
        seam_store_follows(address);                 \
    }                                                \
    SEAM(void, unaligned_read##name, void *address)  \
    {                                                \
        (void)address;                               \
        seam_nothing_follows();                      \
    }                                                \
    SEAM(void, unaligned_write##name, void *address) \
    {                                                \
        seam_store_follows(address);                 \
    }

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

SEAM(void, read_range, void *address, long bytes)
{
    (void)address;
    (void)bytes;
    seam_nothing_follows();
}

SEAM(void, write_range, void *address, long bytes)
{
    (void)bytes;
    seam_store_follows(address);
}

#define ATOMIC_FETCH(bits, name)                                                                 \
    SEAM(u##bits, atomic##bits##_fetch_##name, volatile void *address, u##bits value, int order) \
    {                                                                                            \
        (void)order;                                                                             \
        seam_atomic_follows((const void *)address);                                              \
        u##bits *word = (u##bits *)address;                                                      \
        u##bits before = __atomic_fetch_##name(word, value, __ATOMIC_SEQ_CST);                   \
        seam_atomic_done(word, before, *word);                                                   \
        return before;                                                                           \
    }

#define ATOMIC_COMPARE(bits, name)                                                             \
    SEAM(bool, atomic##bits##_compare_exchange_##name, volatile void *address, void *expected, \
         u##bits value, int order, int order_failed)                                           \
    {                                                                                          \
        (void)order;                                                                           \
        (void)order_failed;                                                                    \
        seam_atomic_follows((const void *)address);                                            \
        u##bits *word = (u##bits *)address;                                                    \
        u##bits before = *word;                                                                \
        bool done = __atomic_compare_exchange_n(word, (u##bits *)expected, value, 0,           \
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);           \
        if (done)                                                                              \
            seam_atomic_done(word, before, value);                                             \
        return done;                                                                           \
    }

#define ATOMIC(bits)                                                                         \
    SEAM(u##bits, atomic##bits##_load, const volatile void *address, int order)              \
    {                                                                                        \
        (void)order;                                                                         \
        seam_nothing_follows();                                                              \
        return __atomic_load_n((const u##bits *)address, __ATOMIC_SEQ_CST);                  \
    }                                                                                        \
    SEAM(u##bits, atomic##bits##_exchange, volatile void *address, u##bits value, int order) \
    {                                                                                        \
        (void)order;                                                                         \
        seam_atomic_follows((const void *)address);                                          \
        u##bits *word = (u##bits *)address;                                                  \
        u##bits before = __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);                 \
        seam_atomic_done(word, before, value);                                               \
        return before;                                                                       \
    }                                                                                        \
    SEAM(void, atomic##bits##_store, volatile void *address, u##bits value, int order)       \
    {                                                                                        \
        (void)__tsan_atomic##bits##_exchange(address, value, order);                         \
    }                                                                                        \
    ATOMIC_FETCH(bits, add)                                                                  \
    ATOMIC_FETCH(bits, sub)                                                                  \
    ATOMIC_FETCH(bits, and)                                                                  \
    ATOMIC_FETCH(bits, or)                                                                   \
    ATOMIC_FETCH(bits, xor)                                                                  \
    ATOMIC_FETCH(bits, nand)                                                                 \
    ATOMIC_COMPARE(bits, strong)                                                             \
    ATOMIC_COMPARE(bits, weak)

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

SEAM(void, atomic_thread_fence, int order)
{
    (void)order;
    seam_nothing_follows();
}

SEAM(void, atomic_signal_fence, int order)
{
    (void)order;
    seam_nothing_follows();
}
