/* SPDX-License-Identifier: MIT */
/* Tables of the secure EPT: SEPT.ADD, SEPT.RD, SEPT.REMOVE. */
#include "tdx/soft/sept.h"

#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

#define SEPT_ADD_ALLOW_EXISTING 1ull
#define SEPT_RD_L2_ATTRIBUTES 1ull
#define PAGE_NULL (~0ull)
#define PAGE_NOT_NEEDED (1ull << 63)

static const u8 l2_registers[] = {GPR_R9, GPR_R10, GPR_R11};

/* No TD has L2 VMs with tables of their own: a page for one is a mistake. */
static u64 l2_pages_check(const struct leaf *leaf)
{
    for (u32 i = 0; i < sizeof l2_registers; i++)
        if (leaf->regs->gpr[l2_registers[i]] != PAGE_NULL)
            return completion(TDX_OPERAND_INVALID, l2_registers[i]);
    return 0;
}

static u64 table_add(struct mem_call *call, u64 page)
{
    if (call->leaf->version && page == PAGE_NULL)
        return mem_entry_error(call, TDX_EPT_ENTRY_STATE_INCORRECT);
    struct pamt_entry *entry;
    struct page_operand operand = {page, OPERAND_R8, PT_NDA, LOCK_EXCLUSIVE};
    u64 status = page_lock(call->leaf, &operand, &entry);
    if (!status && call->leaf->version)
        status = l2_pages_check(call->leaf);
    if (status)
        return status;
    pamt_set(entry, PT_EPT, call->td.address);
    sept_table_fill_free(page);
    atomic_fetch_add(&call->td.tdr->chldcnt, 1);
    sept_entry_set(&call->walk, sept_entry_table(page, call->next));
    if (call->leaf->version)
        call->leaf->regs->gpr[GPR_R8] = PAGE_NULL;
    return 0;
}

static u64 table_exists(struct mem_call *call, u64 page, bool is_allowed)
{
    if (page != PAGE_NULL && !is_allowed)
        return mem_entry_error(call, TDX_EPT_ENTRY_STATE_INCORRECT);
    if (!call->leaf->version)
        return page == PAGE_NULL ? completion(TDX_OPERAND_INVALID, OPERAND_R8) : 0;
    if (page != PAGE_NULL)
        call->leaf->regs->gpr[GPR_R8] = page | PAGE_NOT_NEEDED;
    return l2_pages_check(call->leaf);
}

u64 tdh_mem_sept_add(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 page = leaf->regs->gpr[GPR_R8];
    bool is_existing_allowed = call.rdx & SEPT_ADD_ALLOW_EXISTING;
    call.rdx &= ~SEPT_ADD_ALLOW_EXISTING;
    if (call.rdx & ~TDX_ADDRESS_MASK)
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_2M, LEVEL_ROOT, LOCK_SHARED});
    if (status)
        return status;
    if (sept_entry_state(call.walk.value) == SEPT_NL_MAPPED)
        return table_exists(&call, page, is_existing_allowed);
    status = mem_check_event(&call, SEPT_EVENT_ADD_TABLE);
    if (status)
        return status;
    return table_add(&call, page);
}

u64 tdh_mem_sept_rd(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    leaf->regs->gpr[GPR_R8] = 0;
    bool wants_l2 = call.rdx & SEPT_RD_L2_ATTRIBUTES;
    call.rdx &= ~SEPT_RD_L2_ATTRIBUTES;
    if (call.rdx & ~TDX_ADDRESS_MASK)
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    u64 status = td_lock(leaf, call.rdx, OPERAND_RDX, LOCK_SHARED, &call.td);
    if (!status)
        status = td_check_state(leaf, &call.td, LOCK_SHARED);
    if (!status && wants_l2 && !(call.td.tdcs->attributes & TD_ATTRIBUTE_DEBUG))
        status = completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (!status)
        status = mem_lock_entry(&call, (struct mem_shape){LEVEL_4K, LEVEL_ROOT, LOCK_SHARED});
    if (status)
        return status;
    leaf->regs->gpr[GPR_RCX] = sept_entry_abi(call.walk.value);
    leaf->regs->gpr[GPR_RDX] = sept_entry_details(&call.walk);
    return 0;
}

static bool table_is_empty(u64 table)
{
    const u64 *entries = seam_page(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        if (sept_entry_state(entries[i] & ~SEPT_ENTRY_LOCKING) != SEPT_FREE)
            return false;
    return true;
}

u64 tdh_mem_sept_remove(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    mem_clear_l2_pages(leaf);
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_2M, LEVEL_ROOT, LOCK_EXCLUSIVE});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_REMOVE_TABLE);
    if (status)
        return status;
    struct pamt_entry *entry = mem_lock_owned(&call, LOCK_EXCLUSIVE);
    if (!entry)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    status = mem_check_tracked(&call, entry);
    if (status)
        return status;
    u64 table = sept_entry_address(call.walk.value);
    if (!table_is_empty(table))
        return mem_entry_error(&call, TDX_EPT_PAGE_NOT_FREE);
    sept_entry_set(&call.walk, SEPT_ENTRY_FREE);
    pamt_free(entry);
    checker_page_released(table, LEVEL_4K, call.td.tdr->hkid);
    atomic_fetch_sub(&call.td.tdr->chldcnt, 1);
    leaf->regs->gpr[GPR_RCX] = table;
    return 0;
}
