/* SPDX-License-Identifier: MIT */
/*
 * Four answers to "this is wrong": _Static_assert (the programmer), ASSERT (our own invariant;
 * panics in every build), ending the one VM (its guest misbehaved), an error (the world).
 */
#ifndef BOOT_ASSERT_H
#define BOOT_ASSERT_H

/* Stops every processor after one report: processor, reason, registers, backtrace. */
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);

#define ASSERT(condition) \
    ((condition) ? (void)0 : panic("%s:%d: ASSERT(%s)", __FILE__, __LINE__, #condition))

#endif
