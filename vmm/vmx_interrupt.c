/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_interrupt.h"

#include "boot/interrupts.h"
#include "vmm/vmx_exit.h"

#define SPURIOUS_ENABLE (1u << 8)
#define BLOCKING_INSTRUCTION (BLOCKING_STI | BLOCKING_MOV_SS)

bool vmx_post(struct vcpu *vcpu, u8 vector)
{
    bool is_new = vlapic_post(&vcpu->vmx.apic, vector);
    vcpu->vmx.attention = true;
    return is_new;
}

void vmx_signal(struct vcpu *vcpu, u32 signal)
{
    vlapic_signal(&vcpu->vmx.apic, signal);
    vcpu->vmx.attention = true;
}

u64 vmx_timer_due(const struct vcpu *vcpu)
{
    const struct lapic *lapic = &vcpu->lapic;
    if (lapic->count_end_tsc || !lapic->deadline)
        return lapic->count_end_tsc;
    u64 due = lapic->deadline - vcpu->vmx.tsc_offset;
    return due ? due : 1;
}

static void serve_timer(struct vcpu *vcpu)
{
    u8 vector;
    u64 due = vmx_timer_due(vcpu);
    if (due && due <= tsc_read() && lapic_timer_expire(&vcpu->lapic, &vector))
        (void)vlapic_post(&vcpu->vmx.apic, vector);
}

static void serve_signals(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    u32 signals = vlapic_take_signals(&vmx->apic);
    if (signals & VLAPIC_INIT) {
        enum lapic_mode mode = vcpu->lapic.mode;
        lapic_init(&vcpu->lapic, vcpu->index);
        vcpu->lapic.mode = mode; /* INIT leaves it */
        vlapic_reset(&vmx->apic);
        vmx->activity = VMX_WAITS_FOR_STARTUP;
        vmx->nmi_waits = false;
    }
    if ((signals & VLAPIC_STARTUP) && vmx->activity == VMX_WAITS_FOR_STARTUP) {
        vmx_vcpu_start_up(vcpu, (u8)(signals & VLAPIC_STARTUP_PAGE));
        vmx->activity = VMX_RUNS;
    }
    if ((signals & VLAPIC_NMI) && vmx->activity != VMX_WAITS_FOR_STARTUP)
        vmx->nmi_waits = true;
}

/* A vector that priorities let through, if the guest has its APIC on. */
static int next_vector(const struct vcpu *vcpu)
{
    bool is_on = vcpu->lapic.mode != LAPIC_OFF && (vcpu->lapic.spurious & SPURIOUS_ENABLE);
    return is_on ? vlapic_next(&vcpu->vmx.apic) : VLAPIC_NONE;
}

static bool accepts_interrupts(void)
{
    return vmx_field(VMCS_GUEST_RFLAGS) & RFLAGS_IF;
}

bool vmx_is_blocked(const struct vcpu *vcpu)
{
    return vcpu->vmx.activity == VMX_WAITS_FOR_STARTUP || !accepts_interrupts();
}

static void set_windows(struct vcpu *vcpu, u32 windows)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    if (vmx->windows == windows)
        return;
    vmx->windows = windows;
    vmx_field_set(VMCS_PROC_CONTROLS, (vmx_field(VMCS_PROC_CONTROLS) &
                                       ~(u64)(PROC_INTERRUPT_WINDOW | PROC_NMI_WINDOW)) |
                                          windows);
}

/* One event an entry: the windows bring us back for the rest. */
static void inject(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    u64 blocked = vmx_field(VMCS_GUEST_INTERRUPTIBILITY);
    bool is_free = !(vmx_field(VMCS_ENTRY_INTR_INFO) & INTR_VALID);
    if (vmx->nmi_waits && is_free && !(blocked & (BLOCKING_INSTRUCTION | BLOCKING_NMI))) {
        vmx_field_set(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_NMI | VECTOR_NMI);
        vmx->nmi_waits = false;
        vmx->nmi_came = true;
        is_free = false;
    }
    int vector = next_vector(vcpu);
    if (vector != VLAPIC_NONE && is_free && !(blocked & BLOCKING_INSTRUCTION) &&
        accepts_interrupts()) {
        vlapic_accept(&vmx->apic, (u8)vector);
        vmx_field_set(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_EXTERNAL | (u32)vector);
        vector = next_vector(vcpu);
    }
    set_windows(vcpu, (vmx->nmi_waits ? PROC_NMI_WINDOW : 0) |
                          (vector != VLAPIC_NONE ? PROC_INTERRUPT_WINDOW : 0));
}

bool vmx_attend(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    vmx->attention = false;
    serve_signals(vcpu);
    serve_timer(vcpu);
    if (vmx->activity == VMX_HALTED &&
        (vmx->nmi_waits || (accepts_interrupts() && next_vector(vcpu) != VLAPIC_NONE)))
        vmx->activity = VMX_RUNS;
    if (vmx->activity != VMX_RUNS)
        return false;
    inject(vcpu);
    return true;
}

