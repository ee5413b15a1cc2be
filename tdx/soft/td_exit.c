/* SPDX-License-Identifier: MIT */
/* What TDH.VP.ENTER returns in the VMM's registers. */
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/soft/run.h"

/* Bits of an EPT violation's qualification that the VMM may see: access and permissions. */
#define QUALIFICATION_VISIBLE 0x3full

#define VMCALL_GPR_MASK 0xffffull
#define VMCALL_XMM_SHIFT 16
#define DETAIL_TYPE_MASK 0xfull

static bool rbp_is_kept(const struct run *run)
{
    return run->tdcs->config_flags & TD_CONFIG_NO_RBP_MOD;
}

/* Every register but RSP is an output: nothing of the guest's may shine through. */
static void registers_clear(struct run *run)
{
    u64 rbp = run->regs->gpr[GPR_RBP];
    memset(run->regs, 0, sizeof *run->regs);
    if (rbp_is_kept(run))
        run->regs->gpr[GPR_RBP] = rbp;
}

enum outcome td_exit_asynchronous(struct run *run, enum tdx_status_code status_code, u32 reason)
{
    u32 basic = reason & 0xffff;

    registers_clear(run);
    run->regs->gpr[GPR_RAX] = completion(status_code, reason);
    run->regs->gpr[GPR_RCX] = (u32)seam_vmcs_read(VMCS_EXIT_QUALIFICATION);
    if (basic == EXIT_EXCEPTION_OR_NMI || basic == EXIT_EXTERNAL_INTERRUPT)
        run->regs->gpr[GPR_R9] = (u32)seam_vmcs_read(VMCS_EXIT_INTR_INFO);
    return OUTCOME_EXIT;
}

enum outcome td_exit_ept_violation(struct run *run, u64 address, u64 qualification, u64 detail)
{
    registers_clear(run);
    run->regs->gpr[GPR_RAX] = completion(TDX_SUCCESS, EXIT_EPT_VIOLATION);
    run->regs->gpr[GPR_RCX] = qualification & QUALIFICATION_VISIBLE;
    run->regs->gpr[GPR_RDX] = detail;
    run->regs->gpr[GPR_R8] = address & ~PAGE_MASK;
    return OUTCOME_EXIT;
}

enum outcome td_exit_ept_misconfiguration(struct run *run, u64 address)
{
    registers_clear(run);
    run->regs->gpr[GPR_RAX] = completion(TDX_SUCCESS, EXIT_EPT_MISCONFIGURATION);
    run->regs->gpr[GPR_R8] = address & ~PAGE_MASK;
    return OUTCOME_EXIT;
}

enum outcome td_exit_vmcall(struct run *run)
{
    u64 mask = run->vcpu->gpr[GPR_RCX];

    registers_clear(run);
    for (u32 i = 0; i < GPR_COUNT; i++)
        if (mask >> i & 1)
            run->regs->gpr[i] = run->vcpu->gpr[i];
    run->regs->gpr[GPR_RAX] = completion(TDX_SUCCESS, EXIT_TDCALL);
    run->regs->gpr[GPR_RCX] = mask;
    run->xmm_mask = (u16)(mask >> VMCALL_XMM_SHIFT);
    run->vcpu->last_exit_was_vmcall = true;
    run->vcpu->vmcall_mask = mask;
    return OUTCOME_EXIT;
}

enum outcome td_exit_trap(struct run *run, enum tdx_status_code status_code)
{
    registers_clear(run);
    run->regs->gpr[GPR_RAX] = completion(status_code, 0);
    run->vcpu->last_exit_was_trap = true;
    return OUTCOME_EXIT;
}

enum outcome td_exit_fatal(struct run *run, enum tdx_status_code status_code, u32 reason)
{
    if (status_code == TDX_NON_RECOVERABLE_VCPU)
        run->vcpu->state = VCPU_DISABLED;
    else
        td_make_fatal(&run->td);
    return td_exit_asynchronous(run, status_code, reason);
}
