/* SPDX-License-Identifier: MIT */
#include "tdx/soft/vmcs_init.h"

#include "boot/msr.h"
#include "boot/x86.h"
#include "tdx/soft/processor.h"

#define VMX_BASIC_TRUE_CONTROLS (1ull << 55)

/* A control word: what must be there, what is taken where the processor has it. */
static const struct control {
    u32 field;
    u32 msr, true_msr;
    u32 required, wanted;
} controls[] = {
    {VMCS_PIN_CONTROLS, MSR_VMX_PINBASED_CTLS, MSR_VMX_TRUE_PINBASED_CTLS,
     PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMI, PIN_PREEMPTION_TIMER},
    {VMCS_PROC_CONTROLS, MSR_VMX_PROCBASED_CTLS, MSR_VMX_TRUE_PROCBASED_CTLS,
     PROC_TSC_OFFSETTING | PROC_HLT | PROC_MWAIT | PROC_MONITOR | PROC_TPR_SHADOW |
         PROC_UNCONDITIONAL_IO | PROC_MSR_BITMAPS | PROC_SECONDARY,
     0},
    {VMCS_PROC_CONTROLS2, MSR_VMX_PROCBASED_CTLS2, MSR_VMX_PROCBASED_CTLS2,
     PROC2_EPT | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED | PROC2_X2APIC |
         PROC2_APIC_REGISTERS | PROC2_VIRTUAL_INTERRUPTS | PROC2_TSC_SCALING,
     PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES},
    {VMCS_EXIT_CONTROLS, MSR_VMX_EXIT_CTLS, MSR_VMX_TRUE_EXIT_CTLS,
     EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTERRUPT | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
         EXIT_SAVE_EFER | EXIT_LOAD_EFER,
     EXIT_SAVE_PREEMPTION_TIMER},
    {VMCS_ENTRY_CONTROLS, MSR_VMX_ENTRY_CTLS, MSR_VMX_TRUE_ENTRY_CTLS,
     ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, 0},
};

