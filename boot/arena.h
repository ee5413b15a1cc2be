/* SPDX-License-Identifier: MIT */
/*
 * The ground floor's own pages: one block taken from the firmware, handed out from the front,
 * never returned. Page tables, stacks, VMXON regions.
 */
#ifndef BOOT_ARENA_H
#define BOOT_ARENA_H

#include "boot/types.h"

/* `start` is page aligned. */
void arena_init(void *start, u64 count_pages);
/* Zeroed, contiguous; panics when the block was sized wrongly. */
void *arena_pages(u64 count);
u64 arena_left_pages(void);

#endif
