/* SPDX-License-Identifier: MIT */
/* The loop of an ordinary VM's vCPU. An exit reads the fields that it needs, and no others. */
#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/time.h"
#include "boot/x86.h"
#include "vmm/measure.h"
#include "vmm/ports.h"
#include "vmm/schedule.h"
#include "vmm/vm.h"
#include "vmm/vmx_policy.h"
#include "vmm/vmx_vcpu.h"
#include "vmm/vmx_vm.h"

#define POLL_US 10000
#define VMX_MISC_TIMER_SHIFT_MASK 31u
#define REASON_MASK 0xffffu

typedef unsigned long long number; /* what %llu takes */

void vmx_poll_arm(void)
{
    u64 shift = rdmsr(MSR_VMX_MISC) & VMX_MISC_TIMER_SHIFT_MASK;
    vmx_field_set(VMCS_PREEMPTION_TIMER, (time_us_to_tsc(POLL_US) >> shift) + 1);
}

/* The end of a guest by an exit: one line with what the VMCS says of it. */
static void end_for_exit(struct vcpu *vcpu, enum vm_end end)
{
    u32 reason = (u32)vmx_field(VMCS_EXIT_REASON);
    bool has_gpa = reason == EXIT_EPT_VIOLATION || reason == EXIT_EPT_MISCONFIGURATION;
    u64 particular = vmx_field(has_gpa ? VMCS_GUEST_PHYSICAL_ADDRESS : VMCS_EXIT_INTR_INFO);
    log_line("guest %s: vCPU %u %s: exit reason %#x (%s), RIP %#llx, qualification %#llx, %s %#llx",
             vcpu->vm->config->name, vcpu->index, vm_end_text(end), reason,
             exit_reason_name(reason & REASON_MASK), (number)vmx_field(VMCS_GUEST_RIP),
             (number)vmx_field(VMCS_EXIT_QUALIFICATION), has_gpa ? "GPA" : "event",
             (number)particular);
    vm_end(vcpu->vm, end);
}

/* Nothing is ever injected that "blocking by STI" would hold back: it may stay. */
static inline void skip_instruction(void)
{
    vmx_field_set(VMCS_GUEST_RIP, vmx_field(VMCS_GUEST_RIP) + vmx_field(VMCS_EXIT_INSTRUCTION_LEN));
}

static void inject_gp(void)
{
    vmx_field_set(VMCS_ENTRY_ERROR_CODE, 0);
    vmx_field_set(VMCS_ENTRY_INTR_INFO,
                  INTR_VALID | INTR_HAS_ERROR_CODE | INTR_TYPE_EXCEPTION | VECTOR_GP);
}

static u64 value_of_edx_eax(const u64 *gpr)
{
    return gpr[GPR_RDX] << 32 | (u32)gpr[GPR_RAX];
}

static void serve_unknown(struct vcpu *vcpu)
{
    end_for_exit(vcpu, VM_END_BAD_EXIT);
}

static void serve_triple_fault(struct vcpu *vcpu)
{
    end_for_exit(vcpu, VM_END_TRIPLE_FAULT);
}

static void serve_nmi(struct vcpu *vcpu)
{
    if ((vmx_field(VMCS_EXIT_INTR_INFO) & INTR_TYPE_MASK) == INTR_TYPE_NMI)
        nmi_handle();
    else
        serve_unknown(vcpu);
}

static void yield_if_due(void)
{
    if (schedule_must_yield(tsc_read()))
        schedule_kick(cpu_this()->index);
}

static void serve_interrupt(struct vcpu *vcpu)
{
    (void)vcpu;
    interrupt_handle(vmx_field(VMCS_EXIT_INTR_INFO) & INTR_VECTOR_MASK);
    yield_if_due();
}

static void serve_timer(struct vcpu *vcpu)
{
    (void)vcpu;
    vmx_poll_arm();
    log_pump();
    interrupts_window();
    yield_if_due();
}

static inline void answer_cpuid(struct vcpu *vcpu, const struct vmx_cpuid_line *line)
{
    u64 *gpr = vcpu->vmx.gpr;
    gpr[GPR_RAX] = line->values.eax;
    gpr[GPR_RBX] = line->values.ebx;
    gpr[GPR_RCX] = line->values.ecx;
    gpr[GPR_RDX] = line->values.edx;
    if (line->leaf == 1 && (vmx_field(VMCS_GUEST_CR4) & CR4_OSXSAVE))
        gpr[GPR_RCX] |= VMX_CPUID_1_ECX_OSXSAVE;
    skip_instruction();
}

