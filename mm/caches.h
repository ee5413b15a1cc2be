/* SPDX-License-Identifier: MIT */
/*
 * Per-vCPU caches: what one operation of the mirror can need at most, set aside before any lock
 * is taken. A cache belongs to one vCPU (or to the builder of a VM) and is touched by one
 * processor at a time: no lock.
 */
#ifndef MM_CACHES_H
#define MM_CACHES_H

#include "boot/assert.h"
#include "mm/pages.h"

#define PAGE_CACHE_CAPACITY 40
/* A fill guarantees this many tables: one per level below the root, and one to spare. */
#define PAGE_CACHE_MINIMUM 5
/* Large pages are big to keep idle. */
#define LARGE_CACHE_CAPACITY 2
/*
 * Where the module keeps its metadata in pages of ours (Dynamic PAMT), a pair for each: three
 * tables and a leaf of one map; two tables and a split region at each end of a removal.
 */
#define METADATA_PAGES_MINIMUM 12

struct page_cache {
    hpa_t pages[PAGE_CACHE_CAPACITY];
    u32 count;
    u32 minimum, capacity; /* a fill that is needed guarantees the first, goes up to the second */
    u32 refills;           /* fills that were needed, ever */
    enum page_owner owner;
    enum level level;
};

struct vcpu_caches {
    struct page_cache mirror_tables; /* zeroed */
    struct page_cache external_tables;
    struct page_cache private_pages;
    struct page_cache private_large;  /* of 2 MiB; vcpu_caches_fill leaves it alone */
    struct page_cache metadata_pages; /* for the module's metadata, where it is dynamic */
    struct page_cache direct_tables;  /* zeroed */
    /* Zeroed memory of a VM, the second of 2 MiB; vcpu_caches_fill leaves them alone. */
    struct page_cache shared_pages, shared_large;
};

/* `metadata_pages` is the minimum of that cache: 0, or METADATA_PAGES_MINIMUM. */
void vcpu_caches_init(struct vcpu_caches *caches, u32 metadata_pages);
/*
 * Tops up each cache of small pages that is under its minimum. ERR_NO_MEMORY: what was there
 * stays.
 */
enum error vcpu_caches_fill(struct vcpu_caches *caches);
/* Pages in all of them, as many of 4 KiB; and their refills. */
struct caches_stats {
    u64 pages, refills;
};
struct caches_stats vcpu_caches_statistics(const struct vcpu_caches *caches);
/* Gives every page back to the allocator. */
void vcpu_caches_drain(struct vcpu_caches *caches);

/*
 * Tops up one cache that is under its minimum, as far as its capacity; ERR_NO_MEMORY if it is
 * still under its minimum then.
 */
enum error page_cache_fill_now(struct page_cache *cache); /* its work, where there is some */
static inline enum error page_cache_fill(struct page_cache *cache)
{
    return cache->count >= cache->minimum ? OK : page_cache_fill_now(cache);
}
/* Takes one; the cache must not be empty (ASSERT): filling it before was the caller's duty. */
static inline hpa_t page_cache_take(struct page_cache *cache)
{
    ASSERT(cache->count > 0);
    return cache->pages[--cache->count];
}
/*
 * Returns a page that was not used (a table page still zeroed); to the allocator when the cache is
 * full.
 */
void page_cache_return(struct page_cache *cache, hpa_t page);

#endif
