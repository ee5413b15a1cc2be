/* SPDX-License-Identifier: MIT */
#include "tdx/pamt.h"

#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "tdx/handover.h"
#include "tdx/module.h"

#define WHERE_BYTES 64
#define REGION_BYTES (2 * MIB)
#define REGION_PAGES 512

/*
 * A region is one word: how many pages it has, whether it has a pair, the address of the pair's
 * first page (whose partner is the second). Only who set BUSY may change more than the count.
 */
#define REGION_COUNT_MASK 0x3ffull
#define REGION_BUSY (1ull << 10)
#define REGION_PAIR (1ull << 11)
#define REGION_EMPTY 0ull

static struct {
    _Atomic u64 *regions;
    u64 start, count; /* address of the first region; regions */
    hpa_t table;      /* what holds them */
    u64 table_pages;
    _Atomic u64 added, removed, lost;
} pamt;

bool pamt_dynamic;

static _Atomic u64 *region_of(hpa_t page)
{
    u64 index = (page.raw - pamt.start) / REGION_BYTES;
    return page.raw >= pamt.start && index < pamt.count ? &pamt.regions[index] : NULL;
}

static hpa_t region_start(hpa_t page)
{
    return hpa(align_down(page.raw, REGION_BYTES));
}

enum error pamt_prepare(const struct tdmr_plan *plan)
{
    const struct tdmr_info *last = &plan->tdmrs[plan->count - 1];
    u64 start = plan->tdmrs[0].base, count = (last->base + last->size - start) / REGION_BYTES;
    u64 table_pages = align_up(count * sizeof *pamt.regions, PAGE_BYTES) / PAGE_BYTES;
    hpa_t table;
    enum error error = pages_allocate(PAGE_VMM, table_pages, 1, &table);
    if (error)
        return error;
    memset(phys_to_virt(table), 0, table_pages * PAGE_BYTES);
    pamt.table = table;
    pamt.table_pages = table_pages;
    pamt.regions = phys_to_virt(table);
    pamt.start = start;
    pamt.count = count;
    pamt_dynamic = true;
    return OK;
}

void pamt_release(void)
{
    if (pamt_is_dynamic())
        pages_free(pamt.table, pamt.table_pages);
    pamt_forget();
}

void pamt_forget(void)
{
    memset(&pamt, 0, sizeof pamt);
    pamt_dynamic = false;
}

void pamt_statistics(struct pamt_stats *stats)
{
    stats->pairs_added = pamt.added;
    stats->pairs_removed = pamt.removed;
    stats->pairs_now = stats->pairs_added - stats->pairs_removed;
    stats->pages_lost = pamt.lost;
}

static void pair_page_return(hpa_t page, struct page_cache *pairs)
{
    if (pairs)
        page_cache_return(pairs, page);
    else
        page_free(page);
}

/* Two pages that nothing has touched yet, tied together. */
static enum error pair_take(struct page_cache *pairs, hpa_t pair[PAMT_PAIR_PAGES])
{
    if (pairs && pairs->count < PAMT_PAIR_PAGES)
        return ERR_NO_MEMORY;
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        if (pairs) {
            pair[i] = page_cache_take(pairs);
        } else if (page_allocate(PAGE_PAMT, &pair[i])) {
            while (i-- > 0)
                page_free(pair[i]);
            return ERR_NO_MEMORY;
        }
    }
    page_set_partner(pair[0], pair[1]);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        page_give(pair[i], LEVEL_4K);
    return OK;
}

/* The module has not had them. */
static void pair_keep(const hpa_t pair[PAMT_PAIR_PAGES], struct page_cache *pairs)
{
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        page_regain(pair[i], LEVEL_4K);
        pair_page_return(pair[i], pairs);
    }
}