/* Apart: what calls need is not in the way of the line that is there. */
__attribute__((noinline)) static void
serve_new_cpuid(struct vcpu *vcpu, struct vmx_cpuid_line *line, u32 leaf, u32 subleaf)
{
    *line = (struct vmx_cpuid_line){leaf, subleaf, vmx_cpuid(leaf, subleaf), true};
    answer_cpuid(vcpu, line);
}

static void serve_cpuid(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    u32 leaf = (u32)vmx->gpr[GPR_RAX], subleaf = (u32)vmx->gpr[GPR_RCX];
    /* Bits 31:27 tell the leaves of processor, hypervisor and extensions apart. */
    struct vmx_cpuid_line *line = &vmx->cpuid[(leaf ^ leaf >> 27 ^ subleaf << 2) % VMX_CPUID_LINES];
    if (line->is_filled && line->leaf == leaf && line->subleaf == subleaf)
        answer_cpuid(vcpu, line);
    else
        serve_new_cpuid(vcpu, line, leaf, subleaf);
}

static void serve_io(struct vcpu *vcpu)
{
    struct vmx_io io = vmx_io_decode(vmx_field(VMCS_EXIT_QUALIFICATION));
    u64 *rax = &vcpu->vmx.gpr[GPR_RAX];
    if (io.string) {
        serve_unknown(vcpu);
        return;
    }
    if (io.in)
        *rax = vmx_io_merge(*rax, ports_read(vcpu->vm, io.port, io.size_bytes), io.size_bytes);
    else
        ports_write(vcpu->vm, io.port, io.size_bytes, (u32)*rax);
    skip_instruction();
}

/* No device here interrupts a VM: a guest that halts is waiting for its user to end it. */
static void serve_hlt(struct vcpu *vcpu)
{
    if (vmx_field(VMCS_GUEST_RFLAGS) & RFLAGS_IF)
        vcpu->wish = VCPU_HALT;
    else
        end_for_exit(vcpu, VM_END_HALTED);
}

/* A VM has no hypercalls, but for those of a guest that measures. */
static void serve_vmcall(struct vcpu *vcpu)
{
    if (!measure_vm_call(vcpu)) {
        serve_unknown(vcpu);
        return;
    }
    vmx_field_set(VMCS_HOST_RIP, (u64)(vcpu->series ? vmx_exit_measured : vmx_exit));
    skip_instruction();
}

/* An event whose delivery needed the page is delivered once the page is there. */
static void deliver_again(void)
{
    u64 event = vmx_field(VMCS_IDT_VECTORING_INFO);
    if (!(event & INTR_VALID))
        return;
    vmx_field_set(VMCS_ENTRY_INTR_INFO, event & ~(u64)INTR_NMI_UNBLOCKING);
    vmx_field_set(VMCS_ENTRY_INSTRUCTION_LEN, vmx_field(VMCS_EXIT_INSTRUCTION_LEN));
    if (event & INTR_HAS_ERROR_CODE)
        vmx_field_set(VMCS_ENTRY_ERROR_CODE, vmx_field(VMCS_IDT_VECTORING_ERROR_CODE));
}

static void serve_ept_violation(struct vcpu *vcpu)
{
    gpa_t address = gpa(vmx_field(VMCS_GUEST_PHYSICAL_ADDRESS));
    switch (vmx_memory_fault(vcpu, gpa_to_gfn(address))) {
    case OK:
        deliver_again();
        return;
    case ERR_NO_MEMORY:
        end_for_exit(vcpu, VM_END_NO_MEMORY);
        return;
    default:
        end_for_exit(vcpu, VM_END_BAD_ACCESS);
        return;
    }
}

/* The MSRs of a VM are VMCS fields; `is_valid` says what may be written. */
static bool efer_is_valid(u64 value)
{
    return vmx_efer_is_valid(value, vmx_field(VMCS_GUEST_EFER));
}

static const struct vm_msr {
    u32 index;
    enum vmcs_field field;
    bool (*is_valid)(u64 value);
} msrs[] = {
    {MSR_EFER, VMCS_GUEST_EFER, efer_is_valid},
    {MSR_PAT, VMCS_GUEST_PAT, vmx_pat_is_valid},
    {MSR_FS_BASE, VMCS_GUEST_FS_BASE, vmx_address_is_canonical},
    {MSR_GS_BASE, VMCS_GUEST_GS_BASE, vmx_address_is_canonical},
};

static const struct vm_msr *msr_find(u32 index)
{
    for (u32 i = 0; i < ARRAY_LENGTH(msrs); i++) {
        if (msrs[i].index == index)
            return &msrs[i];
    }
    return NULL;
}

static void refuse_msr(struct vcpu *vcpu)
{
    vcpu->msrs_refused++;
    inject_gp();
}

