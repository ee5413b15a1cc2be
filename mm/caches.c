/* SPDX-License-Identifier: MIT */
#include "mm/caches.h"

#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/string.h"

static void block_zero(hpa_t first, u32 block_pages)
{
    for (u32 i = 0; i < block_pages; i++)
        memset(phys_to_virt(hpa(first.raw + i * PAGE_BYTES)), 0, PAGE_BYTES);
}

/* Fills to the brim only when short: a fill every few faults, not at each. */
static enum error cache_fill(struct page_cache *cache)
{
    if (cache->count >= PAGE_CACHE_MINIMUM)
        return OK;
    while (cache->count < PAGE_CACHE_CAPACITY) {
        hpa_t first;
        enum error error = pages_allocate(cache->owner, cache->block_pages, 1, &first);
        if (error)
            return cache->count >= PAGE_CACHE_MINIMUM ? OK : error;
        if (cache->content == CONTENT_ZEROED)
            block_zero(first, cache->block_pages);
        cache->pages[cache->count++] = first;
    }
    return OK;
}

static void cache_drain(struct page_cache *cache)
{
    while (cache->count)
        pages_free(cache->pages[--cache->count], cache->block_pages);
}

void vcpu_caches_init(struct vcpu_caches *caches)
{
    *caches = (struct vcpu_caches){
        .mirror_tables = {.owner = PAGE_MIRROR_TABLE, .block_pages = 1},
        .mirror_directories = {.owner = PAGE_MIRROR_TABLE, .block_pages = 2},
        .external_tables = {.owner = PAGE_EXTERNAL, .block_pages = 1, .content = CONTENT_ANY},
        .private_pages = {.owner = PAGE_PRIVATE, .block_pages = 1, .content = CONTENT_ANY},
        .direct_tables = {.owner = PAGE_DIRECT_TABLE, .block_pages = 1},
    };
}

enum error vcpu_caches_fill(struct vcpu_caches *caches)
{
    struct page_cache *const all[] = {&caches->mirror_tables, &caches->mirror_directories,
                                      &caches->external_tables, &caches->private_pages,
                                      &caches->direct_tables};
    for (u32 i = 0; i < ARRAY_LENGTH(all); i++) {
        enum error error = cache_fill(all[i]);
        if (error)
            return error;
    }
    return OK;
}

void vcpu_caches_drain(struct vcpu_caches *caches)
{
    cache_drain(&caches->mirror_tables);
    cache_drain(&caches->mirror_directories);
    cache_drain(&caches->external_tables);
    cache_drain(&caches->private_pages);
    cache_drain(&caches->direct_tables);
}

hpa_t page_cache_take(struct page_cache *cache)
{
    ASSERT(cache->count > 0);
    return cache->pages[--cache->count];
}

void page_cache_return(struct page_cache *cache, hpa_t block)
{
    if (cache->count == PAGE_CACHE_CAPACITY)
        pages_free(block, cache->block_pages);
    else
        cache->pages[cache->count++] = block;
}
