/* SPDX-License-Identifier: MIT */
/* VP.ENTER: what goes in, what comes out, and who may keep a vCPU from going in. */
#include "tdx/td.h"

#include <pthread.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/phys.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/td_parts.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/fake_module.h"

static const struct memory_range ranges[] = {{MIB, 64 * MIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpu;
static struct tdx_regs answer;

static bool enter_answers(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_VP_ENTER)
        return false;
    *regs = answer;
    return true;
}

static int start(void **state)
{
    static const struct td_options options = {.max_vcpus = 1, .tsc_hz = 1000000000};
    (void)state;
    fake_reset();
    environment_start(2, 1, ranges, 1);
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpu, 0, hpa(0x2000)), OK);
    assert_int_equal(td_finalize(&td), OK);
    host_log_clear();
    fake_call_count = 0;
    fake_answer = enter_answers;
    memset(&answer, 0, sizeof answer);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    host_cpu_set(0);
    assert_int_equal(td_destroy(&td), OK);
    environment_stop();
    return 0;
}

static void every_exit_has_its_kind(void **state)
{
    (void)state;
    static const struct {
        u64 rax, r9;
        enum td_exit_kind kind;
    } rows[] = {
        {77, 0, TD_EXIT_VMCALL},
        {77 | 1 << 26, 0, TD_EXIT_VMCALL},
        {48, 0, TD_EXIT_EPT_VIOLATION},
        {49, 0, TD_EXIT_EPT_MISCONFIGURATION},
        {1, INTR_VALID | INTR_TYPE_EXTERNAL | 0xf1, TD_EXIT_INTERRUPT},
        {0, INTR_VALID | INTR_TYPE_NMI | 2, TD_EXIT_NMI},
        {0, INTR_VALID | INTR_TYPE_EXCEPTION | 18, TD_EXIT_OTHER},
        {6, 0, TD_EXIT_OTHER},
        {74, 0, TD_EXIT_OTHER},
        {(u64)TDX_NON_RECOVERABLE_VCPU << 32 | 2, 0, TD_EXIT_TRIPLE_FAULT},
        {(u64)TDX_NON_RECOVERABLE_VCPU << 32 | 0, 0, TD_EXIT_DEAD},
        {(u64)TDX_NON_RECOVERABLE_TD << 32 | 1u << 31 | 33, 0, TD_EXIT_DEAD},
        {(u64)TDX_NON_RECOVERABLE_TD << 32 | 48, 0, TD_EXIT_DEAD},
        {(u64)TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE << 32, 0, TD_EXIT_DEAD},
        {(u64)TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE << 32, 0, TD_EXIT_DEAD},
        {(u64)TDX_OPERAND_BUSY << 32 | OPERAND_SEPT_TREE, 0, TD_EXIT_RETRY},
        {(u64)TDX_OPERAND_BUSY << 32 | OPERAND_TD_EPOCH, 0, TD_EXIT_RETRY},
        {(u64)TDX_HOST_PRIORITY_BUSY_TIMEOUT << 32, 0, TD_EXIT_RETRY},
        {(u64)TDX_TD_FATAL << 32, 0, TD_EXIT_DEAD},
        {(u64)TDX_OPERAND_INVALID << 32 | OPERAND_RCX, 0, TD_EXIT_DEAD},
        {TDX_STATUS_SEAMCALL_UD, 0, TD_EXIT_DEAD},
    };
    struct td_exit exit;
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        host_log_clear();
        answer.gpr[GPR_RAX] = rows[i].rax;
        answer.gpr[GPR_R9] = rows[i].r9;
        td_vcpu_enter(&vcpu, &exit);
        assert_int_equal(exit.kind, rows[i].kind);
        assert_int_equal(exit.status.raw, rows[i].rax);
        assert_int_equal(exit.reason, rows[i].rax & 0xffff);
        /* The end of a TD is one line, all else is silent. */
        assert_int_equal(strstr(host_log(), "TDH.VP.ENTER refused") != NULL,
                         rows[i].kind == TD_EXIT_DEAD);
    }
}

static void a_violation_says_where_and_how(void **state)
{
    (void)state;
    struct td_exit exit;
    answer.gpr[GPR_RAX] = EXIT_EPT_VIOLATION;
    answer.gpr[GPR_RCX] = 2ull << 32 | 0x3a;
    answer.gpr[GPR_RDX] = 0x1234ull << 32 | TD_EXIT_DETAIL_PENDING_EPT_VIOLATION;
    answer.gpr[GPR_R8] = 1ull << 47 | 0x5000;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(exit.qualification, 0x3a);
    assert_int_equal(exit.detail, TD_EXIT_DETAIL_PENDING_EPT_VIOLATION);
    assert_int_equal(exit.address.raw, 1ull << 47 | 0x5000);
}

