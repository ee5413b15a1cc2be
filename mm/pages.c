/* SPDX-License-Identifier: MIT */
#include "mm/pages.h"

#include "boot/assert.h"
#include "boot/lock.h"
#include "boot/phys.h"
#include "boot/string.h"

#define REGIONS_MAX 256

/*
 * One range of memory. Its first pages hold an owner byte for each page of the range, the
 * metadata's own pages included; that array is all there is. Allocation goes round the range
 * (next fit), so that a page is found at once unless memory is nearly full.
 */
struct region {
    u64 first_frame;
    u64 page_count;
    u64 free_count;
    u64 cursor; /* where the next search starts */
    u8 *owners; /* enum page_owner */
};

static struct region regions[REGIONS_MAX];
static u32 region_count;
static u64 totals[PAGE_OWNER_KINDS];
static struct lock pages_lock = LOCK_INIT(RANK_PAGES, "pages");

void pages_add_range(hpa_t start, hpa_t end)
{
    u64 count = (end.raw - start.raw) / PAGE_BYTES;
    u64 metadata_pages = align_up(count, PAGE_BYTES) / PAGE_BYTES;
    if (region_count == REGIONS_MAX || count <= metadata_pages)
        return; /* too small to be worth a region; stays unused */

    struct region *region = &regions[region_count++];
    *region = (struct region){.first_frame = hpa_to_hfn(start).raw,
                              .page_count = count,
                              .free_count = count - metadata_pages,
                              .cursor = metadata_pages,
                              .owners = phys_to_virt(start)};
    memset(region->owners, PAGE_FREE, count);
    memset(region->owners, PAGE_VMM, metadata_pages);
    totals[PAGE_VMM] += metadata_pages;
    totals[PAGE_FREE] += count - metadata_pages;
}

static struct region *region_of(hpa_t page)
{
    u64 frame = hpa_to_hfn(page).raw;
    for (u32 i = 0; i < region_count; i++)
        if (frame - regions[i].first_frame < regions[i].page_count)
            return &regions[i];
    panic("page 0x%llx is not the allocator's", (unsigned long long)page.raw);
}

static u8 *owner_byte(hpa_t page)
{
    struct region *region = region_of(page);
    return &region->owners[hpa_to_hfn(page).raw - region->first_frame];
}

static hpa_t region_page(const struct region *region, u64 index)
{
    return hfn_to_hpa((hfn_t){region->first_frame + index});
}

/* Takes the run [index, index + count) of free pages. */
static hpa_t run_take(struct region *region, u64 index, u64 count, enum page_owner owner)
{
    memset(region->owners + index, (int)owner, count);
    region->free_count -= count;
    region->cursor = index + count;
    totals[PAGE_FREE] -= count;
    totals[owner] += count;
    return region_page(region, index);
}

static bool run_is_free(const struct region *region, u64 index, u64 count)
{
    for (u64 i = 0; i < count; i++)
        if (region->owners[index + i] != PAGE_FREE)
            return false;
    return true;
}

/* The first free run at or after `from`, or page_count. */
static u64 run_find(const struct region *region, u64 from, u64 count, u64 align_pages)
{
    u64 index = align_up(region->first_frame + from, align_pages) - region->first_frame;
    for (; index + count <= region->page_count; index += align_pages)
        if (run_is_free(region, index, count))
            return index;
    return region->page_count;
}

enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first)
{
    enum error error = ERR_NO_MEMORY;
    ASSERT(owner != PAGE_FREE && count > 0);
    lock_take(&pages_lock);
    for (u32 i = 0; i < region_count && error; i++) {
        struct region *region = &regions[i];
        if (region->free_count < count)
            continue;
        u64 index = run_find(region, region->cursor, count, align_pages);
        if (index == region->page_count)
            index = run_find(region, 0, count, align_pages);
        if (index == region->page_count)
            continue;
        *first = run_take(region, index, count, owner);
        error = OK;
    }
    lock_release(&pages_lock);
    return error;
}

enum error page_allocate(enum page_owner owner, hpa_t *page)
{
    return pages_allocate(owner, 1, 1, page);
}

enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page)
{
    enum error error = pages_allocate(owner, 1, 1, page);
    if (!error)
        memset(phys_to_virt(*page), 0, PAGE_BYTES);
    return error;
}

void pages_free(hpa_t first, u64 count)
{
    lock_take(&pages_lock);
    struct region *region = region_of(first);
    for (u64 i = 0; i < count; i++) {
        u8 *owner = owner_byte(hpa(first.raw + i * PAGE_BYTES));
        ASSERT(*owner != PAGE_FREE && *owner != PAGE_LEAKED);
        totals[*owner]--;
        *owner = PAGE_FREE;
    }
    region->free_count += count;
    totals[PAGE_FREE] += count;
    lock_release(&pages_lock);
}

void page_free(hpa_t page)
{
    pages_free(page, 1);
}

enum page_owner page_owner(hpa_t page)
{
    lock_take(&pages_lock);
    enum page_owner owner = *owner_byte(page);
    lock_release(&pages_lock);
    return owner;
}

void page_set_owner(hpa_t page, enum page_owner owner)
{
    lock_take(&pages_lock);
    u8 *byte = owner_byte(page);
    ASSERT(*byte != PAGE_FREE && owner != PAGE_FREE);
    totals[*byte]--;
    totals[owner]++;
    *byte = (u8)owner;
    lock_release(&pages_lock);
}

void pages_statistics(struct pages_stats *stats)
{
    lock_take(&pages_lock);
    stats->total_pages = 0;
    for (u32 i = 0; i < PAGE_OWNER_KINDS; i++) {
        stats->pages[i] = totals[i];
        stats->total_pages += totals[i];
    }
    lock_release(&pages_lock);
}

const char *page_owner_name(enum page_owner owner)
{
    static const char *const names[PAGE_OWNER_KINDS] = {
        [PAGE_FREE] = "free",
        [PAGE_VMM] = "VMM",
        [PAGE_PAMT] = "PAMT",
        [PAGE_TD_CONTROL] = "TD control",
        [PAGE_EXTERNAL] = "external table",
        [PAGE_PRIVATE] = "private",
        [PAGE_MIRROR_TABLE] = "mirror table",
        [PAGE_DIRECT_TABLE] = "direct table",
        [PAGE_SHARED] = "shared",
        [PAGE_LEAKED] = "leaked",
    };
    return owner < PAGE_OWNER_KINDS ? names[owner] : "?";
}
