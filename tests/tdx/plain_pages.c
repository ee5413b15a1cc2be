/* SPDX-License-Identifier: MIT */
/* mm/pages.h in its simplest form: one byte a page. */
#include <string.h>

#include "boot/assert.h"
#include "boot/phys.h"
#include "mm/pages.h"
#include "tests/tdx/environment.h"

#define PAGES_MAX (6 * GIB / PAGE_BYTES)
#define NOT_OURS 0xff

static u8 owners[PAGES_MAX];
static u64 total_pages;

void pages_reset_for_test(void)
{
    memset(owners, NOT_OURS, sizeof owners);
    total_pages = 0;
}

void pages_add_range(hpa_t start, hpa_t end)
{
    for (u64 at = start.raw; at < end.raw; at += PAGE_BYTES) {
        owners[at / PAGE_BYTES] = PAGE_FREE;
        total_pages++;
    }
}

enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first)
{
    for (u64 at = 0, run = 0; at < PAGES_MAX; at++) {
        if (owners[at] != PAGE_FREE || (run == 0 && at % align_pages != 0)) {
            run = 0;
            continue;
        }
        if (++run < count)
            continue;
        memset(&owners[at + 1 - count], owner, count);
        *first = hpa((at + 1 - count) * PAGE_BYTES);
        return OK;
    }
    return ERR_NO_MEMORY;
}

enum error page_allocate(enum page_owner owner, hpa_t *page)
{
    return pages_allocate(owner, 1, 1, page);
}

enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page)
{
    enum error error = page_allocate(owner, page);
    if (!error)
        memset(phys_to_virt(*page), 0, PAGE_BYTES);
    return error;
}

void pages_free(hpa_t first, u64 count)
{
    for (u64 at = first.raw / PAGE_BYTES; count > 0; at++, count--) {
        ASSERT(owners[at] != PAGE_FREE && owners[at] != NOT_OURS && owners[at] != PAGE_LEAKED);
        owners[at] = PAGE_FREE;
    }
}

void page_free(hpa_t page)
{
    pages_free(page, 1);
}

enum page_owner page_owner(hpa_t page)
{
    ASSERT(owners[page.raw / PAGE_BYTES] != NOT_OURS);
    return owners[page.raw / PAGE_BYTES];
}

void page_set_owner(hpa_t page, enum page_owner owner)
{
    owners[page.raw / PAGE_BYTES] = (u8)owner;
}

void pages_statistics(struct pages_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->total_pages = total_pages;
    for (u64 at = 0; at < PAGES_MAX; at++)
        if (owners[at] != NOT_OURS)
            stats->pages[owners[at]]++;
}