void vmx_deliver_again(struct vcpu *vcpu)
{
    u64 event = vmx_field(VMCS_IDT_VECTORING_INFO);
    if (!(event & INTR_VALID)) {
        /* An IRET that did not end has unblocked NMIs all the same, and will do so again. */
        if (vcpu->vmx.nmi_came &&
            (vmx_field(VMCS_EXIT_QUALIFICATION) & EPT_VIOLATION_NMI_UNBLOCKED))
            vmx_field_set(VMCS_GUEST_INTERRUPTIBILITY,
                          vmx_field(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
        return;
    }
    if ((event & INTR_TYPE_MASK) == INTR_TYPE_NMI)
        vmx_field_set(VMCS_GUEST_INTERRUPTIBILITY,
                      vmx_field(VMCS_GUEST_INTERRUPTIBILITY) & ~(u64)BLOCKING_NMI);
    vmx_field_set(VMCS_ENTRY_INTR_INFO, event & ~(u64)INTR_NMI_UNBLOCKING);
    vmx_field_set(VMCS_ENTRY_INSTRUCTION_LEN, vmx_field(VMCS_EXIT_INSTRUCTION_LEN));
    if (event & INTR_HAS_ERROR_CODE)
        vmx_field_set(VMCS_ENTRY_ERROR_CODE, vmx_field(VMCS_IDT_VECTORING_ERROR_CODE));
}

/* HLT ends "blocking by STI": what STI let in behind it wakes the vCPU at once. */
void vmx_serve_hlt(struct vcpu *vcpu)
{
    vmx_skip_instruction();
    vmx_field_set(VMCS_GUEST_INTERRUPTIBILITY,
                  vmx_field(VMCS_GUEST_INTERRUPTIBILITY) & ~(u64)BLOCKING_INSTRUCTION);
    vcpu->vmx.activity = VMX_HALTED;
    vcpu->vmx.attention = true;
}

/*
 * An exception that the VMM sees first goes on to the guest. What it interrupted the delivery of
 * waits: an instruction's exception comes again with the instruction, the others we keep.
 */
static void reflect(struct vcpu *vcpu, u64 info)
{
    u64 event = vmx_field(VMCS_IDT_VECTORING_INFO);
    if ((event & INTR_VALID) && (event & INTR_TYPE_MASK) == INTR_TYPE_EXTERNAL)
        vlapic_return(&vcpu->vmx.apic, event & INTR_VECTOR_MASK);
    if ((event & INTR_VALID) && (event & INTR_TYPE_MASK) == INTR_TYPE_NMI) {
        vmx_field_set(VMCS_GUEST_INTERRUPTIBILITY,
                      vmx_field(VMCS_GUEST_INTERRUPTIBILITY) & ~(u64)BLOCKING_NMI);
        vcpu->vmx.nmi_waits = true;
    }
    vcpu->vmx.attention = true;
    vmx_field_set(VMCS_ENTRY_INTR_INFO, info & ~(u64)INTR_NMI_UNBLOCKING);
    vmx_field_set(VMCS_ENTRY_INSTRUCTION_LEN, vmx_field(VMCS_EXIT_INSTRUCTION_LEN));
    if (info & INTR_HAS_ERROR_CODE)
        vmx_field_set(VMCS_ENTRY_ERROR_CODE, vmx_field(VMCS_EXIT_INTR_ERROR_CODE));
}

#define DR6_CONDITIONS 0xe00full /* what the qualification tells: B0...B3, BD, BS, BT */
#define DR7_GENERAL_DETECT (1ull << 13)

/* As the processor does at a #DB that is no exit. */
static void set_debug_registers(void)
{
    u64 dr6;
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    dr6 = (dr6 & ~0xfull) | (vmx_field(VMCS_EXIT_QUALIFICATION) & DR6_CONDITIONS);
    __asm__ volatile("mov %0, %%dr6" ::"r"(dr6));
    vmx_field_set(VMCS_GUEST_DR7, vmx_field(VMCS_GUEST_DR7) & ~DR7_GENERAL_DETECT);
}

void vmx_serve_exception(struct vcpu *vcpu)
{
    u64 info = vmx_field(VMCS_EXIT_INTR_INFO);
    u32 vector = info & INTR_VECTOR_MASK;
    if ((info & INTR_TYPE_MASK) == INTR_TYPE_NMI) {
        nmi_handle();
        vcpu->vmx.attention = true;
    } else if (vector == VECTOR_DB || vector == VECTOR_AC) {
        if (vector == VECTOR_DB)
            set_debug_registers();
        reflect(vcpu, info);
    } else {
        vmx_end_for_exit(vcpu, VM_END_BAD_EXIT);
    }
}
