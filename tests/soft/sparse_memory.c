/* SPDX-License-Identifier: MIT */
#include "tests/soft/sparse_memory.h"

#include <stdlib.h>
#include <string.h>

#include "boot/assert.h"
#include "tdx/soft/objects.h"

#define PAGE_BUCKETS 65536

struct page {
    struct page *next;  /* of its bucket */
    struct page *other; /* of the memory, or free */
    u64 frame;
    u8 bytes[PAGE_BYTES];
};

struct memory {
    struct page *buckets[PAGE_BUCKETS];
    struct page *pages;
};

static struct memory now;
static struct memory *base; /* what pages that were not touched since hold */
static struct page *free_pages;

static struct page *page_find(const struct memory *memory, u64 frame)
{
    struct page *page = memory ? memory->buckets[frame % PAGE_BUCKETS] : NULL;
    while (page && page->frame != frame)
        page = page->next;
    return page;
}

static struct page *page_make(u64 frame)
{
    const struct page *before = page_find(base, frame);
    struct page *page = free_pages;
    if (page)
        free_pages = page->other;
    else if (!(page = malloc(sizeof *page)))
        panic("no memory for page %#llx", (unsigned long long)frame << PAGE_SHIFT);
    if (before)
        memcpy(page->bytes, before->bytes, PAGE_BYTES);
    else
        memset(page->bytes, 0, PAGE_BYTES);
    page->frame = frame;
    page->next = now.buckets[frame % PAGE_BUCKETS];
    now.buckets[frame % PAGE_BUCKETS] = page;
    page->other = now.pages;
    now.pages = page;
    return page;
}

void *seam_page(u64 address)
{
    u64 frame = platform_address(address) >> PAGE_SHIFT;
    struct page *page = page_find(&now, frame);
    return page ? page->bytes : page_make(frame)->bytes;
}

const void *memory_peek(u64 address)
{
    static const u8 zeros[PAGE_BYTES] __attribute__((aligned(16)));
    u64 frame = platform_address(address) >> PAGE_SHIFT;
    const struct page *page = page_find(&now, frame);
    if (!page)
        page = page_find(base, frame);
    return page ? page->bytes : zeros;
}

bool memory_is_touched(u64 address)
{
    return page_find(&now, platform_address(address) >> PAGE_SHIFT);
}

struct memory *memory_save(void)
{
    struct memory *saved = malloc(sizeof *saved);
    if (!saved || base)
        panic("memory is kept once, before it is gone back to");
    *saved = now;
    memset(&now, 0, sizeof now);
    return base = saved;
}

void memory_load(struct memory *saved)
{
    while (now.pages) {
        struct page *page = now.pages;
        now.pages = page->other;
        now.buckets[page->frame % PAGE_BUCKETS] = NULL;
        page->other = free_pages;
        free_pages = page;
    }
    base = saved;
}