static void a_violation_of_an_accept_says_the_level(void **state)
{
    (void)state;
    struct td_exit exit;
    answer.gpr[GPR_RAX] = EXIT_EPT_VIOLATION;
    answer.gpr[GPR_RDX] = (1ull | 3ull << 3 | 1ull << 14) << 32 | TD_EXIT_DETAIL_ACCEPT;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(exit.detail, TD_EXIT_DETAIL_ACCEPT);
    assert_int_equal(exit.accept_level, LEVEL_2M);
}

static void a_vmcall_passes_registers_both_ways(void **state)
{
    (void)state;
    struct td_exit exit = {};
    answer.gpr[GPR_RAX] = EXIT_TDCALL;
    answer.gpr[GPR_RCX] = 0xfc00;
    answer.gpr[GPR_R11] = 30;
    answer.gpr[GPR_R8] = 0x7777;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(vcpu.regs.gpr[GPR_R11], 30);
    assert_int_equal(vcpu.regs.gpr[GPR_RCX], 0xfc00);
    /* R8 is the guest's, not an address. */
    assert_int_equal(exit.address.raw, 0);
    vcpu.regs.gpr[GPR_R11] = 0x42;
    td_vcpu_enter(&vcpu, &exit);
    const struct fake_call *call = fake_find(TDH_VP_ENTER, 1);
    assert_int_equal(call->in.gpr[GPR_R11], 0x42);
    assert_int_equal(call->in.gpr[GPR_RCX], vcpu.tdvpr.raw);
}

static void a_vcpu_that_moves_is_flushed_where_it_was(void **state)
{
    (void)state;
    struct td_exit exit;
    answer.gpr[GPR_RAX] = EXIT_TDCALL;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(fake_count(TDH_VP_FLUSH), 0);
    assert_int_equal(vcpu.cpu, 0);
    host_cpu_set(1);
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(fake_count(TDH_VP_FLUSH), 1);
    assert_int_equal(fake_find(TDH_VP_FLUSH, 0)->cpu, 0);
    assert_int_equal(fake_find(TDH_VP_ENTER, 1)->cpu, 1);
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(fake_count(TDH_VP_FLUSH), 1);
}

static u64 *descriptor(void)
{
    return (u64 *)((u8 *)phys_to_virt(hpa(align_down(vcpu.descriptor.raw, PAGE_BYTES))) +
                   (vcpu.descriptor.raw & PAGE_MASK));
}

static void a_posted_vector_is_in_the_descriptor_and_notifies_once(void **state)
{
    (void)state;
    struct td_exit exit;
    host_cpu_set(1);
    td_vcpu_enter(&vcpu, &exit);
    assert_false(td_vcpu_interrupt_is_pending(&vcpu));
    td_vcpu_post(&vcpu, 0xec);
    assert_int_equal(descriptor()[3], 1ull << (0xec - 192));
    /* ON; the vector; the processor that it last ran on. */
    assert_int_equal(descriptor()[4], 1 | (u64)VECTOR_POSTED << 16 | 2ull << 32);
    assert_true(td_vcpu_interrupt_is_pending(&vcpu));
    assert_int_equal(environment_interrupts_sent, 0);

    descriptor()[4] &= ~1ull;
    vcpu.in_guest = true;
    td_vcpu_post(&vcpu, 0x30);
    td_vcpu_post(&vcpu, 0x31);
    vcpu.in_guest = false;
    assert_int_equal(descriptor()[0], 3ull << 0x30);
    assert_int_equal(environment_interrupts_sent, 1);
    assert_int_equal(environment_interrupt_target, 2);
    assert_int_equal(environment_interrupt_vector, VECTOR_POSTED);
}

static bool interrupt_in_service(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_VP_RD)
        return enter_answers(leaf, regs);
    assert_int_equal(regs->gpr[GPR_RDX], MD_VP_STATE_DETAILS);
    regs->gpr[GPR_RAX] = 0;
    regs->gpr[GPR_R8] = 1;
    return true;
}

static void the_module_is_asked_for_what_it_took_in(void **state)
{
    (void)state;
    struct td_exit exit;
    fake_answer = interrupt_in_service;
    /* Nobody has it, so the module would only be made to associate it. */
    assert_false(td_vcpu_interrupt_is_pending(&vcpu));
    td_vcpu_enter(&vcpu, &exit);
    assert_true(td_vcpu_interrupt_is_pending(&vcpu));
}

