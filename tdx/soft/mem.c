/* SPDX-License-Identifier: MIT */
/* What the memory leaves share: from RCX and RDX to a locked entry, and the answers about it. */
#include "tdx/soft/sept.h"

#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

#define PGINFO_RESERVED 0xfff0000000000ff8ull

void mem_begin(struct mem_call *call, struct leaf *leaf)
{
    call->leaf = leaf;
    call->rcx = leaf->regs->gpr[GPR_RCX];
    call->rdx = leaf->regs->gpr[GPR_RDX];
    leaf->regs->gpr[GPR_RCX] = 0;
    leaf->regs->gpr[GPR_RDX] = 0;
}

void mem_clear_l2_pages(struct leaf *leaf)
{
    for (u32 i = GPR_R9; leaf->version && i <= GPR_R11; i++)
        leaf->regs->gpr[i] = ~0ull;
}

u64 mem_entry_error(const struct mem_call *call, enum tdx_status_code code)
{
    call->leaf->regs->gpr[GPR_RCX] = sept_entry_abi(call->walk.value);
    call->leaf->regs->gpr[GPR_RDX] = sept_entry_details(&call->walk);
    return completion(code, OPERAND_RCX);
}

u64 mem_check_operand(const struct mem_call *call, struct mem_shape shape)
{
    u32 level = call->rcx & TDX_GPA_LEVEL_MASK;
    u32 max = shape.level_max == LEVEL_ROOT ? sept_root_level(call->td.tdcs) : shape.level_max;
    u64 address = call->rcx & TDX_ADDRESS_MASK;
    if (call->rcx & PGINFO_RESERVED || level < shape.level_min || level > max ||
        !is_aligned(address, PAGE_BYTES << TABLE_SHIFT * level))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    return 0;
}

u64 mem_lock_entry(struct mem_call *call, struct mem_shape shape)
{
    struct leaf *leaf = call->leaf;
    u64 status = td_lock(leaf, call->rdx, OPERAND_RDX, LOCK_SHARED, &call->td);
    if (!status)
        status = td_check_state(leaf, &call->td, LOCK_SHARED);
    if (!status)
        status = mem_check_operand(call, shape);
    if (status)
        return status;
    if (!leaf_lock(leaf, &call->td.tdcs->sept_lock, shape.tree))
        return completion(TDX_OPERAND_BUSY, OPERAND_SEPT_TREE);
    u64 address = call->rcx & TDX_ADDRESS_MASK;
    if (!sept_gpa_is_private(call->td.tdcs, address))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!sept_walk(&call->td, address, call->rcx & TDX_GPA_LEVEL_MASK, &call->walk))
        return mem_entry_error(call, TDX_EPT_WALK_FAILED);
    if (!sept_entry_lock(leaf, &call->walk))
        return mem_entry_error(call, TDX_OPERAND_BUSY);
    return 0;
}

u64 mem_check_event(struct mem_call *call, enum sept_event event)
{
    if (!sept_state_after(sept_entry_state(call->walk.value), event, &call->next))
        return mem_entry_error(call, TDX_EPT_ENTRY_STATE_INCORRECT);
    return 0;
}

bool epoch_is_past(const struct tdcs *tdcs, u64 epoch)
{
    u64 now = tdcs->td_epoch;
    return epoch + 1 < now || (epoch + 1 == now && !tdcs->epoch_refcount[epoch & 1]);
}

static void mem_report(const struct mem_call *call, enum soft_rule rule)
{
    checker_report(rule, "GPA 0x%llx, level %u, of TD 0x%llx", (unsigned long long)call->walk.gpa,
                   call->walk.level, (unsigned long long)call->td.address);
}

bool mem_is_tracked(const struct mem_call *call, const struct pamt_entry *owned)
{
    const struct tdcs *tdcs = call->td.tdcs;
    if (epoch_is_past(tdcs, owned->epoch))
        return true;
    mem_report(call,
               owned->epoch == tdcs->td_epoch ? SOFT_RULE_TRACK_MISSING : SOFT_RULE_KICK_MISSING);
    return false;
}

u64 mem_check_tracked(const struct mem_call *call, const struct pamt_entry *owned)
{
    if (call->td.tdcs->op_state != TD_RUNNABLE)
        return 0;
    if (!sept_state_is_blocked(sept_entry_state(call->walk.value))) {
        mem_report(call, SOFT_RULE_BLOCK_MISSING);
        return mem_entry_error(call, TDX_GPA_RANGE_NOT_BLOCKED);
    }
    return mem_is_tracked(call, owned) ? 0 : completion(TDX_TLB_TRACKING_NOT_DONE, OPERAND_RCX);
}

struct pamt_entry *mem_lock_owned(const struct mem_call *call, enum lock_mode mode)
{
    bool is_leaf = sept_state_is_leaf(sept_entry_state(call->walk.value));
    return pamt_lock_page(call->leaf, sept_entry_address(call->walk.value),
                          is_leaf ? call->walk.level : LEVEL_4K, mode);
}
