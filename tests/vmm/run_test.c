/* SPDX-License-Identifier: MIT */
/* The loop of a vCPU against a scripted processor: each exit in, what the VMM did out. */
#include <string.h>

#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/machine.h"
#include "boot/time.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/fakes.h"
#include "vmm/run.h"
#include "vmm/schedule.h"
#include "vmm/vmcall.h"
#include "vmm/vmx_interrupt.h"

#define FAR 1000000000000ull
#define SCRIPT_MAX 8

static struct vm *vm;
static struct vcpu *vcpu;

static struct script {
    struct td_exit exit;
    u64 r10, r11, r12, r13;
} script[SCRIPT_MAX];
static u32 scripted, entered;
static u64 reply_r10[SCRIPT_MAX + 1]; /* what each entry handed to the guest */
static u32 handled_vector, nmis, windows, waits, wakes_after;
static u64 armed_most;
static u64 yield_tsc;
static u32 vmx_leaves;

void td_vcpu_enter(struct td_vcpu *td, struct td_exit *exit)
{
    reply_r10[entered] = td->regs.gpr[GPR_R10];
    if (entered == scripted) {
        vm_end(vm, VM_END_BY_USER); /* the script is over */
        *exit = (struct td_exit){.kind = TD_EXIT_RETRY};
        return;
    }
    const struct script *line = &script[entered++];
    memset(&td->regs, 0, sizeof td->regs);
    td->regs.gpr[GPR_R10] = line->r10;
    td->regs.gpr[GPR_R11] = line->r11;
    td->regs.gpr[GPR_R12] = line->r12;
    td->regs.gpr[GPR_R13] = line->r13;
    *exit = line->exit;
}

static u32 nmis_pended;
static enum error pend_error;

enum error td_vcpu_pend_nmi(struct td_vcpu *td)
{
    assert_ptr_equal(td, &vcpu->td);
    nmis_pended += !pend_error;
    return pend_error;
}

u64 td_tsc_to_host(const struct td *td, u64 guest_tsc)
{
    (void)td;
    return guest_tsc;
}

const char *tdx_status_name(struct tdx_status status)
{
    (void)status;
    return "STATUS";
}

void apic_timer_arm(u64 tsc)
{
    if (tsc != ~0ull && tsc > armed_most)
        armed_most = tsc;
}

void interrupt_handle(u8 vector)
{
    handled_vector = vector;
}
void nmi_handle(void)
{
    nmis++;
}
static u32 clears_after, kicks_after; /* so many windows what is busy is free; we are kicked */

void interrupts_window(void)
{
    windows++;
    assert_true(windows < 1000);
    if (windows == clears_after)
        fakes.maps_left = 1;
    if (windows == kicks_after)
        cpu_this()->kicked = true;
}
void log_pump(void) {}
u64 time_us_to_tsc(u64 us)
{
    return us * 1000000;
} /* far away */

bool schedule_must_yield(u64 now)
{
    return now >= yield_tsc;
}
u64 schedule_yield_tsc(void)
{
    return yield_tsc;
}
void schedule_kick(u32 cpu)
{
    cpu_kick(cpu);
}

void vmx_vcpu_leave(void)
{
    vmx_leaves++;
}
void vmx_vcpu_run(struct vcpu *ordinary)
{
    assert_null(ordinary); /* there is none here */
}
void vmx_end_for_halt(struct vcpu *ordinary)
{
    assert_null(ordinary);
}
u64 vmx_timer_due(const struct vcpu *ordinary)
{
    assert_null(ordinary);
    return 0;
}

/* Nothing can run: as an idle processor does it. */
static void wait_idle(void)
{
    waits++;
    assert_true(waits < 100);
    if (waits == wakes_after)
        fakes.vcpu_interrupt_pending = true;
}

static int set_up(void **state)
{
    (void)state;
    vm = fake_vm_create(64 * MIB, 1);
    vm->scan_tsc = yield_tsc = ~0ull;
    cpu_this()->kicked = false;
    vmx_leaves = 0;
    vcpu = vm->vcpus[0];
    memset(script, 0, sizeof script);
    scripted = entered = handled_vector = nmis = windows = waits = wakes_after = 0;
    armed_most = nmis_pended = clears_after = kicks_after = 0;
    pend_error = OK;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_vm_destroy(vm);
    return 0;
}