/* Bits 31:0 of a capability MSR must be 1, bits 63:32 may be. */
static u64 control_capability(const struct control *control)
{
    bool has_true = processor_msr_read(MSR_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS;
    return processor_msr_read(has_true ? control->true_msr : control->msr);
}

static u32 control_value(const struct control *control)
{
    u64 capability = control_capability(control);
    u32 allowed = (u32)(capability >> 32);
    return ((control->required | control->wanted) & allowed) | (u32)capability;
}

bool vmcs_controls_are_supported(struct vmcs_missing *missing)
{
    for (u32 i = 0; i < ARRAY_LENGTH(controls); i++) {
        u32 allowed = (u32)(control_capability(&controls[i]) >> 32);
        if (controls[i].required & ~allowed) {
            *missing = (struct vmcs_missing){controls[i].msr, controls[i].required & ~allowed};
            return false;
        }
    }
    return true;
}

bool vmcs_timer_is_supported(void)
{
    return control_value(&controls[0]) & PIN_PREEMPTION_TIMER;
}

#define CR0_DEFINED 0xe005003full
#define CR4_BIT_15 (1ull << 15)
#define CR4_KEY_LOCKER (1ull << 19)
#define CR4_PKE (1ull << 22)
#define CR4_CET (1ull << 23)
#define CR4_PKS (1ull << 24)
#define CR4_UINTR (1ull << 25)
#define CR4_ABOVE_25 (~0ull << 26)
#define XFAM_PKRU (1ull << 9)
#define XFAM_CET (3ull << 11)
#define XFAM_ULI (1ull << 14)

u64 vmcs_cr0_mask(void)
{
    /* PE and PG are fixed to 1 without "unrestricted guest" only. */
    u64 fixed0 = processor_msr_read(MSR_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG);
    u64 fixed1 = processor_msr_read(MSR_VMX_CR0_FIXED1);
    return CR0_PE | CR0_NE | CR0_NW | CR0_CD | ~CR0_DEFINED | fixed0 | (CR0_DEFINED & ~fixed1);
}

u64 vmcs_cr4_refused(const struct tdcs *tdcs)
{
    return CR4_KEY_LOCKER | (tdcs->xfam & XFAM_PKRU ? 0 : CR4_PKE) |
           ((tdcs->xfam & XFAM_CET) == XFAM_CET ? 0 : CR4_CET) |
           (tdcs->xfam & XFAM_ULI ? 0 : CR4_UINTR) |
           (tdcs->attributes & TD_ATTRIBUTE_PKS ? 0 : CR4_PKS);
}

u64 vmcs_cr4_mask(const struct tdcs *tdcs)
{
    u64 mask = CR4_MCE | CR4_LA57 | CR4_VMXE | CR4_SMXE | CR4_BIT_15 | CR4_ABOVE_25;
    mask |= processor_msr_read(MSR_VMX_CR4_FIXED0) | ~processor_msr_read(MSR_VMX_CR4_FIXED1);
    return mask | vmcs_cr4_refused(tdcs);
}

#define SEGMENT_CODE_32 0xc09b
#define SEGMENT_DATA_32 0xc093
#define SEGMENT_LDT_UNUSABLE 0x10082
#define SEGMENT_TASK_BUSY 0x8b
#define LIMIT_4G 0xffffffffu
#define LIMIT_64K 0xffffu
#define RESET_RIP 0xfffffff0ull
#define RESET_DR7 0x400ull
#define RESET_PAT 0x0007040600070406ull

/* What does not depend on TD, vCPU or processor. Fields that are 0 and stay so are here too. */
static const struct constant {
    u32 field;
    u64 value;
} constants[] = {
    {VMCS_GUEST_CS_ACCESS, SEGMENT_CODE_32},
    {VMCS_GUEST_DS_ACCESS, SEGMENT_DATA_32},
    {VMCS_GUEST_ES_ACCESS, SEGMENT_DATA_32},
    {VMCS_GUEST_FS_ACCESS, SEGMENT_DATA_32},
    {VMCS_GUEST_GS_ACCESS, SEGMENT_DATA_32},
    {VMCS_GUEST_SS_ACCESS, SEGMENT_DATA_32},
    {VMCS_GUEST_LDTR_ACCESS, SEGMENT_LDT_UNUSABLE},
    {VMCS_GUEST_TR_ACCESS, SEGMENT_TASK_BUSY},
    {VMCS_GUEST_CS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_DS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_ES_LIMIT, LIMIT_4G},
    {VMCS_GUEST_FS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_GS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_SS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_LDTR_LIMIT, LIMIT_64K},
    {VMCS_GUEST_TR_LIMIT, LIMIT_64K},
    {VMCS_GUEST_GDTR_LIMIT, LIMIT_64K},
    {VMCS_GUEST_IDTR_LIMIT, 0},
    {VMCS_GUEST_CS_SELECTOR, 0},
    {VMCS_GUEST_DS_SELECTOR, 0},
    {VMCS_GUEST_ES_SELECTOR, 0},
    {VMCS_GUEST_FS_SELECTOR, 0},
    {VMCS_GUEST_GS_SELECTOR, 0},
    {VMCS_GUEST_SS_SELECTOR, 0},
    {VMCS_GUEST_LDTR_SELECTOR, 0},
    {VMCS_GUEST_TR_SELECTOR, 0},
    {VMCS_GUEST_CS_BASE, 0},
    {VMCS_GUEST_DS_BASE, 0},
    {VMCS_GUEST_ES_BASE, 0},
    {VMCS_GUEST_FS_BASE, 0},
    {VMCS_GUEST_GS_BASE, 0},
    {VMCS_GUEST_SS_BASE, 0},
    {VMCS_GUEST_LDTR_BASE, 0},
    {VMCS_GUEST_TR_BASE, 0},
    {VMCS_GUEST_GDTR_BASE, 0},
    {VMCS_GUEST_IDTR_BASE, 0},
    {VMCS_GUEST_CR0, CR0_PE | CR0_NE},
    {VMCS_CR0_SHADOW, CR0_PE | CR0_NE},
    {VMCS_GUEST_CR3, 0},
    {VMCS_GUEST_CR4, CR4_MCE | CR4_VMXE},
    {VMCS_CR4_SHADOW, CR4_MCE},
    {VMCS_GUEST_EFER, EFER_SCE | EFER_LME | EFER_NXE},
    {VMCS_GUEST_PAT, RESET_PAT},
    {VMCS_GUEST_DR7, RESET_DR7},
    {VMCS_GUEST_DEBUGCTL, 0},
    {VMCS_GUEST_RSP, 0},
    {VMCS_GUEST_RIP, RESET_RIP},
    {VMCS_GUEST_RFLAGS, RFLAGS_FIXED},
    {VMCS_GUEST_SYSENTER_CS, 0},
    {VMCS_GUEST_SYSENTER_ESP, 0},
    {VMCS_GUEST_SYSENTER_EIP, 0},
    {VMCS_GUEST_INTERRUPTIBILITY, 0},
    {VMCS_GUEST_ACTIVITY, 0},
    {VMCS_GUEST_PENDING_DEBUG, 0},
    {VMCS_GUEST_INTR_STATUS, 0},
    {VMCS_VMCS_LINK_POINTER, ~0ull},
    {VMCS_EXCEPTION_BITMAP, 1u << VECTOR_UD | 1u << VECTOR_MC},
    {VMCS_PF_ERROR_MASK, 0},
    {VMCS_PF_ERROR_MATCH, 0},
    {VMCS_CR3_TARGET_COUNT, 0},
    {VMCS_EXIT_MSR_STORE_COUNT, 0},
    {VMCS_EXIT_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_INTR_INFO, 0},
    {VMCS_TPR_THRESHOLD, 0},
    {VMCS_EOI_EXIT_BITMAP0, 0},
    {VMCS_EOI_EXIT_BITMAP1, 0},
    {VMCS_EOI_EXIT_BITMAP2, 0},
    {VMCS_EOI_EXIT_BITMAP3, 0},
};

/* The VPID tells TDs apart, not vCPUs: HKID in bits 15:2, VM index in 1:0. */
#define VPID_HKID_SHIFT 2

void vmcs_init(const struct tdvps *vcpu, const struct tdr *tdr, const struct tdcs *tdcs)
{
    for (u32 i = 0; i < ARRAY_LENGTH(constants); i++)
        seam_vmcs_write(constants[i].field, constants[i].value);
    for (u32 i = 0; i < ARRAY_LENGTH(controls); i++)
        seam_vmcs_write(controls[i].field, control_value(&controls[i]));
    if (!(tdcs->attributes & TD_ATTRIBUTE_PERFMON))
        seam_vmcs_write(VMCS_PROC_CONTROLS, control_value(&controls[1]) | PROC_RDPMC);
    if (control_value(&controls[2]) & PROC2_XSAVES)
        seam_vmcs_write(VMCS_XSS_EXIT_BITMAP, 0);
    if (vmcs_timer_is_supported())
        seam_vmcs_write(VMCS_PREEMPTION_TIMER, INTERRUPT_POLL_TICKS);
    seam_vmcs_write(VMCS_VPID, (u64)tdr->hkid << VPID_HKID_SHIFT);
    seam_vmcs_write(VMCS_EPT_POINTER, tdcs->eptp);
    seam_vmcs_write(VMCS_MSR_BITMAP, tdr->tdcx[TDCS_PAGE_MSR_BITMAP]);
    seam_vmcs_write(VMCS_VIRTUAL_APIC_ADDR, vcpu->pages[TDVPS_PAGE_APIC]);
    seam_vmcs_write(VMCS_TSC_OFFSET, tdcs->tsc_offset);
    seam_vmcs_write(VMCS_TSC_MULTIPLIER, tdcs->tsc_multiplier);
    seam_vmcs_write(VMCS_CR0_MASK, vmcs_cr0_mask());
    seam_vmcs_write(VMCS_CR4_MASK, vmcs_cr4_mask(tdcs));
}
