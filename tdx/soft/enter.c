/* SPDX-License-Identifier: MIT */
/* TDH.VP.ENTER: into the guest and out of it again. */
#include "boot/log.h"
#include "tdx/soft/guest_memory.h"
#include "tdx/soft/platform_check.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/run.h"
#include "tdx/soft/vcpu.h"
#include "tdx/soft/vmcs_init.h"
#include "tdx/soft/zero_step.h"

#define OPERAND_HINT (1ull << 52)
#define OPERAND_RESUME_L1 (1ull << 53)
#define OPERAND_DEFINED (TDX_ADDRESS_MASK | OPERAND_HINT | OPERAND_RESUME_L1)

#define VMCALL_XMM_SHIFT 16
#define REASON_ENTRY_FAILURE (1u << 31)

/* Everything that TDH.VP.ENTER may be refused for before it looks at TLB and zero-stepping. */
static u64 operands_check(struct run *run, enum association *association)
{
    struct leaf *leaf = run->leaf;
    u64 rcx = leaf->regs->gpr[GPR_RCX];

    u64 status = cpuid_limit_check();
    if (status)
        return status;
    if (rcx & ~OPERAND_DEFINED)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    status =
        vcpu_lock(leaf, rcx & TDX_ADDRESS_MASK, OPERAND_RCX, LOCK_SHARED, &run->vcpu, &run->td);
    if (!status)
        status = td_check_state(leaf, &run->td, LOCK_SHARED);
    if (status)
        return status;
    run->tdcs = run->td.tdcs;
    run->measured = td_measured(&run->td);
    if (run->vcpu->num_pages < vcpu_pages(run->tdcs))
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    if (run->vcpu->state != VCPU_READY)
        return completion(TDX_VCPU_STATE_INCORRECT, 0);
    status = vcpu_associate(run->vcpu, run->tdcs, association);
    if (status)
        return status;
    /* There are no L2 VMs to come from. */
    if (((rcx & OPERAND_HINT) && !run->vcpu->last_exit_was_trap) || (rcx & OPERAND_RESUME_L1))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    status = tsc_adjust_check();
    if (!status && (i64)(seam_tsc() - run->vcpu->last_exit_tsc) < 0)
        status = completion(TDX_TSC_ROLLBACK, 0);
    return status;
}

enum zero_step_verdict {
    ZERO_STEP_NONE,
    ZERO_STEP_BUSY,
    ZERO_STEP_REFUSED, /* run->regs holds the violation that the VMM has to serve first */
};

static enum zero_step_verdict zero_step_check(struct run *run)
{
    u64 missing;

    if (!zero_step_is_suspected(run->vcpu))
        return ZERO_STEP_NONE;
    if (!leaf_lock(run->leaf, &run->tdcs->sept_lock, LOCK_EXCLUSIVE))
        return ZERO_STEP_BUSY;
    bool served = zero_step_is_served(run, &missing);
    leaf_unlock(run->leaf, &run->tdcs->sept_lock);
    if (served) {
        zero_step_notify(run);
        return ZERO_STEP_NONE;
    }
    td_exit_ept_violation(run, missing, EPT_VIOLATION_WRITE, TD_EXIT_DETAIL_NONE);
    return ZERO_STEP_REFUSED;
}

static void shared_entry_copy(u64 *to, u64 entry)
{
    if (__atomic_load_n(to, __ATOMIC_RELAXED) != entry)
        __atomic_store_n(to, entry, __ATOMIC_RELAXED);
}

/*
 * One EPT serves private and shared addresses: the entries that lie behind the SHARED bit are the
 * VMM's, taken over at each entry. They are in the root, or, where a 5-level EPT holds 48-bit
 * addresses, in the table behind the root's first entry. Other vCPUs may do the same, and the VMM
 * may change its entries at the same time: each entry is read and written whole, and only where
 * it differs.
 */
static void shared_half_copy(const struct run *run)
{
    u32 level = sept_root_level(run->tdcs);
    u64 eptp = shared_eptp(run), from_table = eptp & TDX_ADDRESS_MASK;
    u64 to_table = td_sept_root(&run->td);

    if (run->tdcs->gpa_bits <= PAGE_SHIFT + TABLE_SHIFT * level) {
        struct sept_walk walk;
        if (!sept_walk(&run->td, 0, level - 1, &walk))
            return;
        const u64 *root = seam_page(to_table), *from_root = eptp ? seam_page(from_table) : NULL;
        to_table = sept_entry_address(root[0]);
        from_table = from_root && from_root[0] & EPT_RWX ? from_root[0] & TDX_ADDRESS_MASK : 0;
        level--;
    }
    u32 shift = PAGE_SHIFT + TABLE_SHIFT * level;
    u64 limit = 1ull << (run->tdcs->gpa_bits - shift);
    const u64 *from = from_table ? seam_page(from_table) : NULL;
    u64 *to = seam_page(to_table);
    for (u64 i = gpa_shared_bit(run->tdcs) >> shift; i < limit; i++)
        shared_entry_copy(&to[i], from ? __atomic_load_n(&from[i], __ATOMIC_RELAXED) : 0);
}