/* The module has had them, under its own key. */
static void pair_return(const hpa_t pair[PAMT_PAIR_PAGES], struct page_cache *pairs)
{
    atomic_fetch_add(&pamt.removed, 1);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        if (page_write_back(pair[i], tdx_module()->hkid_first, "a page of a PAMT pair")) {
            log_line("tdx: page 0x%llx of a PAMT pair is not used again",
                     (unsigned long long)pair[i].raw);
            atomic_fetch_add(&pamt.lost, 1);
            continue;
        }
        page_clean(pair[i], LEVEL_4K);
        pair_page_return(pair[i], pairs);
    }
}

static void pair_of(u64 region, hpa_t pair[PAMT_PAIR_PAGES])
{
    pair[0] = hpa(region & TDX_ADDRESS_MASK);
    pair[1] = page_partner(pair[0]);
}

bool pamt_region(u64 index, struct pamt_region *region)
{
    if (index >= pamt.count)
        return false;
    u64 word = atomic_load(&pamt.regions[index]);
    *region = (struct pamt_region){
        .start = hpa(pamt.start + index * REGION_BYTES),
        .pages = word & REGION_COUNT_MASK,
        .has_pair = word & REGION_PAIR,
        .pair = {HPA_NONE, HPA_NONE},
    };
    if (word & TDX_ADDRESS_MASK)
        pair_of(word, region->pair);
    return true;
}

static struct tdx_status pair_call(enum tdh_leaf leaf, hpa_t page,
                                   const hpa_t pair[PAMT_PAIR_PAGES])
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = region_start(page).raw | LEVEL_2M;
    if (pair) {
        regs.gpr[GPR_RDX] = pair[0].raw;
        regs.gpr[GPR_R8] = pair[1].raw;
    }
    return seamcall_patient(leaf, &regs);
}

static enum error pair_error(struct tdx_status status, enum tdh_leaf leaf, hpa_t page)
{
    char where[WHERE_BYTES];
    if (status.raw == 0)
        return OK;
    format_string(where, sizeof where, "the region at 0x%llx",
                  (unsigned long long)region_start(page).raw);
    return tdx_status_error_final(status, leaf, where);
}

/* The region is busy by us, without pages and without a pair. On success *region is its word. */
static enum error pair_add(hpa_t page, struct page_cache *pairs, u64 *region)
{
    hpa_t pair[PAMT_PAIR_PAGES];
    enum error error = pair_take(pairs, pair);
    if (error)
        return error;
    struct tdx_status status = pair_call(TDH_PHYMEM_PAMT_ADD, page, pair);
    if (tdx_status_code(status) == TDX_HPA_RANGE_NOT_FREE) {
        /* It has one, of whomever: that will do, and it is not for us to take away. */
        pair_keep(pair, pairs);
        *region = REGION_PAIR;
        return OK;
    }
    error = pair_error(status, TDH_PHYMEM_PAMT_ADD, page);
    if (error) {
        pair_keep(pair, pairs);
        return error;
    }
    atomic_fetch_add(&pamt.added, 1);
    *region = REGION_PAIR | pair[0].raw;
    return OK;
}

/* The region is busy by us, without pages but with a pair. What remains: nothing, or the pair. */
static u64 pair_remove(hpa_t page, struct page_cache *pairs, u64 region)
{
    hpa_t pair[PAMT_PAIR_PAGES];
    bool is_ours = region & TDX_ADDRESS_MASK;
    if (!is_ours)
        return REGION_EMPTY;
    struct tdx_status status = pair_call(TDH_PHYMEM_PAMT_REMOVE, page, NULL);
    /* The pair stays; the region's next page finds it there. */
    if (pair_error(status, TDH_PHYMEM_PAMT_REMOVE, page))
        return region & ~REGION_COUNT_MASK;
    pair_of(region, pair);
    pair_return(pair, pairs);
    return REGION_EMPTY;
}

static enum error page_count(hpa_t page, struct page_cache *pairs, _Atomic u64 *region)
{
    u64 old = atomic_load(region);
    for (;;) {
        if (old & REGION_BUSY)
            return ERR_BUSY;
        bool has_pair = old & REGION_PAIR;
        if (!atomic_compare_exchange_weak(region, &old, has_pair ? old + 1 : REGION_BUSY))
            continue;
        if (has_pair)
            return OK;
        u64 new = REGION_EMPTY;
        enum error error = pair_add(page, pairs, &new);
        atomic_store(region, error ? REGION_EMPTY : new + 1);
        return error;
    }
}

