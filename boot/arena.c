/* SPDX-License-Identifier: MIT */
#include "boot/arena.h"

#include "boot/assert.h"
#include "boot/string.h"

static u8 *next;
static u64 left_pages;

void arena_init(void *start, u64 count_pages)
{
    next = start;
    left_pages = count_pages;
}

void *arena_pages(u64 count)
{
    if (count > left_pages)
        panic("boot arena: %llu pages wanted, %llu left", (unsigned long long)count,
              (unsigned long long)left_pages);
    void *pages = next;
    next += count * PAGE_BYTES;
    left_pages -= count;
    memset(pages, 0, count * PAGE_BYTES);
    return pages;
}

u64 arena_left_pages(void)
{
    return left_pages;
}