static void while_vcpus_are_held_none_enters(void **state)
{
    (void)state;
    struct td_exit exit;
    td_mirror_ops.hold_vcpus(&td);
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(exit.kind, TD_EXIT_RETRY);
    assert_int_equal(fake_count(TDH_VP_ENTER), 0);
    assert_false(vcpu.in_guest);
    td_mirror_ops.release_vcpus(&td);
    answer.gpr[GPR_RAX] = EXIT_TDCALL;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(exit.kind, TD_EXIT_VMCALL);
}

/* A guest that stays until it is kicked. Its stays are counted as they begin and as they end. */
static _Atomic u64 stays_begun, stays_ended;

static bool guest_runs(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_VP_ENTER)
        return false;
    stays_begun++;
    while (!atomic_exchange(&cpu_this()->kicked, false))
        cpu_relax();
    stays_ended++;
    *regs = (struct tdx_regs){.gpr[GPR_RAX] = EXIT_EXTERNAL_INTERRUPT};
    return true;
}

static _Atomic bool runner_stops, runner_ended;
static _Atomic u64 runner_exits;

static void *runner(void *argument)
{
    struct td_exit exit;
    (void)argument;
    host_cpu_set(1);
    while (!runner_stops) {
        td_vcpu_enter(&vcpu, &exit);
        runner_exits += exit.kind == TD_EXIT_INTERRUPT;
    }
    runner_ended = true;
    return NULL;
}

static void wait_for_the_guest(void)
{
    while (!vcpu.in_guest)
        cpu_relax();
}

static void track_returns_when_each_vcpu_has_left_once(void **state)
{
    (void)state;
    pthread_t thread;
    runner_stops = false;
    runner_ended = false;
    runner_exits = 0;
    stays_begun = 0;
    stays_ended = 0;
    fake_answer = guest_runs;
    assert_int_equal(pthread_create(&thread, NULL, runner, NULL), 0);
    for (u32 i = 0; i < 200; i++) {
        wait_for_the_guest();
        u64 begun = stays_begun;
        assert_int_equal(td_mirror_ops.track(&td), OK);
        assert_true(stays_ended >= begun);
    }
    /* Held, it has left and stays out. */
    wait_for_the_guest();
    td_mirror_ops.hold_vcpus(&td);
    u64 begun = stays_begun;
    assert_int_equal(stays_ended, begun);
    for (u32 i = 0; i < 100000; i++)
        cpu_relax();
    assert_int_equal(stays_begun, begun);
    runner_stops = true;
    td_mirror_ops.release_vcpus(&td);
    while (!runner_ended)
        cpu_kick(1);
    pthread_join(thread, NULL);
    assert_true(runner_exits > 0);
    vcpu.cpu = -1;
}

static bool track_refused(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_MEM_TRACK)
        return false;
    regs->gpr[GPR_RAX] = (u64)TDX_PREVIOUS_TLB_EPOCH_BUSY << 32;
    return true;
}

static void a_busy_track_is_told_and_kicks_nobody(void **state)
{
    (void)state;
    fake_answer = track_refused;
    cpu_at(0)->kicked = false;
    assert_int_equal(td_mirror_ops.track(&td), ERR_BUSY);
    assert_false(cpu_at(0)->kicked);
    assert_int_equal(cpu_this()->locks_held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_exit_has_its_kind, start, stop),
        cmocka_unit_test_setup_teardown(a_violation_says_where_and_how, start, stop),
        cmocka_unit_test_setup_teardown(a_violation_of_an_accept_says_the_level, start, stop),
        cmocka_unit_test_setup_teardown(a_vmcall_passes_registers_both_ways, start, stop),
        cmocka_unit_test_setup_teardown(a_vcpu_that_moves_is_flushed_where_it_was, start, stop),
        cmocka_unit_test_setup_teardown(a_posted_vector_is_in_the_descriptor_and_notifies_once,
                                        start, stop),
        cmocka_unit_test_setup_teardown(the_module_is_asked_for_what_it_took_in, start, stop),
        cmocka_unit_test_setup_teardown(while_vcpus_are_held_none_enters, start, stop),
        cmocka_unit_test_setup_teardown(track_returns_when_each_vcpu_has_left_once, start, stop),
        cmocka_unit_test_setup_teardown(a_busy_track_is_told_and_kicks_nobody, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
