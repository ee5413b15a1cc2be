/* SPDX-License-Identifier: MIT */
#include "vmm/run.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/time.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "vmm/measure.h"
#include "vmm/schedule.h"
#include "vmm/vm.h"
#include "vmm/vmcall.h"
#include "vmm/vmx_interrupt.h"

#define SCAN_US 10000

static const char *const kind_names[TD_EXIT_KINDS] = {
    [TD_EXIT_RETRY] = "retry",
    [TD_EXIT_VMCALL] = "TDVMCALL",
    [TD_EXIT_EPT_VIOLATION] = "EPT violation",
    [TD_EXIT_EPT_MISCONFIGURATION] = "EPT misconfiguration",
    [TD_EXIT_INTERRUPT] = "interrupt",
    [TD_EXIT_NMI] = "NMI",
    [TD_EXIT_TRIPLE_FAULT] = "triple fault",
    [TD_EXIT_DEAD] = "dead",
    [TD_EXIT_OTHER] = "other",
};

const char *td_exit_kind_name(unsigned kind)
{
    return kind < TD_EXIT_KINDS ? kind_names[kind] : "?";
}

static void flush_now(struct vcpu *vcpu)
{
    if (invept(INVEPT_ALL, 0)) /* pages that the guest may still reach would be used again */
        panic("INVEPT of all contexts failed on processor %u", cpu_this()->index);
    vcpu->flush_wanted = false;
}

static inline void flush_if_wanted(struct vcpu *vcpu)
{
    if (vcpu->flush_wanted)
        flush_now(vcpu);
}

void vm_flush_shared(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        vm->vcpus[i]->flush_wanted = true;
        if (i != vcpu->index && vm->vcpus[i]->running)
            cpu_kick(vm->vcpus[i]->cpu);
    }
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *other = vm->vcpus[i];
        while (other->flush_wanted && (other == vcpu || other->running)) {
            flush_if_wanted(vcpu); /* another vCPU may be waiting for us the same way */
            cpu_serve_call();
            cpu_relax();
        }
    }
}

/* Nothing is due, and the processor's timer is armed for what will be: true on most exits. */
static inline bool time_is_served(const struct vcpu *vcpu)
{
    u64 due = atomic_load_explicit(&vcpu->due_tsc, memory_order_relaxed);
    return tsc_read() < due && vcpu->lapic.deadline == vcpu->deadline_guest &&
           vcpu->lapic.count_end_tsc == vcpu->armed_count_end;
}

/* The host TSC at which the guest's timer expires; 0: it is not armed. */
static u64 timer_deadline(struct vcpu *vcpu)
{
    if (vcpu->lapic.count_end_tsc)
        return vcpu->lapic.count_end_tsc;
    if (vcpu->deadline_guest != vcpu->lapic.deadline) {
        vcpu->deadline_guest = vcpu->lapic.deadline;
        vcpu->deadline_host =
            vcpu->deadline_guest ? td_tsc_to_host(&vcpu->vm->td, vcpu->deadline_guest) : 0;
    }
    return vcpu->deadline_host;
}

static void serve_timer(struct vcpu *vcpu, u64 now)
{
    u64 deadline = timer_deadline(vcpu);
    u8 vector;
    if (deadline && deadline <= now && lapic_timer_expire(&vcpu->lapic, &vector))
        vcpu_post(vcpu, vector);
}

/* One block of memory that might be promoted. */
static void serve_scan(struct vcpu *vcpu, u64 now)
{
    struct vm *vm = vcpu->vm;
    if (vcpu->index != 0 || now < vm->scan_tsc)
        return;
    memory_scan(vcpu);
    vm->scan_tsc = tsc_read() + time_us_to_tsc(SCAN_US);
}

/* Arms the processor's timer for what comes next. */
static void arm_timer(struct vcpu *vcpu)
{
    u64 next = schedule_yield_tsc(), deadline = timer_deadline(vcpu);
    if (deadline && deadline < next)
        next = deadline;
    if (vcpu->index == 0 && vcpu->vm->scan_tsc < next)
        next = vcpu->vm->scan_tsc;
    vcpu->armed_count_end = vcpu->lapic.count_end_tsc;
    atomic_store_explicit(&vcpu->due_tsc, next, memory_order_relaxed);
    apic_timer_arm(next);
}

/*
 * Before the guest runs: what is due, and the timer for what comes next. False if the slice is
 * over.
 */
static inline bool serve_time(struct vcpu *vcpu)
{
    log_pump();
    if (time_is_served(vcpu))
        return true;
    u64 now = tsc_read();
    if (schedule_must_yield(now))
        return false;
    serve_timer(vcpu, now);
    serve_scan(vcpu, now);
    arm_timer(vcpu);
    return true;
}

