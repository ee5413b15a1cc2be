/* SPDX-License-Identifier: MIT */
/* Measurement of the TD's initial memory: MR.EXTEND and MR.FINALIZE. */
#include "tdx/soft/sept.h"

#include "boot/string.h"

static void measure_chunk(const struct td *td, u64 address, u64 page)
{
    static const char name[] = "MR.EXTEND";
    u8 record[SHA384_BLOCK_BYTES] = {0};
    memcpy(record, name, sizeof name - 1);
    memcpy(record + 16, &address, sizeof address);
    struct sha384 *sha = &td_measured(td)->mrtd_context;
    sha384_update(sha, record, sizeof record);
    sha384_update(sha, (const u8 *)seam_page(page) + (address & PAGE_MASK), TDX_MR_EXTEND_BYTES);
}

u64 tdh_mr_extend(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 status = td_lock(leaf, call.rdx, OPERAND_RDX, LOCK_EXCLUSIVE, &call.td);
    if (!status)
        status = td_check_state(leaf, &call.td, LOCK_NONE);
    if (status)
        return status;
    if (!is_aligned(call.rcx, TDX_MR_EXTEND_BYTES) || !sept_gpa_is_private(call.td.tdcs, call.rcx))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    sept_walk(&call.td, call.rcx, LEVEL_4K, &call.walk);
    if (sept_entry_state(call.walk.value) != SEPT_MAPPED)
        return mem_entry_error(&call, TDX_EPT_ENTRY_NOT_PRESENT);
    u64 inside = call.rcx & ((PAGE_BYTES << TABLE_SHIFT * call.walk.level) - PAGE_BYTES);
    measure_chunk(&call.td, call.rcx, sept_entry_address(call.walk.value) + inside);
    return 0;
}

u64 tdh_mr_finalize(struct leaf *leaf)
{
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_EXCLUSIVE, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_NONE);
    if (status)
        return status;
    if (!td.tdcs->num_vcpus)
        return completion(TDX_NO_VCPUS, 0);
    sha384_finish(&td_measured(&td)->mrtd_context, td.tdcs->mrtd);
    td.tdcs->op_state = TD_RUNNABLE;
    return 0;
}
