/* SPDX-License-Identifier: MIT */
/*
 * Physical memory behind the module (seam_page): pages come into being, zeroed, when they are
 * touched. What there is can be kept, and gone back to at the cost of the pages touched since.
 */
#ifndef TESTS_SOFT_SPARSE_MEMORY_H
#define TESTS_SOFT_SPARSE_MEMORY_H

#include "boot/types.h"

struct memory;

/* Everything as it is now, never to be freed. Not after memory_load of anything but null. */
struct memory *memory_save(void);
/* Back to what was kept; null: to no memory at all. Pointers to pages are void after that. */
void memory_load(struct memory *saved);

/* A page as it is, without touching it: zeros if it never was. */
const void *memory_peek(u64 address);
/* Since the last memory_load. */
bool memory_is_touched(u64 address);

#endif