static bool is_blocked(const struct vcpu *vcpu)
{
    return vcpu->wish == VCPU_HALT_INTERRUPTS_BLOCKED;
}

/* What wakes a vCPU that has its interrupts blocked, and was not taken yet. */
static bool signal_is_pending(const struct vcpu *vcpu)
{
    return vm_is_td(vcpu->vm) ? vcpu->nmi_wanted : vcpu->vmx.attention;
}

static bool signal_is_under_way(const struct vm *vm)
{
    for (u32 i = 0; i < vm->vcpu_count; i++)
        if (signal_is_pending(vm->vcpus[i]))
            return true;
    return false;
}

/*
 * The guest waits for an interrupt. The flag `halted` goes up before the first look for one: who
 * posts after a look sees the flag and kicks us. With interrupts blocked only an NMI wakes it, and
 * once all have halted so, nobody is left to send one.
 */
static void halt(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    vcpu->halted = true;
    if (!is_blocked(vcpu) || ++vm->blocked_vcpus != vm->vcpu_count || signal_is_under_way(vm))
        return;
    if (!vm_is_td(vm)) {
        vmx_end_for_halt(vcpu);
        return;
    }
    log_line("guest %s: every vCPU has halted with interrupts disabled", vm->config->name);
    vm_end(vm, VM_END_HALTED);
}

/* Of one that waits. A VM's vCPU looks for itself: it may have to wait again. */
static bool wakes_up(struct vcpu *vcpu, u64 now)
{
    if (signal_is_pending(vcpu))
        return true;
    if (!vm_is_td(vcpu->vm))
        return vcpu_wake_tsc(vcpu) <= now;
    serve_timer(vcpu, now);
    return !is_blocked(vcpu) && td_vcpu_interrupt_is_pending(&vcpu->td);
}

bool vcpu_can_run(struct vcpu *vcpu, u64 now)
{
    struct vm *vm = vcpu->vm;
    if (vm_has_ended(vm) || vm->paused)
        return false;
    if (!vcpu->halted)
        return true;
    if (!wakes_up(vcpu, now))
        return false;
    if (is_blocked(vcpu))
        vm->blocked_vcpus--;
    vcpu->halted = false;
    vcpu->wish = VCPU_RUN;
    return true;
}

u64 vcpu_wake_tsc(struct vcpu *vcpu)
{
    if (vm_has_ended(vcpu->vm) || vcpu->vm->paused)
        return ~0ull;
    u64 deadline = vm_is_td(vcpu->vm) ? timer_deadline(vcpu) : vmx_timer_due(vcpu);
    return deadline && !is_blocked(vcpu) ? deadline : ~0ull;
}

/* The end of a guest that did what it must not; `what` says it. */
static void end_for_access(struct vcpu *vcpu, gpa_t address, u64 qualification, enum vm_end end)
{
    log_line("guest %s: vCPU %u %s: GPA %#llx, qualification %#llx", vcpu->vm->config->name,
             vcpu->index, vm_end_text(end), (unsigned long long)address.raw,
             (unsigned long long)qualification);
    vm_end(vcpu->vm, end);
}

static enum fault_kind fault_kind(const struct td_exit *exit)
{
    if (exit->detail != TD_EXIT_DETAIL_ACCEPT)
        return FAULT_ACCESS;
    return exit->accept_level == LEVEL_2M ? FAULT_ACCEPT_2M : FAULT_ACCEPT_4K;
}

static void end_for_fault(struct vcpu *vcpu, enum error e)
{
    end_for_access(vcpu, vcpu->fault.address, vcpu->fault.qualification,
                   e == ERR_RANGE       ? VM_END_BAD_ACCESS
                   : e == ERR_NO_MEMORY ? VM_END_NO_MEMORY
                                        : VM_END_REFUSED);
}

/*
 * A fault that met another change is tried again here: a guest that is entered for nothing, over
 * and over, looks to the module like one that is single-stepped, and is not entered any more.
 */
static void fault_retry(struct vcpu *vcpu)
{
    struct vcpu_fault *fault = &vcpu->fault;
    const _Atomic bool *kicked = &cpu_this()->kicked;
    while (fault->waits && !vm_has_ended(vcpu->vm) && schedule_goes_on(kicked) &&
           !schedule_must_yield(tsc_read())) {
        flush_if_wanted(vcpu);
        interrupts_window();
        enum error e = memory_fault(vcpu, gpa_to_gfn(fault->address), fault->kind);
        fault->waits = e == ERR_BUSY;
        if (e && !fault->waits)
            end_for_fault(vcpu, e);
    }
}