static struct script *next(enum td_exit_kind kind)
{
    struct script *line = &script[scripted++];
    line->exit.kind = kind;
    return line;
}

static struct script *next_vmcall(u64 function)
{
    struct script *line = next(TD_EXIT_VMCALL);
    line->r11 = function;
    return line;
}

static void ends(enum vm_end end)
{
    while (!vm_has_ended(vm)) {
        cpu_this()->kicked = false;
        if (vcpu_can_run(vcpu, tsc_read()))
            vcpu_run(vcpu);
        else
            wait_idle();
    }
    assert_int_equal(vm->end, end);
    assert_false(vcpu->running);
    assert_true(vmx_leaves > 0); /* a TD's entry needs the processor free of a VM */
    assert_false(vcpu_can_run(vcpu, tsc_read()));
    assert_true(vcpu_wake_tsc(vcpu) == ~0ull);
}

static void every_kind_is_counted_and_served(void **state)
{
    (void)state;
    next(TD_EXIT_RETRY);
    next(TD_EXIT_INTERRUPT)->exit.interrupt_info = INTR_VALID | 0xf1;
    next(TD_EXIT_NMI);
    next_vmcall(0x4242);
    next(TD_EXIT_OTHER)->exit.reason = EXIT_SMI;
    ends(VM_END_BY_USER);
    assert_int_equal(handled_vector, 0xf1);
    assert_int_equal(nmis, 1);
    assert_int_equal(windows, 6);
    assert_int_equal(vcpu->exits[TD_EXIT_VMCALL], 1);
    assert_int_equal(vcpu->exits[TD_EXIT_INTERRUPT], 1);
    assert_int_equal(vcpu->exits[TD_EXIT_OTHER], 1);
    assert_true(reply_r10[4] == VMCALL_SUBFUNC_UNSUPPORTED);
}

static struct script *next_violation(u64 address)
{
    struct script *line = next(TD_EXIT_EPT_VIOLATION);
    line->exit.address = gpa(address);
    return line;
}

static void a_private_fault_is_resolved(void **state)
{
    (void)state;
    next_violation(0x200000);
    struct script *accept = next_violation(0x400000);
    accept->exit.detail = TD_EXIT_DETAIL_ACCEPT;
    accept->exit.accept_level = LEVEL_2M;
    ends(VM_END_BY_USER);
    assert_false(hpa_is_none(fakes.mirror[0x200]));
    assert_true(hpa_is_none(fakes.mirror[0x201]));
    assert_false(hpa_is_none(fakes.mirror[0x5ff]));
    /* A large page was tried first. */
    assert_int_equal(fakes.large_maps, 1);
}

static void a_small_accept_of_a_large_page_splits_it(void **state)
{
    (void)state;
    next_violation(0x400000)->exit.detail = TD_EXIT_DETAIL_ACCEPT;
    fakes.lookup_level = LEVEL_2M;
    ends(VM_END_BY_USER);
    assert_int_equal(fakes.demotions, 1);
    assert_int_equal(fakes.large_maps, 0);
}

/* Not the guest's: that would look like single-stepping to the module. */
static void a_busy_fault_is_tried_again_before_the_next_entry(void **state)
{
    (void)state;
    fakes.maps_left = 0;
    fakes.map_error = ERR_BUSY;
    clears_after = 5;
    next_violation(0x200000);
    ends(VM_END_BY_USER);
    assert_int_equal(entered, 1);
    assert_true(windows >= 5); /* what comes meanwhile is served */
    assert_false(hpa_is_none(fakes.mirror[0x200]));
}

static void a_busy_fault_waits_for_the_next_slice_if_the_processor_is_wanted(void **state)
{
    (void)state;
    fakes.maps_left = 0;
    fakes.map_error = ERR_BUSY;
    next_violation(0x200000);
    kicks_after = 3;
    vcpu_run(vcpu);
    assert_true(vcpu->fault.waits);
    assert_int_equal(entered, 1);
    cpu_this()->kicked = false;
    fakes.map_error = ERR_REFUSED;
    ends(VM_END_REFUSED);
    assert_int_equal(entered, 1);
}

