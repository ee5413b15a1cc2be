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
#include "vmm/schedule.h"
#include "vmm/vmx_exit.h"
#include "vmm/vmx_interrupt.h"
#include "vmm/vmx_policy.h"
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
void vmx_end_for_exit(struct vcpu *vcpu, enum vm_end end)
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

static void serve_unknown(struct vcpu *vcpu)
{
    vmx_end_for_exit(vcpu, VM_END_BAD_EXIT);
}

static void serve_triple_fault(struct vcpu *vcpu)
{
    vmx_end_for_exit(vcpu, VM_END_TRIPLE_FAULT);
}

static void serve_undefined(struct vcpu *vcpu)
{
    (void)vcpu;
    vmx_inject_ud();
}

static void serve_privileged(struct vcpu *vcpu)
{
    (void)vcpu;
    vmx_inject_gp();
}

/* Caches stay as they are: no device of a guest reads memory behind them. */
static void serve_nothing(struct vcpu *vcpu)
{
    (void)vcpu;
    vmx_skip_instruction();
}

/* A kick, or the timer: there is something to look at. */
static void serve_interrupt(struct vcpu *vcpu)
{
    interrupt_handle(vmx_field(VMCS_EXIT_INTR_INFO) & INTR_VECTOR_MASK);
    vcpu->vmx.attention = true;
}

static void serve_window(struct vcpu *vcpu)
{
    vcpu->vmx.attention = true;
}

/* Interrupts that were lost to an entry with interrupts blocked are found here at the latest. */
static void serve_timer(struct vcpu *vcpu)
{
    vmx_poll_arm();
    log_pump();
    interrupts_window();
    vcpu->vmx.attention = true;
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
    vmx_skip_instruction();
}

