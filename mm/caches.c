/* SPDX-License-Identifier: MIT */
#include "mm/caches.h"

#include "boot/assert.h"

static void page_cache_init(struct page_cache *cache, enum page_owner owner)
{
    cache->count = 0;
    cache->owner = owner;
}

void vcpu_caches_init(struct vcpu_caches *caches)
{
    page_cache_init(&caches->mirror_tables, PAGE_MIRROR_TABLE);
    page_cache_init(&caches->external_tables, PAGE_EXTERNAL);
    page_cache_init(&caches->private_pages, PAGE_PRIVATE);
    page_cache_init(&caches->direct_tables, PAGE_DIRECT_TABLE);
}

/* Tables start with every entry absent; what the module is given, the module initialises. */
static enum error page_for(enum page_owner owner, hpa_t *page)
{
    if (owner == PAGE_MIRROR_TABLE || owner == PAGE_DIRECT_TABLE)
        return page_allocate_zeroed(owner, page);
    return page_allocate(owner, page);
}

enum error page_cache_fill(struct page_cache *cache)
{
    if (cache->count >= PAGE_CACHE_MINIMUM)
        return OK;
    while (cache->count < PAGE_CACHE_CAPACITY) {
        hpa_t page;
        if (page_for(cache->owner, &page))
            break;
        cache->pages[cache->count++] = page;
    }
    return cache->count >= PAGE_CACHE_MINIMUM ? OK : ERR_NO_MEMORY;
}

enum error vcpu_caches_fill(struct vcpu_caches *caches)
{
    enum error error = page_cache_fill(&caches->mirror_tables);
    if (!error)
        error = page_cache_fill(&caches->external_tables);
    if (!error)
        error = page_cache_fill(&caches->private_pages);
    if (!error)
        error = page_cache_fill(&caches->direct_tables);
    return error;
}

static void page_cache_drain(struct page_cache *cache)
{
    while (cache->count)
        page_free(cache->pages[--cache->count]);
}

void vcpu_caches_drain(struct vcpu_caches *caches)
{
    page_cache_drain(&caches->mirror_tables);
    page_cache_drain(&caches->external_tables);
    page_cache_drain(&caches->private_pages);
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
    if (cache->count < PAGE_CACHE_CAPACITY)
        cache->pages[cache->count++] = page;
    else
        page_free(page);
}
