/* SPDX-License-Identifier: MIT */
/* Events that the next VM entry delivers. The queue is the VMCS's one slot. */
#include "boot/x86.h"
#include "tdx/soft/run.h"

/* Bits of the IDT-vectoring information that an entry may give back. */
#define VECTORING_REUSED (INTR_VALID | INTR_VECTOR_MASK | INTR_TYPE_MASK | INTR_HAS_ERROR_CODE)

void event_recover(void)
{
    u64 info = seam_vmcs_read(VMCS_IDT_VECTORING_INFO);
    if (!(info & INTR_VALID)) {
        seam_vmcs_write(VMCS_ENTRY_INTR_INFO, 0);
        return;
    }
    seam_vmcs_write(VMCS_ENTRY_INTR_INFO, info & VECTORING_REUSED);
    seam_vmcs_write(VMCS_ENTRY_ERROR_CODE, seam_vmcs_read(VMCS_IDT_VECTORING_ERROR_CODE));
    seam_vmcs_write(VMCS_ENTRY_INSTRUCTION_LEN, seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    /* An NMI that is delivered again must not find itself blocked by its first delivery. */
    if ((info & INTR_TYPE_MASK) == INTR_TYPE_NMI)
        seam_vmcs_write(VMCS_GUEST_INTERRUPTIBILITY,
                        seam_vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKED_BY_NMI);
}

bool event_is_queued(void)
{
    return seam_vmcs_read(VMCS_ENTRY_INTR_INFO) & INTR_VALID;
}

void event_exception(u8 vector)
{
    seam_vmcs_write(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_EXCEPTION | vector);
}

void event_exception_code(u8 vector, u32 error_code)
{
    seam_vmcs_write(VMCS_ENTRY_INTR_INFO,
                    INTR_VALID | INTR_TYPE_EXCEPTION | INTR_HAS_ERROR_CODE | vector);
    seam_vmcs_write(VMCS_ENTRY_ERROR_CODE, error_code);
}

enum outcome event_virtualization(struct run *run, const struct ve_report *report)
{
    struct tdvps *vcpu = run->vcpu;

    /* In the middle of another event's delivery there is no going back to it: also a #DF. */
    if (vcpu->ve.valid || event_is_queued()) {
        event_exception_code(VECTOR_DF, 0);
        return OUTCOME_RESUME;
    }
    vcpu->ve.reason = report->reason;
    vcpu->ve.qualification = report->qualification;
    vcpu->ve.gla = report->gla;
    vcpu->ve.gpa = report->gpa;
    vcpu->ve.instruction_length = (u32)seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN);
    vcpu->ve.instruction_info = (u32)seam_vmcs_read(VMCS_EXIT_INSTRUCTION_INFO);
    vcpu->ve.valid = 0xffffffff;
    seam_vmcs_write(VMCS_GUEST_RFLAGS, seam_vmcs_read(VMCS_GUEST_RFLAGS) | RFLAGS_RF);
    event_exception(VECTOR_VE);
    return OUTCOME_RESUME;
}

static void nmi_window_set(u64 window)
{
    u64 controls = seam_vmcs_read(VMCS_PROC_CONTROLS);
    if ((controls & PROC_NMI_WINDOW) != window)
        seam_vmcs_write(VMCS_PROC_CONTROLS, (controls & ~(u64)PROC_NMI_WINDOW) | window);
}

void event_nmi_prepare(struct run *run)
{
    /* While a #VE report waits, a second #VE in the NMI handler would be a #DF: hold it off. */
    bool wanted = run->vcpu->pend_nmi && !run->vcpu->ve.valid;
    nmi_window_set(wanted ? PROC_NMI_WINDOW : 0);
}

void event_nmi_inject(struct run *run)
{
    if (!run->vcpu->pend_nmi || run->vcpu->ve.valid || event_is_queued())
        return;
    run->vcpu->pend_nmi = 0;
    seam_vmcs_write(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_NMI | VECTOR_NMI);
}
