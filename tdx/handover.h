/* SPDX-License-Identifier: MIT */
/*
 * Pages on their way between us and the module.
 *
 * Ours -> page_hand_over -> (the leaf that takes it) -> the module's
 *   the leaf refused:  page_keep, and nothing has happened
 *   it is given back:  page_take_back, and it is ours; what it holds is undefined
 * In strict mode the page is unmapped for as long as it is not ours. Where PAMT is dynamic the
 * module has metadata for it just as long.
 */
#ifndef TDX_HANDOVER_H
#define TDX_HANDOVER_H

#include "mm/caches.h"
#include "tdx/pamt.h"
#include "tdx/seamcall.h"

/* For what needs no metadata: the pages that hold it. page_clean after the module. */
void page_give(hpa_t page, enum level level);
/*
 * Writes the page's cache lines back, unmaps it and sees to its metadata (a pair of pages of
 * `pairs`, or, null, of the allocator): before every call that names it. ERR_BUSY, ERR_NO_MEMORY,
 * ERR_REFUSED: nothing changed.
 */
static inline enum error page_hand_over(hpa_t page, enum level level, struct page_cache *pairs)
{
    enum error error = pamt_is_dynamic() ? pamt_reference(page, level, pairs) : OK;
    if (!error)
        page_give(page, level);
    return error;
}
void page_keep(hpa_t page, enum level level, struct page_cache *pairs);
/* `count` pages of that level, one behind the other. */
void pages_take_back(hpa_t first, enum level level, u32 count);
static inline void page_take_back(hpa_t page, enum level level)
{
    pages_take_back(page, level, 1);
}

void page_regain(hpa_t page, enum level level);
void page_clean(hpa_t page, enum level level);

/* PHYMEM.PAGE.WBINVD: what the caches hold of so many pages under `hkid`; of the first `*done`. */
enum error pages_write_back(hpa_t first, u64 count, u16 hkid, const char *what, u64 *done);
static inline enum error page_write_back(hpa_t page, u16 hkid, const char *what)
{
    u64 done;
    return pages_write_back(page, 1, hkid, what, &done);
}
/*
 * PHYMEM.PAGE.RECLAIM of `count` pages of that level, one behind the other; page_take_back comes
 * next for the first `*done`. On an error the others are the module's as before.
 */
enum error pages_reclaim(hpa_t first, enum level level, u32 count, const char *what, u32 *done);
static inline enum error page_reclaim(hpa_t page, const char *what)
{
    u32 done;
    return pages_reclaim(page, LEVEL_4K, 1, what, &done);
}

/*
 * Allocates a page (PAGE_TD_CONTROL) and gives it with RCX = page, RDX = `rdx` to the leaf that
 * makes a control structure of it. On error the page is free again.
 */
enum error control_page_create(enum tdh_leaf leaf, u64 rdx, const char *where, hpa_t *page);
/* Reclaims and frees it, or leaks it: ERR_REFUSED, with one line. */
enum error control_page_reclaim(hpa_t page, const char *what);
/* Gives up on it: PAGE_LEAKED, with one line. */
void page_leak(hpa_t page, const char *what);

/* (tdx/seamcall.asm) */
void caches_write_back(void);
void page_clear_direct(void *page);

#endif
