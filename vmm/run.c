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
#include "vmm/vm.h"
#include "vmm/vmcall.h"

#define CONSOLE_POLL_US 10000

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
            cpu_kick(i);
    }
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *other = vm->vcpus[i];
        while (other->flush_wanted && (other == vcpu || other->running)) {
            flush_if_wanted(vcpu); /* another vCPU may be waiting for us the same way */
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

/* The console, and one block of memory that might be promoted. */
static void serve_poll(struct vcpu *vcpu, u64 now)
{
    struct vm *vm = vcpu->vm;
    lock_take(&vm->lock);
    guest_console_poll(vm);
    vm->poll_tsc = now + time_us_to_tsc(CONSOLE_POLL_US);
    bool audit_wanted = vm->console.audit_wanted;
    vm->console.audit_wanted = false;
    lock_release(&vm->lock);
    memory_scan(vcpu);
    if (audit_wanted)
        (void)vm_audit(vm);
}

/* What is due on this processor: the guest's timer, the console. */
static void serve_due(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    u64 now = tsc_read(), deadline = timer_deadline(vcpu);
    u8 vector;
    if (deadline && deadline <= now && lapic_timer_expire(&vcpu->lapic, &vector))
        vcpu_post(vcpu, vector);
    if (vcpu->index == 0 && now >= vm->poll_tsc)
        serve_poll(vcpu, now);
}

/* Arms the processor's timer for what comes next; the same time is not armed twice. */
static void arm_timer(struct vcpu *vcpu)
{
    u64 next = vcpu->index == 0 ? vcpu->vm->poll_tsc : 0;
    u64 deadline = timer_deadline(vcpu);
    if (deadline && (!next || deadline < next))
        next = deadline;
    vcpu->armed_count_end = vcpu->lapic.count_end_tsc;
    atomic_store_explicit(&vcpu->due_tsc, next ? next : ~0ull, memory_order_relaxed);
    bool has_fired = vcpu->timer_tsc && tsc_read() >= vcpu->timer_tsc;
    if (next == vcpu->timer_tsc && !has_fired)
        return;
    vcpu->timer_tsc = next;
    apic_timer_arm(next);
}

/* Before the guest runs: what is due, and the timer for what comes next. */
static inline void serve_time(struct vcpu *vcpu)
{
    if (!time_is_served(vcpu)) {
        serve_due(vcpu);
        arm_timer(vcpu);
    }
    log_pump();
}

static bool is_blocked_for_good(struct vcpu *vcpu)
{
    return vcpu->wish == VCPU_HALT_INTERRUPTS_BLOCKED;
}

/* No NMI is ever sent, so that a vCPU that halts with interrupts blocked stays halted. */
static void note_blocked(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    if (is_blocked_for_good(vcpu) && ++vm->blocked_vcpus == vm->vcpu_count) {
        log_line("guest %s: every vCPU has halted with interrupts disabled", vm->config->name);
        vm_end(vm, VM_END_HALTED);
    }
}

/*
 * Halts in root mode. The flag `halted` goes up before the last look for an interrupt: who posts
 * one after that look sees the flag and kicks us.
 */
static void halt(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    note_blocked(vcpu);
    vcpu->halted = true;
    while (!vm_has_ended(vm)) {
        flush_if_wanted(vcpu);
        serve_due(vcpu);
        log_pump();
        if (!is_blocked_for_good(vcpu) && td_vcpu_interrupt_is_pending(&vcpu->td))
            break;
        if (vm_has_ended(vm))
            break;
        arm_timer(vcpu);
        interrupts_wait();
    }
    vcpu->halted = false;
    vcpu->wish = VCPU_RUN;
}

/* The end of a guest that did what it must not; `what` says it. */
static void end_for_access(struct vcpu *vcpu, const struct td_exit *exit, enum vm_end end)
{
    log_line("guest %s: vCPU %u %s: GPA %#llx, qualification %#llx", vcpu->vm->config->name,
             vcpu->index, vm_end_text(end), (unsigned long long)exit->address.raw,
             (unsigned long long)exit->qualification);
    vm_end(vcpu->vm, end);
}

static enum fault_kind fault_kind(const struct td_exit *exit)
{
    if (exit->detail != TD_EXIT_DETAIL_ACCEPT)
        return FAULT_ACCESS;
    return exit->accept_level == LEVEL_2M ? FAULT_ACCEPT_2M : FAULT_ACCEPT_4K;
}

static void serve_ept_violation(struct vcpu *vcpu, const struct td_exit *exit)
{
    struct vm *vm = vcpu->vm;
    if (exit->detail == TD_EXIT_DETAIL_PENDING_EPT_VIOLATION) {
        end_for_access(vcpu, exit, VM_END_UNACCEPTED_ACCESS);
        return;
    }
    if (exit->address.raw & vm->shared_bit.raw) {
        end_for_access(vcpu, exit, VM_END_BAD_ACCESS);
        return;
    }
    switch (memory_fault(vcpu, gpa_to_gfn(exit->address), fault_kind(exit))) {
    case OK:
    case ERR_BUSY: /* the guest faults again; whatever waits is served first */
        return;
    case ERR_RANGE:
        end_for_access(vcpu, exit, VM_END_BAD_ACCESS);
        return;
    case ERR_NO_MEMORY:
        end_for_access(vcpu, exit, VM_END_NO_MEMORY);
        return;
    default:
        end_for_access(vcpu, exit, VM_END_REFUSED);
        return;
    }
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

void vcpu_run(void *argument)
{
    struct vcpu *vcpu = argument;
    struct vm *vm = vcpu->vm;
    vcpu->running = true;
    while (!vm_has_ended(vm)) {
        struct td_exit exit;
        flush_if_wanted(vcpu);
        serve_time(vcpu);
        td_vcpu_enter(&vcpu->td, &exit);
        if (vcpu->series)
            measure_td_exit(vcpu, &exit, tsc_read());
        if (exit.kind < TD_EXIT_KINDS)
            vcpu->exits[exit.kind]++;
        serve_exit(vcpu, &exit);
        /* What arrived meanwhile, and what VP.ENTER left pending. */
        interrupts_window();
        if (vcpu->wish != VCPU_RUN)
            halt(vcpu);
    }
    apic_timer_arm(0);
    vcpu->timer_tsc = 0;
    vcpu->due_tsc = 0;
    vcpu->running = false;
    vcpu->flush_wanted = false;
}
