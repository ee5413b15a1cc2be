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
    caches->shared_pages = tables;
    caches->shared_pages.owner = PAGE_SHARED;
    caches->shared_pages.minimum = 1;
    caches->private_large = (struct page_cache){
        .minimum = 1,
        .capacity = LARGE_CACHE_CAPACITY,
        .owner = PAGE_PRIVATE,
        .level = LEVEL_2M,
    };
    caches->shared_large = caches->private_large;
    caches->shared_large.owner = PAGE_SHARED;
}

/*
 * Tables start with every entry absent, a guest's memory with what is no one else's; what the
 * module is given, the module initialises.
 */
static bool starts_zeroed(const struct page_cache *cache)
{
    return cache->owner == PAGE_MIRROR_TABLE || cache->owner == PAGE_DIRECT_TABLE ||
           cache->owner == PAGE_SHARED;
}

/* The lowest is taken first: what a guest touches in order is memory in a row, removed as such. */
static void reverse(hpa_t *pages, u32 count)
{
    for (u32 i = 0; i < count / 2; i++) {
        hpa_t page = pages[i];
        pages[i] = pages[count - 1 - i];
        pages[count - 1 - i] = page;
    }
}

static void small_fill(struct page_cache *cache)
{
    hpa_t *pages = &cache->pages[cache->count];
    u32 added = pages_allocate_some(cache->owner, pages, cache->capacity - cache->count);
    for (u32 i = 0; i < added && starts_zeroed(cache); i++)
        page_zero(pages[i], LEVEL_4K);
    reverse(pages, added);
    cache->count += added;
}

static void large_fill(struct page_cache *cache)
{
    while (cache->count < cache->capacity &&
           page_allocate_level(cache->owner, cache->level, &cache->pages[cache->count]) == OK) {
        if (starts_zeroed(cache))
            page_zero(cache->pages[cache->count], cache->level);
        cache->count++;
    }
}

enum error page_cache_fill_now(struct page_cache *cache)
{
    cache->refills++;
    if (cache->level == LEVEL_4K)
        small_fill(cache);
    else
        large_fill(cache);
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
    page_cache_drain(&caches->shared_pages);
    page_cache_drain(&caches->shared_large);
}

struct caches_stats vcpu_caches_statistics(const struct vcpu_caches *caches)
{
    const struct page_cache *all[] = {
        &caches->mirror_tables, &caches->external_tables, &caches->private_pages,
        &caches->private_large, &caches->metadata_pages,  &caches->direct_tables,
        &caches->shared_pages,  &caches->shared_large,
    };
    struct caches_stats stats = {0};
    for (u32 i = 0; i < ARRAY_LENGTH(all); i++) {
        stats.pages += all[i]->count * level_pages(all[i]->level);
        stats.refills += all[i]->refills;
    }
    return stats;
}

void page_cache_return(struct page_cache *cache, hpa_t page)
{
    ASSERT(page_owner(page) == cache->owner);
    if (cache->count < cache->capacity)
        cache->pages[cache->count++] = page;
    else
        page_free_level(page, cache->level);
}