/* A pair that could not be removed in its time must go before a large page comes. */
static enum error region_clear(hpa_t page, struct page_cache *pairs, _Atomic u64 *region)
{
    u64 old = atomic_load(region);
    if (old == REGION_EMPTY)
        return OK;
    if (old & (REGION_COUNT_MASK | REGION_BUSY))
        return ERR_BUSY;
    if (!atomic_compare_exchange_strong(region, &old, old | REGION_BUSY))
        return ERR_BUSY;
    u64 left = pair_remove(page, pairs, old);
    atomic_store(region, left);
    return left == REGION_EMPTY ? OK : ERR_REFUSED;
}

enum error pamt_reference(hpa_t page, enum level level, struct page_cache *pairs)
{
    enum error error = OK;
    if (!pamt_is_dynamic())
        return OK;
    for (u64 at = 0; !error && at < level_bytes(level); at += REGION_BYTES) {
        hpa_t part = hpa(page.raw + at);
        _Atomic u64 *region = region_of(part);
        /* The module will say what it thinks of a page in no TDMR. */
        if (!region)
            return OK;
        error =
            level == LEVEL_4K ? page_count(part, pairs, region) : region_clear(part, pairs, region);
    }
    return error;
}

void pamt_unreference(hpa_t page, enum level level, struct page_cache *pairs)
{
    _Atomic u64 *region = pamt_is_dynamic() && level == LEVEL_4K ? region_of(page) : NULL;
    if (!region)
        return;
    /*
     * Our own page is counted, so that nobody else can be at an edge now. It is not where its TD
     * is broken since a promotion: the module then has no 4 KiB pages here.
     */
    u64 old = atomic_load(region);
    bool is_last;
    do {
        if (!(old & REGION_COUNT_MASK))
            return;
        is_last = (old & REGION_COUNT_MASK) == 1;
    } while (
        !atomic_compare_exchange_weak(region, &old, is_last ? old - 1 + REGION_BUSY : old - 1));
    if (is_last)
        atomic_store(region, pair_remove(page, pairs, old));
}

enum error pamt_demote_begin(hpa_t page, enum level level, struct page_cache *pairs,
                             hpa_t pair[PAMT_PAIR_PAGES])
{
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        pair[i] = hpa(0);
    _Atomic u64 *region = pamt_is_dynamic() && level == LEVEL_2M ? region_of(page) : NULL;
    if (!region)
        return OK;
    enum error error = pair_take(pairs, pair);
    if (!error)
        atomic_store(region, REGION_PAIR | REGION_BUSY | pair[0].raw);
    return error;
}

void pamt_demote_end(hpa_t page, enum level level, struct page_cache *pairs,
                     enum error of_the_module)
{
    _Atomic u64 *region = pamt_is_dynamic() && level == LEVEL_2M ? region_of(page) : NULL;
    if (!region)
        return;
    u64 word = atomic_load(region) & ~REGION_BUSY;
    if (!of_the_module) {
        atomic_fetch_add(&pamt.added, 1);
        atomic_store(region, word | REGION_PAGES);
        return;
    }
    hpa_t pair[PAMT_PAIR_PAGES];
    pair_of(word, pair);
    pair_keep(pair, pairs);
    atomic_store(region, REGION_EMPTY);
}

void pamt_promoted(hpa_t page, enum level level, struct page_cache *pairs)
{
    hpa_t pair[PAMT_PAIR_PAGES];
    _Atomic u64 *region = pamt_is_dynamic() && level == LEVEL_2M ? region_of(page) : NULL;
    if (!region)
        return;
    u64 word = atomic_exchange(region, REGION_BUSY);
    if (word & TDX_ADDRESS_MASK) {
        pair_of(word, pair);
        pair_return(pair, pairs);
    }
    atomic_store(region, REGION_EMPTY);
}
