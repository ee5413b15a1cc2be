/* SPDX-License-Identifier: MIT */
/* MEM.RD and MEM.WR: a quadword of a debug TD's private memory. */
#include "tdx/soft/sept.h"

#include "tdx/soft/system.h"

static u64 quadword_find(struct mem_call *call, u64 **quadword)
{
    struct leaf *leaf = call->leaf;
    u64 status = td_lock(leaf, call->rdx, OPERAND_RDX, LOCK_SHARED, &call->td);
    if (!status)
        status = td_check_state(leaf, &call->td, LOCK_SHARED);
    if (status)
        return status;
    if (!(call->td.tdcs->attributes & TD_ATTRIBUTE_DEBUG))
        return completion(TDX_TD_NON_DEBUG, 0);
    if (!is_aligned(call->rcx, sizeof(u64)))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!leaf_lock(leaf, &call->td.tdcs->sept_lock, LOCK_SHARED))
        return completion(TDX_OPERAND_BUSY, OPERAND_SEPT_TREE);
    if (!sept_gpa_is_private(call->td.tdcs, call->rcx))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    sept_walk(&call->td, call->rcx, LEVEL_4K, &call->walk);
    enum sept_state state = sept_entry_state(call->walk.value);
    if (state != SEPT_MAPPED)
        return mem_entry_error(call, TDX_EPT_ENTRY_NOT_PRESENT);
    if (!sept_entry_lock(leaf, &call->walk))
        return mem_entry_error(call, TDX_OPERAND_BUSY);
    if (sept_entry_state(call->walk.value) != SEPT_MAPPED) /* before we had the lock */
        return mem_entry_error(call, TDX_EPT_ENTRY_NOT_PRESENT);
    u64 bytes = PAGE_BYTES << TABLE_SHIFT * call->walk.level;
    u64 at = sept_entry_address(call->walk.value) + (call->rcx & (bytes - 1));
    *quadword = (u64 *)((u8 *)seam_page(align_down(at, PAGE_BYTES)) + (at & PAGE_MASK));
    return 0;
}

u64 tdh_mem_rd(struct leaf *leaf)
{
    struct mem_call call;
    u64 *quadword;
    mem_begin(&call, leaf);
    leaf->regs->gpr[GPR_R8] = 0;
    u64 status = quadword_find(&call, &quadword);
    if (!status)
        leaf->regs->gpr[GPR_R8] = *quadword;
    return status;
}

u64 tdh_mem_wr(struct leaf *leaf)
{
    struct mem_call call;
    u64 *quadword, value = leaf->regs->gpr[GPR_R8];
    mem_begin(&call, leaf);
    leaf->regs->gpr[GPR_R8] = 0;
    u64 status = quadword_find(&call, &quadword);
    if (status)
        return status;
    leaf->regs->gpr[GPR_R8] = *quadword;
    *quadword = value;
    return 0;
}
