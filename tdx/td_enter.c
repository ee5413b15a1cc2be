/* SPDX-License-Identifier: MIT */
#include "tdx/td_parts.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/vmx.h"
#include "tdx/seamcall_once.h"

#define WHERE_BYTES 64
#define REASON_MASK 0xffffu
#define DETAIL_MASK 0xfu
/* TD_EXIT_DETAIL_ACCEPT, in the extended exit qualification. */
#define ACCEPT_LEVEL_SHIFT 32
#define ACCEPT_LEVEL_MASK 7u

static enum td_exit_kind reason_kind(const struct td_exit *exit)
{
    switch (exit->reason) {
    case EXIT_TDCALL:
        return TD_EXIT_VMCALL;
    case EXIT_EPT_VIOLATION:
        return TD_EXIT_EPT_VIOLATION;
    case EXIT_EPT_MISCONFIGURATION:
        return TD_EXIT_EPT_MISCONFIGURATION;
    case EXIT_EXTERNAL_INTERRUPT:
        return TD_EXIT_INTERRUPT;
    case EXIT_EXCEPTION_OR_NMI:
        return (exit->interrupt_info & INTR_TYPE_MASK) == INTR_TYPE_NMI ? TD_EXIT_NMI
                                                                        : TD_EXIT_OTHER;
    default:
        return TD_EXIT_OTHER;
    }
}

static enum td_exit_kind status_kind(const struct td_exit *exit)
{
    if (tdx_status_is_busy(exit->status))
        return TD_EXIT_RETRY;
    if (tdx_status_code(exit->status) == TDX_NON_RECOVERABLE_VCPU &&
        exit->reason == EXIT_TRIPLE_FAULT)
        return TD_EXIT_TRIPLE_FAULT;
    if (exit->status.raw & (TDX_STATUS_ERROR | TDX_STATUS_NON_RECOVERABLE))
        return TD_EXIT_DEAD;
    return reason_kind(exit);
}

__attribute__((noinline)) static void exit_log(const struct td_vcpu *vcpu, struct tdx_status status)
{
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "vCPU %u", vcpu->index);
    (void)tdx_status_error(status, TDH_VP_ENTER, where);
}

/* Writes each field for itself: a structure that is cleared first costs more than all of this. */
static inline void exit_decode(const struct td_vcpu *vcpu, struct tdx_status status,
                               struct td_exit *exit)
{
    const u64 *gpr = vcpu->regs.gpr;
    exit->status = status;
    exit->reason = (u32)status.raw & REASON_MASK;
    /* After a TDVMCALL the registers are the guest's, not a description of the exit. */
    if (status.raw == EXIT_TDCALL) {
        exit->kind = TD_EXIT_VMCALL;
        return;
    }
    exit->qualification = (u32)gpr[GPR_RCX];
    exit->detail = gpr[GPR_RDX] & DETAIL_MASK;
    exit->accept_level = gpr[GPR_RDX] >> ACCEPT_LEVEL_SHIFT & ACCEPT_LEVEL_MASK;
    exit->address = gpa(gpr[GPR_R8]);
    exit->interrupt_info = (u32)gpr[GPR_R9];
    if (status.raw == EXIT_EPT_VIOLATION) {
        exit->kind = TD_EXIT_EPT_VIOLATION;
        return;
    }
    exit->kind = status_kind(exit);
    if (exit->kind == TD_EXIT_DEAD)
        exit_log(vcpu, status);
}

/* Nothing was entered; the same registers go in the next time. */
static void exit_retry(struct td_exit *exit)
{
    *exit = (struct td_exit){.status = {(u64)TDX_OPERAND_BUSY << 32}, .kind = TD_EXIT_RETRY};
}

void td_vcpu_enter(struct td_vcpu *vcpu, struct td_exit *exit)
{
    bool is_here = vcpu->cpu == (i32)cpu_this()->index;
    enum error error = is_here ? OK : td_vcpu_move(vcpu);
    if (error == ERR_BUSY) {
        exit_retry(exit);
        return;
    }
    if (error || atomic_load(&vcpu->td->broken)) {
        /* Logged where it arose. Without its last processor's leave a vCPU can run nowhere. */
        *exit =
            (struct td_exit){.status = {(u64)TDX_NON_RECOVERABLE_TD << 32}, .kind = TD_EXIT_DEAD};
        return;
    }
    /*
     * Who holds vCPUs back sets `held` and then looks at in_guest; we do it the other way round,
     * so at least one of us sees the other.
     */
    atomic_store(&vcpu->in_guest, true);
    if (atomic_load(&vcpu->td->held)) {
        atomic_store(&vcpu->in_guest, false);
        exit_retry(exit);
        return;
    }
    if (vcpu->wants_notification)
        td_vcpu_notify_self(vcpu);
    vcpu->regs.gpr[GPR_RCX] = vcpu->tdvpr.raw;
    vcpu->regs.gpr[GPR_RAX] = TDH_VP_ENTER;
    struct tdx_status status =
        seamcall_once(TDH_VP_ENTER, false, (union seamcall_registers){.all = &vcpu->regs});
    atomic_fetch_add(&vcpu->exits, 1);
    atomic_store(&vcpu->in_guest, false);
    exit_decode(vcpu, status, exit);
}
