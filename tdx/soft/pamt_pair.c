/* SPDX-License-Identifier: MIT */
/*
 * Dynamic PAMT: PAMT.ADD, PAMT.REMOVE, and the pairs of pages that hold the metadata of the
 * 4 KiB pages of 2 MiB. A pair's addresses are in the region's entry, in place of owner and epoch.
 */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

#define BITS_PER_WORD 64
#define ENTRIES_PER_PAGE (PAGE_BYTES / sizeof(struct pamt_entry))
#define REGION_RESERVED 0xfff0000000000ff8ull

static _Atomic u64 *mark_word(const struct tdmr *tdmr, u64 address, u64 *bit)
{
    u64 index = (address - tdmr->base) >> PAGE_SHIFT;
    u64 at = tdmr->pamt_base[LEVEL_4K] + index / BITS_PER_WORD * sizeof(u64);
    *bit = 1ull << index % BITS_PER_WORD;
    return (_Atomic u64 *)((u8 *)seam_page(align_down(at, PAGE_BYTES)) + (at & PAGE_MASK));
}

void pamt_page_mark(const struct tdmr *tdmr, u64 address, bool is_marked)
{
    u64 bit;
    _Atomic u64 *word = mark_word(tdmr, address, &bit);
    if (is_marked)
        atomic_fetch_or(word, bit);
    else
        atomic_fetch_and(word, ~bit);
}

bool pamt_page_is_marked(const struct tdmr *tdmr, u64 address)
{
    u64 bit;
    const _Atomic u64 *word = mark_word(tdmr, address, &bit);
    return *word & bit;
}

bool pamt_is_own_page(u64 address)
{
    const struct tdmr *tdmr = tdmr_of(address);
    return soft_system.has_dynamic_pamt && tdmr && pamt_page_is_marked(tdmr, address);
}

u64 pamt_pair_check(const struct pamt_pair *pair)
{
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        u64 page = pair->pages[i];
        if (!is_aligned(page, PAGE_BYTES) || platform_address(page) != page)
            return completion(TDX_OPERAND_INVALID, pair->operands[i]);
        if (!tdmr_of(page))
            return completion(TDX_OPERAND_ADDR_RANGE_ERROR, pair->operands[i]);
    }
    return 0;
}

/* True if it was not yet marked. */
static bool page_claim(u64 page)
{
    u64 bit;
    _Atomic u64 *word = mark_word(tdmr_of(page), page, &bit);
    return !(atomic_fetch_or(word, bit) & bit);
}

u64 pamt_pair_claim(struct leaf *leaf, const struct pamt_pair *pair, u64 region)
{
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        struct pamt_walk walk;
        /* The region's own entry is locked, and known to have no 4 KiB pages. */
        if (align_down(pair->pages[i], level_bytes(LEVEL_2M)) == region)
            continue;
        u64 status = pamt_walk(leaf, pair->pages[i], pair->operands[i], LOCK_SHARED, &walk);
        if (status)
            return status;
        if (walk.entry->type != PT_NDA)
            return completion(TDX_PAGE_NOT_FREE, pair->operands[i]);
    }
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        if (page_claim(pair->pages[i]))
            continue;
        for (u32 k = 0; k < i; k++)
            pamt_page_mark(tdmr_of(pair->pages[k]), pair->pages[k], false);
        return completion(TDX_PAGE_NOT_FREE, pair->operands[i]);
    }
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        checker_page_given(pair->pages[i]);
    return 0;
}

void pamt_pair_release(const u64 pages[PAMT_PAIR_PAGES])
{
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        pamt_page_mark(tdmr_of(pages[i]), pages[i], false);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        checker_page_released(pages[i], LEVEL_4K, soft_system.global_keyid);
}

void pamt_pair_attach(struct pamt_entry *region, const u64 pages[PAMT_PAIR_PAGES],
                      enum pamt_type type)
{
    u64 owner = type == PT_NDA ? 0 : pamt_owner(region);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        struct pamt_entry *entries = seam_page(pages[i]);
        memset(entries, 0, PAGE_BYTES);
        for (u32 k = 0; k < ENTRIES_PER_PAGE; k++)
            pamt_set(&entries[k], type, owner);
    }
    pamt_retype(region, PT_PAMT, pages[0]);
    region->epoch = pages[1];
}

void pamt_pair_of(const struct pamt_entry *region, u64 pages[PAMT_PAIR_PAGES])
{
    pages[0] = pamt_owner(region);
    pages[1] = region->epoch;
}

/* RCX of both leaves: the region with its level, which is 1. */
static u64 region_check(u64 operand)
{
    u64 region = operand & TDX_ADDRESS_MASK;
    if (operand & REGION_RESERVED || (operand & TDX_GPA_LEVEL_MASK) != LEVEL_2M ||
        !is_aligned(region, level_bytes(LEVEL_2M)) || platform_address(region) != region)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    return 0;
}

/* The region's entry, locked exclusively. */
static u64 region_lock(struct leaf *leaf, u64 operand, struct pamt_walk *walk)
{
    struct pamt_goal goal = {OPERAND_RCX, LOCK_EXCLUSIVE, LEVEL_2M};
    return pamt_walk_to(leaf, operand & TDX_ADDRESS_MASK, goal, walk);
}

u64 tdh_phymem_pamt_add(struct leaf *leaf)
{
    const u64 *gpr = leaf->regs->gpr;
    const struct pamt_pair pair = {{gpr[GPR_RDX], gpr[GPR_R8]}, {OPERAND_RDX, OPERAND_R8}};
    struct pamt_walk walk;
    if (!soft_system.has_dynamic_pamt)
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    u64 status = region_check(gpr[GPR_RCX]);
    if (!status)
        status = pamt_pair_check(&pair);
    if (!status)
        status = region_lock(leaf, gpr[GPR_RCX], &walk);
    if (status)
        return status;
    if (walk.level != LEVEL_2M || walk.entry->type != PT_NDA)
        return completion(TDX_HPA_RANGE_NOT_FREE, OPERAND_RCX);
    status = pamt_pair_claim(leaf, &pair, gpr[GPR_RCX] & TDX_ADDRESS_MASK);
    if (status)
        return status;
    pamt_pair_attach(walk.entry, pair.pages, PT_NDA);
    return 0;
}

u64 tdh_phymem_pamt_remove(struct leaf *leaf)
{
    u64 pages[PAMT_PAIR_PAGES];
    struct pamt_walk walk;
    if (!soft_system.has_dynamic_pamt)
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    u64 status = region_check(leaf->regs->gpr[GPR_RCX]);
    if (!status)
        status = region_lock(leaf, leaf->regs->gpr[GPR_RCX], &walk);
    if (status)
        return status;
    if (walk.level != LEVEL_2M || walk.entry->type != PT_PAMT)
        return completion(TDX_NO_PAMT_PAGE_PAIR, OPERAND_RCX);
    pamt_pair_of(walk.entry, pages);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
        const struct pamt_entry *entries = seam_page(pages[i]);
        for (u32 k = 0; k < ENTRIES_PER_PAGE; k++)
            if (entries[k].type != PT_NDA)
                return completion(TDX_PAMT_PAGE_NOT_EMPTY, i);
    }
    pamt_pair_release(pages);
    pamt_set(walk.entry, PT_NDA, 0);
    leaf->regs->gpr[GPR_RDX] = pages[0];
    leaf->regs->gpr[GPR_R8] = pages[1];
    return 0;
}
