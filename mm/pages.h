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
/* Up to `count` pages, with the lock taken once; the number that there were. */
u32 pages_allocate_some(enum page_owner owner, hpa_t *pages, u32 count);
/* Zeros a page that the VMM can see. */
void page_zero(hpa_t page, enum level level);
/* One page of zeros. */
enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page);
/* `count` contiguous pages, the first aligned to `align_pages` (a power of two). */
enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first);
/* One page of LEVEL_4K or LEVEL_2M, naturally aligned; its contents are undefined. */
enum error page_allocate_level(enum page_owner owner, enum level level, hpa_t *page);
/* Freeing a page that is free or leaked is a bug of ours and panics. */
void page_free(hpa_t page);
void pages_free(hpa_t first, u64 count);
/* Pages of anywhere, with the lock taken once. */
void pages_free_some(const hpa_t *pages, u32 count);
/* Every 4 KiB page of it, whether it was allocated as one page or not. */
void page_free_level(hpa_t page, enum level level);
enum page_owner page_owner(hpa_t page);
/* True if every 4 KiB page of it has that owner. */
bool page_is_owned(hpa_t page, enum level level, enum page_owner owner);
/* Changes the owner of a page that is not free. */
void page_set_owner(hpa_t page, enum page_owner owner);
void page_set_owner_level(hpa_t page, enum level level, enum page_owner owner);

/*
 * One address that goes with a page that is not free, for the page's owner to use (the mirror
 * keeps a table's external table page here). HPA_NONE from its allocation as a page of 4 KiB on. No
 * lock: who owns the page orders the accesses.
 */
void page_set_partner(hpa_t page, hpa_t partner);
hpa_t page_partner(hpa_t page);

void pages_statistics(struct pages_stats *stats);
const char *page_owner_name(enum page_owner owner);

/* For tests alone: forgets every range. */
void pages_reset_for_test(void);

#endif
