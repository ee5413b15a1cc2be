/* SPDX-License-Identifier: MIT */
/*
 * The page allocator: every 4 KiB page of free memory has one owner kind, and the sum over the
 * kinds is the total. Takes RANK_PAGES; the calls are for any processor.
 */
#ifndef MM_PAGES_H
#define MM_PAGES_H

#include "boot/error.h"
#include "boot/types.h"

enum page_owner {
    PAGE_FREE,
    PAGE_VMM,          /* the VMM's own bookkeeping */
    PAGE_PAMT,         /* given to the module for good */
    PAGE_TD_CONTROL,   /* TDR, TDCS, TDVPR, TDVPS */
    PAGE_EXTERNAL,     /* a table page of an external (secure) EPT, or cached to become one */
    PAGE_PRIVATE,      /* private memory of a TD, or cached to become it */
    PAGE_MIRROR_TABLE, /* a table page of a mirror EPT */
    PAGE_DIRECT_TABLE, /* a table page of a direct EPT */
    PAGE_SHARED,       /* memory that guest and VMM both see */
    PAGE_LEAKED,       /* the module would not give it back: never used again */
    PAGE_OWNER_KINDS,
};

struct pages_stats {
    u64 total_pages;
    u64 pages[PAGE_OWNER_KINDS];
};

/* Gives the allocator [start, end), page aligned; called for each free range at boot. */
void pages_add_range(hpa_t start, hpa_t end);

/* One page; its contents are undefined. ERR_NO_MEMORY. */
enum error page_allocate(enum page_owner owner, hpa_t *page);
/* One page of zeros. */
enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page);
/* `count` contiguous pages, the first aligned to `align_pages` (a power of two). */
enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first);
void page_free(hpa_t page);
void pages_free(hpa_t first, u64 count);
enum page_owner page_owner(hpa_t page);
/* Changes the owner of a page that is not free. */
void page_set_owner(hpa_t page, enum page_owner owner);

void pages_statistics(struct pages_stats *stats);
const char *page_owner_name(enum page_owner owner);

#endif
