/* SPDX-License-Identifier: MIT */
/*
 * Page metadata. A page of 2 MiB or 1 GiB has its entry in the table of its own level and no
 * type (NDA) in the tables below; a walk therefore goes down until it meets a type, and ends at
 * the 4 KiB level at the latest.
 *
 * With Dynamic PAMT there are entries of 4 KiB pages where the VMM added a pair of pages for them
 * alone: the 2 MiB entry has type PT_PAMT then, and a walk that meets another type ends there. In
 * the place of the 4 KiB table there is a bitmap of the pages that can be no TD's: those of pairs,
 * and the reserved ones.
 */
#include "tdx/soft/objects.h"

#include "boot/assert.h"
#include "boot/string.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

static void *memory_at(u64 address)
{
    return (u8 *)seam_page(align_down(address, PAGE_BYTES)) + (address & PAGE_MASK);
}

struct pamt_entry *pamt_entry_at(const struct tdmr *tdmr, u64 address, u32 level)
{
    u64 index = (address - tdmr->base) >> (PAGE_SHIFT + TABLE_SHIFT * level);
    if (level > LEVEL_4K || !soft_system.has_dynamic_pamt)
        return memory_at(tdmr->pamt_base[level] + index * sizeof(struct pamt_entry));
    struct pamt_entry *region = pamt_entry_at(tdmr, address, LEVEL_2M);
    ASSERT(region->type == PT_PAMT);
    u64 pages[PAMT_PAIR_PAGES], at = index % TABLE_ENTRIES * sizeof(struct pamt_entry);
    pamt_pair_of(region, pages);
    return memory_at(pages[at / PAGE_BYTES] + at % PAGE_BYTES);
}

const struct tdmr *tdmr_of(u64 address)
{
    for (u32 i = 0; i < soft_system.tdmr_count; i++) {
        const struct tdmr *tdmr = &soft_system.tdmrs[i];
        if (address < tdmr->base || address >= tdmr->base + tdmr->size)
            continue;
        return address < align_down(tdmr->next, GIB) ? tdmr : NULL;
    }
    return NULL;
}

u64 pamt_owner(const struct pamt_entry *entry)
{
    u64 frame = 0;
    memcpy(&frame, entry->owner, sizeof entry->owner);
    return frame << PAGE_SHIFT;
}

void pamt_retype(struct pamt_entry *entry, enum pamt_type type, u64 owner)
{
    u64 frame = owner >> PAGE_SHIFT;
    entry->type = type;
    memcpy(entry->owner, &frame, sizeof entry->owner);
}

void pamt_set(struct pamt_entry *entry, enum pamt_type type, u64 owner)
{
    pamt_retype(entry, type, owner);
    entry->epoch = 0;
}

void pamt_free(struct pamt_entry *entry)
{
    entry->type = PT_NDA;
}

/* Of a 2 MiB entry that has entries of 4 KiB pages below it. */
static enum pamt_type node_type(void)
{
    return soft_system.has_dynamic_pamt ? PT_PAMT : PT_NDA;
}

u64 pamt_walk_to(struct leaf *leaf, u64 address, struct pamt_goal goal, struct pamt_walk *walk)
{
    const struct tdmr *tdmr = tdmr_of(address);
    if (!tdmr)
        return completion(TDX_OPERAND_ADDR_RANGE_ERROR, goal.operand);
    for (u32 level = LEVEL_1G; level > LEVEL_4K; level--) {
        struct pamt_entry *entry = pamt_entry_at(tdmr, address, level);
        if (!leaf_lock(leaf, &entry->lock, LOCK_SHARED))
            return completion(TDX_OPERAND_BUSY, goal.operand);
        enum pamt_type node = level == LEVEL_2M ? node_type() : PT_NDA;
        if (entry->type == node && level > goal.level_min)
            continue;
        if (goal.mode == LOCK_EXCLUSIVE) {
            leaf_unlock(leaf, &entry->lock);
            if (!leaf_lock(leaf, &entry->lock, LOCK_EXCLUSIVE))
                return completion(TDX_OPERAND_BUSY, goal.operand);
        }
        *walk = (struct pamt_walk){entry, level};
        return 0;
    }
    struct pamt_entry *entry = pamt_entry_at(tdmr, address, LEVEL_4K);
    if (!leaf_lock(leaf, &entry->lock, goal.mode))
        return completion(TDX_OPERAND_BUSY, goal.operand);
    *walk = (struct pamt_walk){entry, LEVEL_4K};
    return 0;
}

