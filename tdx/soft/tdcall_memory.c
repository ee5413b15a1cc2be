/* SPDX-License-Identifier: MIT */
/* TDG.MEM.PAGE.*: pages of its own that a TD accepts, and their attributes for its L2 VMs. */
#include "boot/vmx.h"
#include "tdx/soft/sept.h"
#include "tdx/soft/tdcall.h"
#include "tdx/soft/zero_step.h"

#define ACCEPT_LEVEL_MAX LEVEL_2M
#define ATTR_LEVEL_MAX LEVEL_1G

/* Extended exit qualification of a failed ACCEPT or ATTR.WR, bits 63:32. */
#define DETAIL_REQUESTED_SHIFT 32
#define DETAIL_LEVEL_SHIFT 35
#define DETAIL_STATE_SHIFT 38
#define DETAIL_LEAF_SHIFT 46
#define QUALIFICATION_RIGHTS_SHIFT 3

#define ATTR_PENDING (1ull << 62)

/* Attributes and flags have 16 bits for each VM; VM 0 is the TD itself. */
#define ATTR_VM_SHIFT 16
#define ATTR_VM_MASK 0xffffull
#define ATTR_VMS 4
#define ATTR_VALID (1ull << 15)
#define ATTR_RIGHTS 0xfull

/* GPA in 51:12 and level in 2:0, nothing else, aligned to the level, private. */
static bool operand_is_valid(const struct run *run, u64 operand, u32 level_max)
{
    u64 level = operand & TDX_GPA_LEVEL_MASK;
    u64 address = operand & TDX_ADDRESS_MASK;

    return !(operand & ~(TDX_ADDRESS_MASK | TDX_GPA_LEVEL_MASK)) && level <= level_max &&
           is_aligned(address, level_bytes((enum level)level)) &&
           sept_gpa_is_private(run->tdcs, address);
}

/* A TD exit: the VMM serves the page, then the guest makes the call again. */
static u64 entry_fault(struct tdcall *call, const struct sept_walk *walk, enum td_exit_detail type)
{
    u64 operand = call->gpr[GPR_RCX];
    enum sept_state state = sept_entry_state(walk->value);
    u64 is_leaf = sept_state_is_leaf(state) && state != SEPT_FREE;
    u64 detail = type | (operand & TDX_GPA_LEVEL_MASK) << DETAIL_REQUESTED_SHIFT |
                 (u64)walk->level << DETAIL_LEVEL_SHIFT | (u64)state << DETAIL_STATE_SHIFT |
                 is_leaf << DETAIL_LEAF_SHIFT;
    u64 rights = (walk->value & EPT_RWX) << QUALIFICATION_RIGHTS_SHIFT;

    td_exit_ept_violation(call->run, operand & TDX_ADDRESS_MASK, EPT_VIOLATION_WRITE | rights,
                          detail);
    call->end = TDCALL_FAULTED;
    return 0;
}

static u64 page_accept(struct tdcall *call)
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
    return entry_fault(call, &walk, TD_EXIT_DETAIL_ACCEPT);
}

u64 tdg_mem_page_accept(struct tdcall *call)
{
    u64 status = page_accept(call);
    /* Whatever the answer, the guest got one. */
    if (call->end == TDCALL_COMPLETED)
        zero_step_forget(call->run->vcpu);
    return status;
}

static bool entry_has_attributes(const struct sept_walk *walk)
{
    enum sept_state state = sept_entry_state(walk->value);
    return state == SEPT_MAPPED || state == SEPT_PENDING;
}

/* Of the page that holds an address. The TD itself has every right to it, which reads as 0. */
static u64 attributes_of(u64 address, const struct sept_walk *walk)
{
    u64 pending = sept_entry_state(walk->value) == SEPT_PENDING ? ATTR_PENDING : 0;
    u64 start = align_down(address, level_bytes((enum level)walk->level));
    return start | walk->level | pending;
}