static void bad_accesses_end_the_guest(void **state)
{
    (void)state;
    static const struct {
        u64 address;
        enum td_exit_detail detail;
        enum error map_error;
        enum vm_end end;
    } cases[] = {
        {0x200000, TD_EXIT_DETAIL_PENDING_EPT_VIOLATION, OK, VM_END_UNACCEPTED_ACCESS},
        {64 * MIB, TD_EXIT_DETAIL_NONE, OK, VM_END_BAD_ACCESS},
        {FAKE_SHARED_BIT | 0x200000, TD_EXIT_DETAIL_NONE, OK, VM_END_BAD_ACCESS},
        {0x200000, TD_EXIT_DETAIL_NONE, ERR_NO_MEMORY, VM_END_NO_MEMORY},
        {0x200000, TD_EXIT_DETAIL_NONE, ERR_REFUSED, VM_END_REFUSED},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(cases); i++) {
        if (i) {
            tear_down(NULL);
            set_up(NULL);
        }
        fakes.maps_left = 0;
        fakes.map_error = cases[i].map_error;
        next_violation(cases[i].address)->exit.detail = cases[i].detail;
        ends(cases[i].end);
        assert_non_null(strstr(host_log(), "guest test: vCPU 0 "));
    }
}

static void crashes_are_told_apart(void **state)
{
    (void)state;
    next(TD_EXIT_TRIPLE_FAULT)->exit.reason = EXIT_TRIPLE_FAULT;
    ends(VM_END_TRIPLE_FAULT);
    assert_non_null(strstr(host_log(), "status STATUS"));
    static const enum td_exit_kind kinds[] = {TD_EXIT_DEAD, TD_EXIT_EPT_MISCONFIGURATION,
                                              TD_EXIT_OTHER};
    for (u32 i = 0; i < ARRAY_LENGTH(kinds); i++) {
        tear_down(NULL);
        set_up(NULL);
        next(kinds[i])->exit.reason = EXIT_INIT;
        ends(VM_END_TD_DEAD);
    }
}

static void a_halted_vcpu_sleeps_until_an_interrupt(void **state)
{
    (void)state;
    next_vmcall(12);
    wakes_after = 3;
    ends(VM_END_BY_USER);
    assert_int_equal(waits, 3);
    assert_false(vcpu->halted);
    assert_int_equal(vcpu->wish, VCPU_RUN);
}

static void an_interrupt_that_waits_already_ends_a_halt_at_once(void **state)
{
    (void)state;
    next_vmcall(12);
    fakes.vcpu_interrupt_pending = true;
    ends(VM_END_BY_USER);
    assert_int_equal(waits, 0);
}

static void halting_for_good_ends_the_guest(void **state)
{
    (void)state;
    next_vmcall(12)->r12 = 1;
    fakes.vcpu_interrupt_pending = true;
    ends(VM_END_HALTED);
    assert_int_equal(waits, 0);
}

static void an_nmi_wakes_a_vcpu_that_halted_with_interrupts_blocked(void **state)
{
    (void)state;
    vm->vcpu_count = 2; /* another one could send it */
    next_vmcall(12)->r12 = 1;
    vcpu_run(vcpu);
    assert_int_equal(vm->blocked_vcpus, 1);
    assert_false(vcpu_can_run(vcpu, tsc_read()));
    vcpu->nmi_wanted = true;
    assert_true(vcpu_can_run(vcpu, tsc_read()));
    assert_int_equal(vm->blocked_vcpus, 0);
    ends(VM_END_BY_USER);
    assert_int_equal(nmis_pended, 1);
    assert_false(vcpu->nmi_wanted);
    vm->vcpu_count = 1;
}

static void an_nmi_that_the_module_is_too_busy_for_is_asked_for_again(void **state)
{
    (void)state;
    pend_error = ERR_BUSY;
    vcpu->nmi_wanted = true;
    vcpu_run(vcpu);
    assert_true(vcpu->nmi_wanted);
    assert_int_equal(entered, 0);
    pend_error = OK;
    cpu_this()->kicked = false;
    ends(VM_END_BY_USER);
    assert_int_equal(nmis_pended, 1);
}

static struct script *next_wrmsr(u32 msr, u64 value)
{
    struct script *line = next_vmcall(32);
    line->r12 = msr;
    line->r13 = value;
    return line;
}

