/* SPDX-License-Identifier: MIT */
/* Physical pages and caches: PAGE.RDMD, PAGE.RECLAIM, PAGE.WBINVD, CACHE.WB. */
#include "tdx/soft/objects.h"

#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

static u64 page_check(u64 page)
{
    if (!is_aligned(page, PAGE_BYTES) || platform_address(page) != page)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    return 0;
}

static void outputs_clear(struct leaf *leaf)
{
    static const u8 outputs[] = {GPR_RCX, GPR_RDX, GPR_R8, GPR_R9, GPR_R10, GPR_R11};
    for (u32 i = 0; i < sizeof outputs; i++)
        leaf->regs->gpr[outputs[i]] = 0;
}

static void outputs_describe(struct leaf *leaf, const struct pamt_walk *walk)
{
    leaf->regs->gpr[GPR_RCX] = walk->entry->type;
    leaf->regs->gpr[GPR_RDX] = pamt_owner(walk->entry);
    leaf->regs->gpr[GPR_R8] = walk->level;
}

/* What RDMD says of Dynamic PAMT's own pages and entries, which are nobody's. */
static void outputs_describe_pamt(struct leaf *leaf, const struct pamt_walk *walk)
{
    u64 pages[PAMT_PAIR_PAGES];
    leaf->regs->gpr[GPR_RCX] = PT_PAMT;
    if (walk->entry->type != PT_PAMT)
        return;
    pamt_pair_of(walk->entry, pages);
    leaf->regs->gpr[GPR_R8] = walk->level;
    leaf->regs->gpr[GPR_R10] = pages[0];
    leaf->regs->gpr[GPR_R11] = pages[1];
}

u64 tdh_phymem_page_rdmd(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    u32 level_min = 0;
    outputs_clear(leaf);
    /* With Dynamic PAMT the smallest size of interest: an entry above can be asked for its pair. */
    if (soft_system.has_dynamic_pamt && (page & TDX_GPA_LEVEL_MASK) <= LEVEL_1G) {
        level_min = page & TDX_GPA_LEVEL_MASK;
        page &= ~TDX_GPA_LEVEL_MASK;
    }
    struct pamt_walk walk;
    u64 status = page_check(page);
    if (!status && !is_aligned(page, PAGE_BYTES << TABLE_SHIFT * level_min))
        status = completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!status)
        status = pamt_walk_to(leaf, page, (struct pamt_goal){OPERAND_RCX, LOCK_SHARED, level_min},
                              &walk);
    if (status)
        return status;
    bool is_own = level_min == LEVEL_4K && walk.entry->type == PT_NDA && pamt_is_own_page(page);
    if (is_own || walk.entry->type == PT_PAMT) {
        outputs_describe_pamt(leaf, &walk);
        return 0;
    }
    outputs_describe(leaf, &walk);
    if (walk.entry->type == PT_REG || walk.entry->type == PT_EPT)
        leaf->regs->gpr[GPR_R9] = walk.entry->epoch;
    return 0;
}

static u64 tdr_page_check(u64 page)
{
    const struct tdr *tdr = seam_page(page);
    if (tdr->lifecycle != TD_TEARDOWN)
        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);
    if (tdr->chldcnt)
        return completion(TDX_TD_ASSOCIATED_PAGES_EXIST, 0);
    return 0;
}

static u64 child_page_check(struct leaf *leaf, u64 owner)
{
    struct pamt_walk walk;
    u64 status = pamt_walk(leaf, owner, OPERAND_TDR, LOCK_SHARED, &walk);
    if (status)
        return status;
    const struct tdr *tdr = seam_page(owner);
    return tdr->lifecycle == TD_TEARDOWN ? 0 : completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);
}

u64 tdh_phymem_page_reclaim(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    outputs_clear(leaf);
    struct pamt_walk walk;
    u64 status = page_check(page);
    if (!status)
        status = pamt_walk(leaf, page, OPERAND_RCX, LOCK_EXCLUSIVE, &walk);
    if (status)
        return status;
    enum pamt_type type = walk.entry->type;
    if (type == PT_NDA || type == PT_RSVD)
        return completion(TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX);
    outputs_describe(leaf, &walk);
    if (!is_aligned(page, PAGE_BYTES << TABLE_SHIFT * walk.level))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    u64 owner = pamt_owner(walk.entry);
    status = type == PT_TDR ? tdr_page_check(page) : child_page_check(leaf, owner);
    if (status)
        return status;
    pamt_free(walk.entry);
    if (type != PT_TDR) {
        struct tdr *tdr = seam_page(owner);
        atomic_fetch_sub(&tdr->chldcnt, 1ull << TABLE_SHIFT * walk.level);
    } else {
        checker_page_released(page, LEVEL_4K, soft_system.global_keyid);
    }
    return 0;
}

u64 tdh_phymem_page_wbinvd(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    if (!is_aligned(page, PAGE_BYTES) || page >> platform()->physical_address_bits)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    struct pamt_walk walk;
    u64 status = pamt_walk(leaf, platform_address(page), OPERAND_RCX, LOCK_SHARED, &walk);
    if (status)
        return status;
    if (walk.entry->type != PT_NDA || pamt_is_own_page(platform_address(page)))
        return completion(TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX);
    checker_page_written_back(platform_address(page), platform_keyid(page));
    seam_flush_page(platform_address(page));
    return 0;
}

/* KeyIDs that a TD has given up and nobody has freed, flushed here already or not. */
static u64 keyids_to_flush(void)
{
    u64 keyids = 0;
    for (u32 i = 0; i < SOFT_KEYIDS_MAX; i++)
        if (soft_system.keyids[i].state == KEYID_FLUSHED)
            keyids |= 1ull << i;
    return keyids;
}

static void keyids_flushed(u64 keyids, u64 package_bit)
{
    for (u32 i = 0; i < SOFT_KEYIDS_MAX; i++)
        if (keyids & 1ull << i)
            soft_system.keyids[i].packages_to_flush &= ~package_bit;
}

u64 tdh_phymem_cache_wb(struct leaf *leaf)
{
    u64 command = leaf->regs->gpr[GPR_RCX];
    u32 package = platform_package();
    if (command > 1)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!leaf_lock(leaf, &soft_system.write_back[package].lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_WBCACHE);
    if (!leaf_lock(leaf, &soft_system.keys_lock, LOCK_SHARED))
        return completion(TDX_OPERAND_BUSY, OPERAND_KOT);
    bool is_interrupted = soft_system.write_back[package].is_interrupted;
    if (command == 1 && !is_interrupted)
        return completion(TDX_WBCACHE_RESUME_ERROR, 0);
    if (command == 0) {
        u64 keyids = keyids_to_flush();
        if (!keyids)
            return completion(TDX_NO_HKID_READY_TO_WBCACHE, 0);
        soft_system.write_back[package].keyids = keyids;
        soft_system.write_back[package].next_block = 0;
    }
    while (++soft_system.write_back[package].next_block < platform()->wbinvd_blocks)
        if (seam_interrupt_is_pending()) {
            soft_system.write_back[package].is_interrupted = true;
            return completion(TDX_INTERRUPTED_RESUMABLE, 0);
        }
    keyids_flushed(soft_system.write_back[package].keyids, 1ull << package);
    soft_system.write_back[package].is_interrupted = false;
    return 0;
}