__attribute__((noinline)) static void serve_failed_fault(struct vcpu *vcpu,
                                                         const struct td_exit *exit, enum error e)
{
    vcpu->fault = (struct vcpu_fault){
        .waits = e == ERR_BUSY,
        .address = exit->address,
        .qualification = exit->qualification,
        .kind = fault_kind(exit),
    };
    if (vcpu->fault.waits)
        fault_retry(vcpu);
    else
        end_for_fault(vcpu, e);
}

static void serve_ept_violation(struct vcpu *vcpu, const struct td_exit *exit)
{
    struct vm *vm = vcpu->vm;
    if (exit->detail == TD_EXIT_DETAIL_PENDING_EPT_VIOLATION) {
        end_for_access(vcpu, exit->address, exit->qualification, VM_END_UNACCEPTED_ACCESS);
        return;
    }
    if (exit->address.raw & vm->shared_bit.raw) {
        end_for_access(vcpu, exit->address, exit->qualification, VM_END_BAD_ACCESS);
        return;
    }
    enum error e = memory_fault(vcpu, gpa_to_gfn(exit->address), fault_kind(exit));
    if (e)
        serve_failed_fault(vcpu, exit, e);
}

static void end_for_module(struct vcpu *vcpu, const struct td_exit *exit, enum vm_end end)
{
    log_line("guest %s: vCPU %u: %s: status %s (%#llx), exit reason %u (%s)",
             vcpu->vm->config->name, vcpu->index, vm_end_text(end), tdx_status_name(exit->status),
             (unsigned long long)exit->status.raw, exit->reason & 0xffff,
             exit_reason_name(exit->reason & 0xffff));
    vm_end(vcpu->vm, end);
}

static void serve_other(struct vcpu *vcpu, const struct td_exit *exit)
{
    switch (exit->reason & 0xffff) {
    case EXIT_SMI: /* the processor has served it */
    case EXIT_BUS_LOCK:
    case EXIT_NOTIFY:
        return;
    default:
        end_for_module(vcpu, exit, VM_END_TD_DEAD);
        return;
    }
}

static void serve_exit(struct vcpu *vcpu, const struct td_exit *exit)
{
    switch (exit->kind) {
    case TD_EXIT_RETRY:
        break;
    case TD_EXIT_VMCALL:
        vmcall_handle(vcpu);
        break;
    case TD_EXIT_EPT_VIOLATION:
        serve_ept_violation(vcpu, exit);
        break;
    case TD_EXIT_INTERRUPT:
        interrupt_handle(exit->interrupt_info & INTR_VECTOR_MASK);
        break;
    case TD_EXIT_NMI:
        nmi_handle();
        break;
    case TD_EXIT_TRIPLE_FAULT:
        end_for_module(vcpu, exit, VM_END_TRIPLE_FAULT);
        break;
    case TD_EXIT_OTHER:
        serve_other(vcpu, exit);
        break;
    default:
        end_for_module(vcpu, exit, VM_END_TD_DEAD);
        break;
    }
}

static void serve_entry(struct vcpu *vcpu)
{
    struct td_exit exit;
    td_vcpu_enter(&vcpu->td, &exit);
    if (vcpu->series)
        measure_td_exit(vcpu, &exit, tsc_read());
    if (exit.kind < TD_EXIT_KINDS)
        vcpu->exits[exit.kind]++;
    serve_exit(vcpu, &exit);
    /* What arrived meanwhile, and what VP.ENTER left pending. */
    interrupts_window();
}

/* What refuses it has been logged; the guest goes on without. */
static void serve_nmi(struct vcpu *vcpu)
{
    if (!atomic_exchange(&vcpu->nmi_wanted, false))
        return;
    if (td_vcpu_pend_nmi(&vcpu->td) != ERR_BUSY)
        return;
    vcpu->nmi_wanted = true;
    schedule_kick(vcpu->cpu);
}

static void td_vcpu_run(struct vcpu *vcpu)
{
    serve_nmi(vcpu);
    if (vcpu->fault.waits)
        fault_retry(vcpu);
    const _Atomic bool *kicked = &cpu_this()->kicked;
    vcpu->due_tsc = 0;
    while (schedule_goes_on(kicked)) {
        flush_if_wanted(vcpu);
        if (!serve_time(vcpu))
            break;
        serve_entry(vcpu);
    }
}

void vcpu_run(struct vcpu *vcpu)
{
    vcpu->running = true;
    if (vm_is_td(vcpu->vm)) {
        vmx_vcpu_leave();
        td_vcpu_run(vcpu);
    } else {
        vmx_vcpu_run(vcpu);
    }
    if (vcpu->wish != VCPU_RUN)
        halt(vcpu);
    vcpu->running = false;
}

void vcpu_leave(const struct vcpu *vcpu)
{
    if (!vm_is_td(vcpu->vm))
        vmx_vcpu_leave();
}