static u64 attributes_refuse(struct tdcall *call, u64 status)
{
    call->gpr[GPR_RCX] = call->gpr[GPR_RDX] = 0;
    return status;
}

u64 tdg_mem_page_attr_rd(struct tdcall *call)
{
    /* Bits 11:0 are not looked at. */
    u64 address = call->gpr[GPR_RCX] & ~PAGE_MASK;
    struct sept_walk walk;

    if (!operand_is_valid(call->run, address, LEVEL_4K))
        return attributes_refuse(call, completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    (void)sept_walk(&call->run->td, address, LEVEL_4K, &walk);
    if (!sept_entry_lock(call->leaf, &walk))
        return attributes_refuse(call, completion(TDX_OPERAND_BUSY, OPERAND_RCX));
    if (!entry_has_attributes(&walk)) {
        td_exit_ept_violation(call->run, address, 0, TD_EXIT_DETAIL_NONE);
        call->end = TDCALL_FAULTED;
        return 0;
    }
    call->gpr[GPR_RCX] = attributes_of(address, &walk);
    call->gpr[GPR_RDX] = 0;
    return 0;
}

/* VM by VM: what there is no VM for must be 0, the others' attributes must say that they are. */
static u64 attributes_check(const struct tdcs *tdcs, u64 attributes, u64 flags)
{
    for (u32 vm = 0; vm < ATTR_VMS; vm++) {
        u64 wanted = attributes >> ATTR_VM_SHIFT * vm & ATTR_VM_MASK;
        bool is_there = vm && vm <= tdcs->num_l2_vms;
        if (wanted && !(is_there && (wanted & ATTR_VALID)))
            return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
        if (!is_there && (flags >> ATTR_VM_SHIFT * vm & ATTR_VM_MASK))
            return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    }
    return 0;
}

/* The module keeps no secure EPT of L2 VMs: the walk of one ends in its root. */
static u64 l2_alias_check(const struct tdcs *tdcs, u64 attributes, u64 flags)
{
    for (u32 vm = 1; vm <= tdcs->num_l2_vms; vm++) {
        u64 wanted = attributes >> ATTR_VM_SHIFT * vm, mask = flags >> ATTR_VM_SHIFT * vm;
        if ((wanted & ATTR_VALID) && (wanted & mask & ATTR_RIGHTS))
            return completion(TDX_L2_SEPT_WALK_FAILED, vm << 16 | sept_root_level(tdcs));
    }
    return 0;
}

u64 tdg_mem_page_attr_wr(struct tdcall *call)
{
    const struct tdcs *tdcs = call->run->tdcs;
    u64 operand = call->gpr[GPR_RCX], attributes = call->gpr[GPR_RDX], flags = call->gpr[GPR_R8];
    u64 address = operand & TDX_ADDRESS_MASK;
    struct sept_walk walk;

    u64 status = attributes_check(tdcs, attributes, flags);
    if (!status && !operand_is_valid(call->run, operand, ATTR_LEVEL_MAX))
        status = completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (status)
        return attributes_refuse(call, status);
    if (!sept_walk(&call->run->td, address, operand & TDX_GPA_LEVEL_MASK, &walk))
        return entry_fault(call, &walk, TD_EXIT_DETAIL_ATTR_WR);
    if (!sept_entry_lock(call->leaf, &walk))
        return attributes_refuse(call, completion(TDX_OPERAND_BUSY, OPERAND_RCX));
    if (sept_state_is_table(sept_entry_state(walk.value)))
        return attributes_refuse(call, completion(TDX_PAGE_SIZE_MISMATCH, walk.level));
    if (!entry_has_attributes(&walk))
        return entry_fault(call, &walk, TD_EXIT_DETAIL_ATTR_WR);
    status = l2_alias_check(tdcs, attributes, flags);
    if (status)
        return attributes_refuse(call, status);
    call->gpr[GPR_RCX] = attributes_of(address, &walk);
    return 0;
}