/* What the VMM answers to the guest's TDG.VP.VMCALL. */
static void vmcall_finish(struct run *run)
{
    struct tdvps *vcpu = run->vcpu;
    u64 mask = vcpu->vmcall_mask;

    if (!vcpu->last_exit_was_vmcall)
        return;
    for (u32 i = 0; i < GPR_COUNT; i++)
        if (mask >> i & 1)
            vcpu->gpr[i] = run->regs->gpr[i];
    vcpu->gpr[GPR_RAX] = 0;
    vcpu->gpr[GPR_RCX] = mask;
    processor_xmm_take(vcpu, (u16)(mask >> VMCALL_XMM_SHIFT));
    vcpu->last_exit_was_vmcall = false;
}

/* After a trap-like exit the guest's status says whether the VMM thinks that it can help. */
static void trap_finish(struct run *run)
{
    struct tdvps *vcpu = run->vcpu;

    if (!vcpu->last_exit_was_trap)
        return;
    vcpu->gpr[GPR_RAX] &= ~TDX_STATUS_HOST_HINT;
    if (run->regs->gpr[GPR_RCX] & OPERAND_HINT)
        vcpu->gpr[GPR_RAX] |= TDX_STATUS_HOST_HINT;
    vcpu->last_exit_was_trap = false;
}

static void guest_run(struct run *run)
{
    enum outcome outcome;

    do {
        interrupts_take_posted(run->vcpu);
        event_nmi_prepare(run);
        interrupts_prepare(run->vcpu);
        zero_step_enter(run);
        bool entered = seam_run_guest(run->vcpu);
        zero_step_leave(run);
        interrupts_collect(run->vcpu);
        if (entered)
            outcome = exit_handle(run);
        else
            outcome = td_exit_fatal(run, TDX_NON_RECOVERABLE_TD,
                                    REASON_ENTRY_FAILURE | EXIT_ENTRY_FAILURE_GUEST_STATE);
    } while (outcome == OUTCOME_RESUME);
}

static void guest_enter(struct run *run)
{
    struct tdvps *vcpu = run->vcpu;
    u64 xfam = run->tdcs->xfam;

    vcpu->state = VCPU_ACTIVE;
    leaf_unlock(run->leaf, &run->tdcs->op_state_lock);
    shared_half_copy(run);
    vmcall_finish(run);
    trap_finish(run);
    processor_host_fields_write();
    if (vmcs_timer_is_supported())
        seam_vmcs_write(VMCS_PREEMPTION_TIMER, INTERRUPT_POLL_TICKS);
    processor_state_load(vcpu, xfam);
    guest_run(run);
    processor_state_save(vcpu, xfam, run->xmm_mask);
    epoch_leave(run->tdcs, vcpu->vcpu_epoch);
    if (vcpu->state == VCPU_ACTIVE)
        vcpu->state = VCPU_READY;
}

u64 tdh_vp_enter(struct leaf *leaf)
{
    struct run run = {.leaf = leaf, .regs = leaf->regs};
    enum association association;

    u64 status = operands_check(&run, &association);
    if (status)
        return status;
    u64 last_epoch = run.vcpu->vcpu_epoch, epoch;
    if (!epoch_enter(run.tdcs, &epoch))
        return completion(TDX_OPERAND_BUSY, OPERAND_TD_EPOCH);
    switch (zero_step_check(&run)) {
    case ZERO_STEP_BUSY:
        epoch_leave(run.tdcs, epoch);
        return completion(TDX_OPERAND_BUSY, OPERAND_SEPT_TREE);
    case ZERO_STEP_REFUSED:
        epoch_leave(run.tdcs, epoch);
        return leaf->regs->gpr[GPR_RAX];
    case ZERO_STEP_NONE:
        break;
    }
    run.vcpu->vcpu_epoch = epoch;
    if (association == ASSOCIATION_NEW || last_epoch != epoch)
        seam_invept(run.tdcs->eptp);
    guest_enter(&run);
    return leaf->regs->gpr[GPR_RAX];
}