static void the_timer_is_armed_and_its_vector_posted(void **state)
{
    (void)state;
    next_wrmsr(0x832, 2 << 17 | 0xec);
    next_wrmsr(0x6e0, 1); /* long past */
    next(TD_EXIT_RETRY);
    ends(VM_END_BY_USER);
    assert_int_equal(fakes.posts, 1);
    assert_int_equal(fakes.posted_vector, 0xec);
    assert_int_equal(vcpu->lapic.deadline, 0);
}

static void a_later_deadline_arms_the_processor_s_timer(void **state)
{
    (void)state;
    u64 deadline = tsc_read() + FAR;
    next_wrmsr(0x832, 2 << 17 | 0xec);
    next_wrmsr(0x6e0, deadline);
    next_vmcall(12);
    wakes_after = 2;
    ends(VM_END_BY_USER);
    assert_true(armed_most == deadline);
    assert_int_equal(fakes.posts, 0);
}

static void a_count_arms_the_processor_s_timer(void **state)
{
    (void)state;
    static const struct machine fast = {.tsc_hz = 1ull << 40};
    machine_set(&fast);
    next_wrmsr(0x832, 0xec);
    next_wrmsr(0x838, ~0u);
    next(TD_EXIT_RETRY);
    ends(VM_END_BY_USER);
    assert_true(vcpu->lapic.count_end_tsc != 0);
    assert_true(armed_most == vcpu->lapic.count_end_tsc);
}

/* Each case: why a slice ends although the guest could go on. */
static void a_slice_ends_when_the_processor_is_wanted(void **state)
{
    (void)state;
    next(TD_EXIT_RETRY);
    cpu_this()->kicked = true;
    vcpu_run(vcpu);
    assert_int_equal(entered, 0);
    cpu_this()->kicked = false;
    yield_tsc = 0;
    vcpu_run(vcpu);
    assert_int_equal(entered, 0);
    assert_false(vcpu->running);
    assert_true(vcpu_can_run(vcpu, tsc_read()));
    yield_tsc = ~0ull;
    ends(VM_END_BY_USER);
    assert_int_equal(entered, 1);
}

static void a_paused_guest_does_not_run_and_does_not_wake(void **state)
{
    (void)state;
    vcpu->lapic.count_end_tsc = tsc_read() + FAR;
    vm->paused = true;
    assert_false(vcpu_can_run(vcpu, tsc_read()));
    assert_true(vcpu_wake_tsc(vcpu) == ~0ull);
    vm->paused = false;
    assert_true(vcpu_can_run(vcpu, tsc_read()));
    assert_true(vcpu_wake_tsc(vcpu) == vcpu->lapic.count_end_tsc);
    ends(VM_END_BY_USER);
}

static void memory_is_scanned_when_it_is_time(void **state)
{
    (void)state;
    vm->memory.scans = true;
    vm->scan_tsc = 0;
    next(TD_EXIT_RETRY);
    ends(VM_END_BY_USER);
    assert_true(vm->scan_tsc > tsc_read());
    assert_int_equal(vm->memory.scan_next.raw, BLOCK_PAGES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_is_counted_and_served),
        TEST(a_private_fault_is_resolved),
        TEST(a_small_accept_of_a_large_page_splits_it),
        TEST(a_busy_fault_is_tried_again_before_the_next_entry),
        TEST(a_busy_fault_waits_for_the_next_slice_if_the_processor_is_wanted),
        TEST(bad_accesses_end_the_guest),
        TEST(crashes_are_told_apart),
        TEST(a_halted_vcpu_sleeps_until_an_interrupt),
        TEST(an_interrupt_that_waits_already_ends_a_halt_at_once),
        TEST(halting_for_good_ends_the_guest),
        TEST(an_nmi_wakes_a_vcpu_that_halted_with_interrupts_blocked),
        TEST(an_nmi_that_the_module_is_too_busy_for_is_asked_for_again),
        TEST(the_timer_is_armed_and_its_vector_posted),
        TEST(a_later_deadline_arms_the_processor_s_timer),
        TEST(a_count_arms_the_processor_s_timer),
        TEST(a_slice_ends_when_the_processor_is_wanted),
        TEST(a_paused_guest_does_not_run_and_does_not_wake),
        TEST(memory_is_scanned_when_it_is_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
