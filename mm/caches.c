/* SPDX-License-Identifier: MIT */
#include "mm/caches.h"

#include "boot/assert.h"

void vcpu_caches_init(struct vcpu_caches *caches, u32 metadata_pages)
{
    const struct page_cache tables = {
        .minimum = PAGE_CACHE_MINIMUM,
        .capacity = PAGE_CACHE_CAPACITY,
        .level = LEVEL_4K,
    };
    caches->mirror_tables = tables;
    caches->mirror_tables.owner = PAGE_MIRROR_TABLE;
    caches->external_tables = tables;
    caches->external_tables.owner = PAGE_EXTERNAL;
    caches->private_pages = tables;
    caches->private_pages.owner = PAGE_PRIVATE;
    caches->direct_tables = tables;
    caches->direct_tables.owner = PAGE_DIRECT_TABLE;
    caches->metadata_pages = tables;
    caches->metadata_pages.owner = PAGE_PAMT;
    caches->metadata_pages.minimum = metadata_pages;
    caches->private_large = (struct page_cache){
        .minimum = 1,
        .capacity = LARGE_CACHE_CAPACITY,
        .owner = PAGE_PRIVATE,
        .level = LEVEL_2M,
    };
}

/* Tables start with every entry absent; what the module is given, the module initialises. */
static enum error page_for(const struct page_cache *cache, hpa_t *page)
{
    if (cache->owner == PAGE_MIRROR_TABLE || cache->owner == PAGE_DIRECT_TABLE)
        return page_allocate_zeroed(cache->owner, page);
    return page_allocate_level(cache->owner, cache->level, page);
}

enum error page_cache_fill(struct page_cache *cache)
{
    if (cache->count >= cache->minimum)
        return OK;
    while (cache->count < cache->capacity) {
        hpa_t page;
        if (page_for(cache, &page))
            break;
        cache->pages[cache->count++] = page;
    }
    return cache->count >= cache->minimum ? OK : ERR_NO_MEMORY;
}

enum error vcpu_caches_fill(struct vcpu_caches *caches)
{
    enum error error = page_cache_fill(&caches->mirror_tables);
    if (!error)
        error = page_cache_fill(&caches->external_tables);
    if (!error)
        error = page_cache_fill(&caches->private_pages);
    if (!error)
        error = page_cache_fill(&caches->metadata_pages);
    if (!error)
        error = page_cache_fill(&caches->direct_tables);
    return error;
}

static void page_cache_drain(struct page_cache *cache)
{
    while (cache->count)
        page_free_level(cache->pages[--cache->count], cache->level);
}

void vcpu_caches_drain(struct vcpu_caches *caches)
{
    page_cache_drain(&caches->mirror_tables);
    page_cache_drain(&caches->external_tables);
    page_cache_drain(&caches->private_pages);
    page_cache_drain(&caches->private_large);
    page_cache_drain(&caches->metadata_pages);
    page_cache_drain(&caches->direct_tables);
}

hpa_t page_cache_take(struct page_cache *cache)
{
    ASSERT(cache->count > 0);
    return cache->pages[--cache->count];
}

void page_cache_return(struct page_cache *cache, hpa_t page)
{
    ASSERT(page_owner(page) == cache->owner);
    if (cache->count < cache->capacity)
        cache->pages[cache->count++] = page;
    else
        page_free_level(page, cache->level);
}
