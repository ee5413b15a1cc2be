/* SPDX-License-Identifier: MIT */
#include "boot/x86.h"
#include "tdx/soft/guest_memory.h"
#include "tdx/soft/tdcall.h"
#include "tdx/soft/zero_step.h"

#define ACCEPT_LEVEL_MAX LEVEL_2M
#define ATTR_LEVEL_MAX LEVEL_1G

/* Extended exit qualification of a failed ACCEPT, bits 63:32. */
#define DETAIL_REQUESTED_SHIFT 32
#define DETAIL_LEVEL_SHIFT 35
#define DETAIL_STATE_SHIFT 38
#define DETAIL_LEAF_SHIFT 46

#define ATTR_PENDING (1ull << 62)

/* GPA in 51:12 and level in 2:0, nothing else, aligned to the level, private. */
static bool operand_is_valid(const struct run *run, u64 operand, u32 level_max)
{
    u64 level = operand & TDX_GPA_LEVEL_MASK;
    u64 address = operand & TDX_ADDRESS_MASK;

    return !(operand & ~(TDX_ADDRESS_MASK | TDX_GPA_LEVEL_MASK)) && level <= level_max &&
           is_aligned(address, level_bytes((enum level)level)) &&
           sept_gpa_is_private(run->tdcs, address);
}

static u64 accept_detail(u32 level, const struct sept_walk *walk)
{
    enum sept_state state = sept_entry_state(walk->value);
    u64 is_leaf = sept_state_is_leaf(state) && state != SEPT_FREE;

    return TD_EXIT_DETAIL_ACCEPT | (u64)level << DETAIL_REQUESTED_SHIFT |
           (u64)walk->level << DETAIL_LEVEL_SHIFT | (u64)state << DETAIL_STATE_SHIFT |
           is_leaf << DETAIL_LEAF_SHIFT;
}

u64 tdg_mem_page_accept(struct tdcall *call)
{
    struct run *run = call->run;
    u64 operand = call->gpr[GPR_RCX];
    u64 address = operand & TDX_ADDRESS_MASK;
    u32 level = operand & TDX_GPA_LEVEL_MASK;
    struct sept_walk walk;

    if (!operand_is_valid(run, operand, ACCEPT_LEVEL_MAX))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    switch (sept_accept(call->leaf, &run->td, address, level, &walk)) {
    case SEPT_ACCEPT_DONE:
        zero_step_forget(run->vcpu);
        return 0;
    case SEPT_ACCEPT_BUSY:
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    case SEPT_ACCEPT_ALREADY:
        return completion(TDX_PAGE_ALREADY_ACCEPTED, walk.level);
    case SEPT_ACCEPT_SIZE_MISMATCH:
        return completion(TDX_PAGE_SIZE_MISMATCH, level);
    case SEPT_ACCEPT_INTERRUPTED:
        call->end = TDCALL_REPEATED;
        return 0;
    case SEPT_ACCEPT_FAULT:
        break;
    }
    zero_step_count(run, address);
    td_exit_ept_violation(run, address, EPT_VIOLATION_WRITE, accept_detail(level, &walk));
    call->end = TDCALL_FAULTED;
    return 0;
}

/*
 * The entry of a page, of at least the size of `level`, that the guest may use or accept, or the
 * table in its place; else an EPT violation.
 */
static bool attributes_find(struct tdcall *call, u64 address, u32 level, struct sept_walk *walk)
{
    (void)sept_walk(&call->run->td, address, level, walk);
    enum sept_state state = sept_entry_state(walk->value);
    if (state == SEPT_MAPPED || state == SEPT_PENDING || state == SEPT_NL_MAPPED)
        return true;
    td_exit_ept_violation(call->run, address, 0, TD_EXIT_DETAIL_NONE);
    call->end = TDCALL_FAULTED;
    return false;
}

/* The TD itself has every right to its pages; only L2 VMs, which there are none of, have fewer. */
static u64 attributes_of(u64 address, const struct sept_walk *walk)
{
    u64 pending = sept_entry_state(walk->value) == SEPT_PENDING ? ATTR_PENDING : 0;
    u64 start = align_down(address, level_bytes((enum level)walk->level));
    return start | walk->level | pending;
}

u64 tdg_mem_page_attr_rd(struct tdcall *call)
{
    /* Bits 11:0 are not looked at. */
    u64 operand = call->gpr[GPR_RCX] & ~PAGE_MASK;
    struct sept_walk walk;

    if (!operand_is_valid(call->run, operand, LEVEL_4K)) {
        call->gpr[GPR_RCX] = call->gpr[GPR_RDX] = 0;
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    }
    if (!attributes_find(call, operand, LEVEL_4K, &walk))
        return 0;
    call->gpr[GPR_RCX] = attributes_of(operand, &walk);
    call->gpr[GPR_RDX] = 0;
    return 0;
}

u64 tdg_mem_page_attr_wr(struct tdcall *call)
{
    u64 operand = call->gpr[GPR_RCX];
    u64 address = operand & TDX_ADDRESS_MASK;
    u32 level = operand & TDX_GPA_LEVEL_MASK;
    u64 attributes = call->gpr[GPR_RDX], flags = call->gpr[GPR_R8];
    struct sept_walk walk;
    u64 status = 0;

    if (!operand_is_valid(call->run, operand, ATTR_LEVEL_MAX))
        status = completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    else if (attributes)
        status = completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    else if (flags)
        status = completion(TDX_OPERAND_INVALID, OPERAND_R8);
    else if (!attributes_find(call, address, level, &walk))
        return 0;
    else if (walk.level != level || sept_entry_state(walk.value) == SEPT_NL_MAPPED)
        status = completion(TDX_PAGE_SIZE_MISMATCH, level);
    call->gpr[GPR_RCX] = status ? 0 : attributes_of(address, &walk);
    call->gpr[GPR_RDX] = 0;
    return status;
}

void *tdcall_operand(struct tdcall *call, u64 address, u64 access)
{
    struct run *run = call->run;
    u64 host;

    if (guest_physical_find(run, address, &host))
        return (u8 *)seam_page(host & ~PAGE_MASK) + (host & PAGE_MASK);
    td_exit_ept_violation(run, address, access, TD_EXIT_DETAIL_NONE);
    call->end = TDCALL_FAULTED;
    return NULL;
}
