/* SPDX-License-Identifier: MIT */
/* RANGE.BLOCK, RANGE.UNBLOCK and TRACK: how a translation is known to be in no TLB. */
#include "tdx/soft/sept.h"

#include "boot/assert.h"
#include "tdx/soft/system.h"

static const struct mem_shape block_shape = {LEVEL_4K, LEVEL_ROOT, LOCK_EXCLUSIVE};

static void entry_move(struct mem_call *call)
{
    u64 address = sept_entry_address(call->walk.value);
    sept_entry_set(&call->walk, sept_state_is_leaf(call->next)
                                    ? sept_entry_leaf(address, call->next)
                                    : sept_entry_table(address, call->next));
}

u64 tdh_mem_range_block(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 status = mem_lock_entry(&call, block_shape);
    if (status)
        return status;
    if (sept_state_is_blocked(sept_entry_state(call.walk.value)))
        return mem_entry_error(&call, TDX_GPA_RANGE_ALREADY_BLOCKED);
    status = mem_check_event(&call, SEPT_EVENT_BLOCK);
    if (status)
        return status;
    /* The tree is ours: nobody else can change what the entry points at. */
    struct pamt_entry *owned = mem_lock_owned(&call, LOCK_NONE);
    if (!owned)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    owned->epoch = call.td.tdcs->td_epoch;
    entry_move(&call);
    return 0;
}

u64 tdh_mem_range_unblock(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 status = mem_lock_entry(&call, block_shape);
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_UNBLOCK);
    if (status)
        return status;
    struct pamt_entry *owned = mem_lock_owned(&call, LOCK_NONE);
    if (!owned)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    if (call.td.tdcs->op_state == TD_RUNNABLE && !mem_is_tracked(&call, owned))
        return completion(TDX_TLB_TRACKING_NOT_DONE, OPERAND_SEPT_TREE);
    entry_move(&call);
    return 0;
}

u64 tdh_mem_track(struct leaf *leaf)
{
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_SHARED, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_SHARED);
    if (status)
        return status;
    if (!leaf_lock(leaf, &td.tdcs->epoch_lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_TD_EPOCH);
    if (td.tdcs->epoch_refcount[(td.tdcs->td_epoch - 1) & 1])
        return completion(TDX_PREVIOUS_TLB_EPOCH_BUSY, 0);
    td.tdcs->td_epoch++;
    return 0;
}