static void serve_rdmsr(struct vcpu *vcpu)
{
    u64 *gpr = vcpu->vmx.gpr;
    const struct vm_msr *msr = msr_find((u32)gpr[GPR_RCX]);
    if (!msr) {
        refuse_msr(vcpu);
        return;
    }
    u64 value = vmx_field(msr->field);
    gpr[GPR_RAX] = (u32)value;
    gpr[GPR_RDX] = value >> 32;
    skip_instruction();
}

static void serve_wrmsr(struct vcpu *vcpu)
{
    u64 value = value_of_edx_eax(vcpu->vmx.gpr);
    const struct vm_msr *msr = msr_find((u32)vcpu->vmx.gpr[GPR_RCX]);
    if (!msr || !msr->is_valid(value)) {
        refuse_msr(vcpu);
        return;
    }
    vmx_field_set(msr->field, value);
    skip_instruction();
}

static void serve_xsetbv(struct vcpu *vcpu)
{
    u64 value = value_of_edx_eax(vcpu->vmx.gpr);
    if ((u32)vcpu->vmx.gpr[GPR_RCX] != 0 || !vmx_xcr0_is_valid(value, vmx_xcr0_allowed())) {
        inject_gp();
        return;
    }
    xcr0_write(value);
    skip_instruction();
}

static void (*const handlers[EXIT_REASON_LIMIT])(struct vcpu *vcpu) = {
    [EXIT_EXCEPTION_OR_NMI] = serve_nmi,
    [EXIT_EXTERNAL_INTERRUPT] = serve_interrupt,
    [EXIT_TRIPLE_FAULT] = serve_triple_fault,
    [EXIT_CPUID] = serve_cpuid,
    [EXIT_HLT] = serve_hlt,
    [EXIT_IO] = serve_io,
    [EXIT_RDMSR] = serve_rdmsr,
    [EXIT_WRMSR] = serve_wrmsr,
    [EXIT_VMCALL] = serve_vmcall,
    [EXIT_EPT_VIOLATION] = serve_ept_violation,
    [EXIT_PREEMPTION_TIMER] = serve_timer,
    [EXIT_XSETBV] = serve_xsetbv,
};

/* Bit 31 of the reason, an entry that failed, is beyond the limit. */
static void serve_exit(struct vcpu *vcpu)
{
    u32 reason = (u32)vmx_field(VMCS_EXIT_REASON);
    if (reason >= EXIT_REASON_LIMIT) {
        end_for_exit(vcpu, VM_END_ENTRY_FAILED);
        return;
    }
    vcpu->vmx.exits[reason]++;
    if (handlers[reason])
        handlers[reason](vcpu);
    else
        serve_unknown(vcpu);
}

static void end_for_instruction(struct vcpu *vcpu)
{
    log_line("guest %s: %s failed: VM-instruction error %llu", vcpu->vm->config->name,
             vcpu->vmx.launched ? "VMRESUME" : "VMLAUNCH",
             (number)vmx_field(VMCS_INSTRUCTION_ERROR));
    vm_end(vcpu->vm, VM_END_ENTRY_FAILED);
}

static bool enter_measured(struct vcpu *vcpu)
{
    if (!vmx_enter_measured(vcpu->vmx.gpr))
        return false;
    u64 now = tsc_read();
    measure_vm_exit(vcpu, vmx_field(VMCS_EXIT_REASON), now);
    return true;
}

/* The vCPU whose VMCS and registers a processor has; null: none. */
static struct vcpu *loaded[CPU_MAX];

void vmx_vcpu_leave(void)
{
    struct vcpu **here = &loaded[cpu_this()->index];
    if (*here)
        vmx_vcpu_unload(*here);
    *here = NULL;
}

static void load(struct vcpu *vcpu)
{
    struct vcpu **here = &loaded[cpu_this()->index];
    if (*here == vcpu)
        return;
    vmx_vcpu_leave();
    vmx_vcpu_load(vcpu);
    *here = vcpu;
}

/* The processor is wanted: looked at after an interrupt, or at the preemption timer. */
static inline bool slice_goes_on(const struct vcpu *vcpu, const _Atomic bool *kicked)
{
    return !vm_has_ended(vcpu->vm) && vcpu->wish == VCPU_RUN &&
           !atomic_load_explicit(kicked, memory_order_relaxed);
}

void vmx_vcpu_run(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    const _Atomic bool *kicked = &cpu_this()->kicked;
    load(vcpu);
    apic_timer_arm(schedule_yield_tsc());
    while (slice_goes_on(vcpu, kicked)) {
        if (!(vcpu->series ? enter_measured(vcpu) : vmx_enter(vmx->gpr, vmx->launched))) {
            end_for_instruction(vcpu);
            break;
        }
        vmx->launched = true;
        serve_exit(vcpu);
    }
}