u64 pamt_walk(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
              struct pamt_walk *walk)
{
    return pamt_walk_to(leaf, address, (struct pamt_goal){operand, mode, LEVEL_4K}, walk);
}

static bool children_are_free(const struct tdmr *tdmr, u64 address, u32 level)
{
    u64 end = address + level_bytes((enum level)level);
    for (u32 below = 0; below < level; below++)
        for (u64 page = address; page < end; page += level_bytes((enum level)below))
            if (below == LEVEL_4K && soft_system.has_dynamic_pamt
                    ? pamt_page_is_marked(tdmr, page)
                    : pamt_entry_at(tdmr, page, below)->type != PT_NDA)
                return false;
    return true;
}

u64 pamt_lock_free(struct leaf *leaf, u64 address, u32 level, enum tdx_operand operand,
                   struct pamt_entry **entry)
{
    const struct tdmr *tdmr = tdmr_of(address);
    if (!tdmr)
        return completion(TDX_OPERAND_ADDR_RANGE_ERROR, operand);
    for (u32 above = LEVEL_1G; above > level; above--) {
        struct pamt_entry *parent = pamt_entry_at(tdmr, address, above);
        if (!leaf_lock(leaf, &parent->lock, LOCK_SHARED))
            return completion(TDX_OPERAND_BUSY, operand);
        if (parent->type != PT_NDA)
            return completion(TDX_PAGE_METADATA_INCORRECT, operand);
    }
    *entry = pamt_entry_at(tdmr, address, level);
    if (!leaf_lock(leaf, &(*entry)->lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, operand);
    if ((*entry)->type != PT_NDA || !children_are_free(tdmr, address, level))
        return completion(TDX_PAGE_METADATA_INCORRECT, operand);
    return 0;
}

struct pamt_entry *pamt_lock_page(struct leaf *leaf, u64 address, u32 level, enum lock_mode mode)
{
    const struct tdmr *tdmr = tdmr_of(address);
    ASSERT(tdmr);
    for (u32 above = LEVEL_1G; above > level; above--)
        if (!leaf_lock(leaf, &pamt_entry_at(tdmr, address, above)->lock, LOCK_SHARED))
            return NULL;
    struct pamt_entry *entry = pamt_entry_at(tdmr, address, level);
    return leaf_lock(leaf, &entry->lock, mode) ? entry : NULL;
}

static bool pair_is_missing(const struct pamt_walk *walk)
{
    return soft_system.has_dynamic_pamt && walk->level == LEVEL_2M && walk->entry->type == PT_NDA;
}

u64 page_lock(struct leaf *leaf, const struct page_operand *page, struct pamt_entry **entry)
{
    if (!is_aligned(page->address, PAGE_BYTES) || platform_address(page->address) != page->address)
        return completion(TDX_OPERAND_INVALID, page->operand);
    struct pamt_walk walk;
    u64 status = pamt_walk(leaf, page->address, page->operand, page->mode, &walk);
    if (status)
        return status;
    if (pair_is_missing(&walk) && page->type == PT_NDA)
        return completion(TDX_MISSING_PAMT_PAGE_PAIR, page->operand);
    if (walk.level != LEVEL_4K || walk.entry->type != page->type ||
        (page->type == PT_NDA && pamt_is_own_page(page->address)))
        return completion(TDX_PAGE_METADATA_INCORRECT, page->operand);
    if (page->type == PT_NDA)
        checker_page_given(page->address);
    *entry = walk.entry;
    return 0;
}
