/* SPDX-License-Identifier: MIT */
/* PAGE.PROMOTE and PAGE.DEMOTE: one large page for a full table of smaller ones, and back. */
#include "tdx/soft/sept.h"

#include "boot/assert.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

#define DEMOTE_ADD_L2_TABLES 1ull
#define PAGE_NULL (~0ull)

static struct pamt_entry *page_entry(u64 page, u32 level)
{
    const struct tdmr *tdmr = tdmr_of(page);
    ASSERT(tdmr);
    return pamt_entry_at(tdmr, page, level);
}

/* All children are pages in one state, one after another, from an address that fits. */
static bool children_are_contiguous(const u64 *entries, u32 level, enum sept_state *state)
{
    u64 first = entries[0] & ~SEPT_ENTRY_LOCKING;
    *state = sept_entry_state(first);
    if (*state != SEPT_MAPPED && *state != SEPT_PENDING)
        return false;
    u64 page = sept_entry_address(first), bytes = PAGE_BYTES << TABLE_SHIFT * (level - 1);
    if (!is_aligned(page, bytes << TABLE_SHIFT))
        return false;
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        if ((entries[i] & ~SEPT_ENTRY_LOCKING) != first + i * bytes)
            return false;
    return true;
}

static void page_entries_move(u64 page, u32 from, u32 to, u64 owner)
{
    u32 below = from < to ? from : to;
    enum pamt_type small = to == below ? PT_REG : PT_NDA;
    u64 bytes = PAGE_BYTES << TABLE_SHIFT * below;
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        pamt_retype(page_entry(page + i * bytes, below), small, owner);
    pamt_retype(page_entry(page, below + 1), small == PT_REG ? PT_NDA : PT_REG, owner);
}

/* The entries of 4 KiB pages of a region come and go with its pair. */
static bool level_has_pair(u32 level)
{
    return level == LEVEL_2M && soft_system.has_dynamic_pamt;
}

/* The region's pair goes back to the VMM, in R12 and R13. */
static void promote_with_pair(struct mem_call *call, struct pamt_entry *region)
{
    u64 *gpr = call->leaf->regs->gpr, pages[PAMT_PAIR_PAGES];
    pamt_pair_of(region, pages);
    pamt_set(region, PT_REG, call->td.address);
    pamt_pair_release(pages);
    gpr[GPR_R12] = pages[0];
    gpr[GPR_R13] = pages[1];
}

/* Before anything has changed: the VMM makes the call again, with the same operands. */
static bool mem_is_interrupted(struct mem_call *call, u64 rdx)
{
    if (!seam_interrupt_is_pending())
        return false;
    call->leaf->regs->gpr[GPR_RCX] = call->rcx;
    call->leaf->regs->gpr[GPR_RDX] = rdx;
    return true;
}

u64 tdh_mem_page_promote(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    mem_clear_l2_pages(leaf);
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_2M, LEVEL_1G, LOCK_SHARED});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_PROMOTE);
    if (status)
        return status;
    struct pamt_entry *table_entry = mem_lock_owned(&call, LOCK_EXCLUSIVE);
    if (!table_entry)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    status = mem_check_tracked(&call, table_entry);
    if (status)
        return status;
    u64 table = sept_entry_address(call.walk.value);
    enum sept_state state;
    if (!children_are_contiguous(seam_page(table), call.walk.level, &state))
        return mem_entry_error(&call, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
    if (mem_is_interrupted(&call, call.rdx))
        return completion(TDX_INTERRUPTED_RESTARTABLE, 0);
    u64 page = sept_entry_address(*(u64 *)seam_page(table));
    /* Keeps others out of the entries below it, too: their walks share it. */
    struct pamt_entry *region = pamt_lock_page(leaf, page, call.walk.level, LOCK_EXCLUSIVE);
    if (!region)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    if (level_has_pair(call.walk.level))
        promote_with_pair(&call, region);
    else
        page_entries_move(page, call.walk.level - 1, call.walk.level, call.td.address);
    sept_entry_set(&call.walk, sept_entry_leaf(page, state));
    pamt_free(table_entry);
    checker_page_released(table, LEVEL_4K, call.td.tdr->hkid);
    atomic_fetch_sub(&call.td.tdr->chldcnt, 1);
    leaf->regs->gpr[GPR_RCX] = table;
    return 0;
}

static u64 demote_pages_check(struct mem_call *call, u64 page, struct pamt_entry **entry)
{
    struct page_operand operand = {page, OPERAND_R8, PT_NDA, LOCK_EXCLUSIVE};
    u64 status = page_lock(call->leaf, &operand, entry);
    for (u32 i = GPR_R9; !status && i <= GPR_R11; i++)
        if (call->leaf->regs->gpr[i] != PAGE_NULL)
            status = completion(TDX_OPERAND_INVALID, i);
    return status;
}

static void table_fill(struct mem_call *call, u64 table)
{
    enum sept_state state = sept_entry_state(call->walk.value);
    enum sept_state small = sept_state_is_pending(state) ? SEPT_PENDING : SEPT_MAPPED;
    u64 address = sept_entry_address(call->walk.value), *entries = seam_page(table);
    u64 bytes = PAGE_BYTES << TABLE_SHIFT * (call->walk.level - 1);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        entries[i] = sept_entry_leaf(address + i * bytes, small);
}

/* The PAMT entries of the page become those of its parts; with Dynamic PAMT in a pair of R12, R13.
 */
static u64 demote_entries(struct mem_call *call, struct pamt_entry *page)
{
    const u64 *gpr = call->leaf->regs->gpr;
    const struct pamt_pair pair = {{gpr[GPR_R12], gpr[GPR_R13]}, {OPERAND_R12, OPERAND_R13}};
    u64 address = sept_entry_address(call->walk.value);
    if (!level_has_pair(call->walk.level)) {
        page_entries_move(address, call->walk.level, call->walk.level - 1, call->td.address);
        return 0;
    }
    u64 status = pamt_pair_check(&pair);
    if (!status)
        status = pamt_pair_claim(call->leaf, &pair, ~0ull);
    if (!status)
        pamt_pair_attach(page, pair.pages, PT_REG);
    return status;
}

u64 tdh_mem_page_demote(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 table = leaf->regs->gpr[GPR_R8], rdx = call.rdx;
    call.rdx &= ~DEMOTE_ADD_L2_TABLES;
    if (call.rdx & ~TDX_ADDRESS_MASK)
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_2M, LEVEL_1G, LOCK_SHARED});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_DEMOTE);
    if (status)
        return status;
    struct pamt_entry *page = mem_lock_owned(&call, LOCK_EXCLUSIVE), *table_entry;
    if (!page)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    status = mem_check_tracked(&call, page);
    /* The table may lie below the same PAMT parents, but not in the page itself. */
    if (!status)
        status = demote_pages_check(&call, table, &table_entry);
    if (status)
        return status;
    if (mem_is_interrupted(&call, rdx))
        return completion(TDX_INTERRUPTED_RESTARTABLE, 0);
    status = demote_entries(&call, page);
    if (status)
        return status;
    table_fill(&call, table);
    pamt_set(table_entry, PT_EPT, call.td.address);
    atomic_fetch_add(&call.td.tdr->chldcnt, 1);
    sept_entry_set(&call.walk, sept_entry_table(table, call.next));
    return 0;
}