/* Apart: what calls need is not in the way of the line that is there. */
__attribute__((noinline)) static void
serve_new_cpuid(struct vcpu *vcpu, struct vmx_cpuid_line *line, u32 leaf, u32 subleaf)
{
    const struct vmx_cpu_view view = {
        .apic_id = vcpu->index,
        .vcpus = vcpu->vm->vcpu_count,
        .apic_is_off = vcpu->lapic.mode == LAPIC_OFF,
        .xcr0 = vcpu->vmx.registers.xcr0,
    };
    *line = (struct vmx_cpuid_line){leaf, subleaf, vmx_cpuid(&view, leaf, subleaf), true};
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

/* A VM has no hypercalls, but for those of a guest that measures. */
static void serve_vmcall(struct vcpu *vcpu)
{
    if (!measure_vm_call(vcpu)) {
        vmx_inject_ud();
        return;
    }
    vmx_field_set(VMCS_HOST_RIP, (u64)(vcpu->series ? vmx_exit_measured : vmx_exit));
    vmx_skip_instruction();
}

static void serve_ept_violation(struct vcpu *vcpu)
{
    gpa_t address = gpa(vmx_field(VMCS_GUEST_PHYSICAL_ADDRESS));
    switch (vmx_memory_fault(vcpu, gpa_to_gfn(address))) {
    case OK:
        vmx_deliver_again(vcpu);
        return;
    case ERR_NO_MEMORY:
        vmx_end_for_exit(vcpu, VM_END_NO_MEMORY);
        return;
    default:
        if (!vmx_serve_mmio(vcpu, address))
            vmx_end_for_exit(vcpu, VM_END_BAD_ACCESS);
        return;
    }
}

static void serve_xsetbv(struct vcpu *vcpu)
{
    u64 value = vmx_edx_eax(vcpu);
    if ((u32)vcpu->vmx.gpr[GPR_RCX] != 0 || !vmx_xcr0_is_valid(value, vmx_xcr0_allowed())) {
        vmx_inject_gp();
        return;
    }
    xcr0_write(value);
    vcpu->vmx.registers.xcr0 = value;
    vmx_cpuid_forget(vcpu); /* leaf 0xd tells how much XSAVE writes now */
    vmx_skip_instruction();
}

static void (*const handlers[EXIT_REASON_LIMIT])(struct vcpu *vcpu) = {
    [EXIT_EXCEPTION_OR_NMI] = vmx_serve_exception,
    [EXIT_EXTERNAL_INTERRUPT] = serve_interrupt,
    [EXIT_TRIPLE_FAULT] = serve_triple_fault,
    [EXIT_INTERRUPT_WINDOW] = serve_window,
    [EXIT_NMI_WINDOW] = serve_window,
    [EXIT_CPUID] = serve_cpuid,
    [EXIT_GETSEC] = serve_undefined,
    [EXIT_HLT] = vmx_serve_hlt,
    [EXIT_INVD] = serve_nothing,
    [EXIT_RDPMC] = serve_privileged,
    [EXIT_VMCALL] = serve_vmcall,
    [EXIT_VMCLEAR] = serve_undefined,
    [EXIT_VMLAUNCH] = serve_undefined,
    [EXIT_VMPTRLD] = serve_undefined,
    [EXIT_VMPTRST] = serve_undefined,
    [EXIT_VMREAD] = serve_undefined,
    [EXIT_VMRESUME] = serve_undefined,
    [EXIT_VMWRITE] = serve_undefined,
    [EXIT_VMXOFF] = serve_undefined,
    [EXIT_VMXON] = serve_undefined,
    [EXIT_INVEPT] = serve_undefined,
    [EXIT_INVVPID] = serve_undefined,
    [EXIT_MONITOR] = serve_undefined,
    [EXIT_MWAIT] = serve_undefined,
    [EXIT_CR_ACCESS] = vmx_serve_control_register,
    [EXIT_IO] = vmx_serve_io,
    [EXIT_RDMSR] = vmx_serve_rdmsr,
    [EXIT_WRMSR] = vmx_serve_wrmsr,
    [EXIT_EPT_VIOLATION] = serve_ept_violation,
    [EXIT_PREEMPTION_TIMER] = serve_timer,
    [EXIT_WBINVD] = serve_nothing,
    [EXIT_XSETBV] = serve_xsetbv,
};

/* Bit 31 of the reason, an entry that failed, is beyond the limit. */
static void serve_exit(struct vcpu *vcpu)
{
    u32 reason = (u32)vmx_field(VMCS_EXIT_REASON);
    if (reason >= EXIT_REASON_LIMIT) {
        vmx_end_for_exit(vcpu, VM_END_ENTRY_FAILED);
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

/* False: the vCPU sleeps from now on (vcpu->wish says how), or its slice is over. */
static bool attend(struct vcpu *vcpu)
{
    interrupts_window();
    if (schedule_must_yield(tsc_read()))
        return false;
    if (!vmx_attend(vcpu)) {
        vcpu->wish = vmx_is_blocked(vcpu) ? VCPU_HALT_INTERRUPTS_BLOCKED : VCPU_HALT;
        return false;
    }
    u64 next = schedule_yield_tsc(), due = vmx_timer_due(vcpu);
    vcpu->vmx.due_tsc = due && due < next ? due : next;
    apic_timer_arm(vcpu->vmx.due_tsc);
    return true;
}

void vmx_vcpu_run(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    const _Atomic bool *kicked = &cpu_this()->kicked;
    load(vcpu);
    vmx->attention = true; /* the slice has an end of its own */
    while (schedule_goes_on(kicked)) {
        /* The timer's interrupt may be lost where the guest was entered with interrupts blocked. */
        if ((vmx->attention || tsc_read() >= vmx->due_tsc) && !attend(vcpu))
            break;
        if (!(vcpu->series ? enter_measured(vcpu) : vmx_enter(vmx->gpr, vmx->launched))) {
            end_for_instruction(vcpu);
            break;
        }
        vmx->launched = true;
        serve_exit(vcpu);
    }
}

void vmx_end_for_halt(struct vcpu *vcpu)
{
    if (vcpu->vmx.activity == VMX_HALTED) {
        vmx_end_for_exit(vcpu, VM_END_HALTED);
        return;
    }
    log_line("guest %s: no vCPU runs, and none will be started", vcpu->vm->config->name);
    vm_end(vcpu->vm, VM_END_HALTED);
}
