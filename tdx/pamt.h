/* SPDX-License-Identifier: MIT */
/*
 * Dynamic PAMT: the module knows of a 4 KiB page only where it was given a pair of pages for the
 * metadata of that 2 MiB region. A region counts the 4 KiB pages that the module has in it; the
 * pair comes with the first and goes with the last. Of several processors at the edge one acts,
 * the others are told ERR_BUSY; no lock. Where PAMT is static all of this does nothing.
 */
#ifndef TDX_PAMT_H
#define TDX_PAMT_H

#include "mm/caches.h"
#include "mm/mirror.h"
#include "tdx/tdmr.h"

/* Makes the regions' counts for a plan; before SYS.CONFIG. ERR_NO_MEMORY. */
enum error pamt_prepare(const struct tdmr_plan *plan);
/* Gives them back, after a bring-up that failed: PAMT is static from here on. */
void pamt_release(void);
/* Before a bring-up: nothing is known. */
void pamt_forget(void);
extern bool pamt_dynamic __attribute__((visibility("hidden")));
static inline bool pamt_is_dynamic(void)
{
    return pamt_dynamic;
}

/*
 * The page is about to be the module's. LEVEL_4K: counted, and its region has a pair, of two
 * pages of `pairs` (null: of the allocator). Larger: no region in it has one. ERR_BUSY,
 * ERR_NO_MEMORY, ERR_REFUSED: nothing changed.
 */
enum error pamt_reference(hpa_t page, enum level level, struct page_cache *pairs);
/* It is the module's no more. A pair that goes goes to `pairs`, or to the allocator. */
void pamt_unreference(hpa_t page, enum level level, struct page_cache *pairs);

/*
 * DEMOTE of a page of `level` wants a pair, for R12 and R13; afterwards the region has 512 pages,
 * or, where the module refused, the pair is ours again. Without need of one both are 0.
 */
enum error pamt_demote_begin(hpa_t page, enum level level, struct page_cache *pairs,
                             hpa_t pair[PAMT_PAIR_PAGES]);
void pamt_demote_end(hpa_t page, enum level level, struct page_cache *pairs,
                     enum error of_the_module);
/* PROMOTE made a page of `level`: its pair is ours again. */
void pamt_promoted(hpa_t page, enum level level, struct page_cache *pairs);

struct pamt_stats {
    u64 pairs_added, pairs_removed;
    u64 pairs_now;
    u64 pages_lost; /* of pairs: given back, but not to be used again */
};
void pamt_statistics(struct pamt_stats *stats);

/* A region as it is counted; false beyond the last. */
struct pamt_region {
    hpa_t start;
    u64 pages;
    bool has_pair;
    hpa_t pair[PAMT_PAIR_PAGES]; /* HPA_NONE: it has one, but not of ours */
};
bool pamt_region(u64 index, struct pamt_region *region);

/*
 * Each region against the module (PHYMEM.PAGE.RDMD): whether it has a pair, and which; how many
 * 4 KiB pages. ERR_STATE with the first difference in words. For quiet moments.
 */
enum error pamt_audit(char message[AUDIT_MESSAGE_BYTES]);

#endif
