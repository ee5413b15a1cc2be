/* SPDX-License-Identifier: MIT */
/* TDVMCALLs of Tain's own: who may call them, what they change, and what a series prints. */
#include <stdio.h>
#include <string.h>

#include "boot/machine.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/fakes.h"
#include "vmm/measure.h"
#include "vmm/vmcall.h"

#define BEGIN 1
#define END 2
#define DISCARD 3
#define DEMOTE 4
#define PROMOTE 5
#define DISCARD_PAGES 6
#define AUDIT 7
#define MAP_AHEAD 8
#define TEARDOWN_PAGES 9

static struct vm *vm;
static struct vcpu *vcpu;
static struct tdx_regs *regs;

static void test_name_set(const char *name)
{
    static struct machine altered;
    altered = (struct machine){0};
    snprintf(altered.config.test, sizeof altered.config.test, "%s", name);
    machine_set(&altered);
}

static int set_up(void **state)
{
    (void)state;
    vm = fake_vm_create(64 * MIB, 1);
    vcpu = vm->vcpus[0];
    regs = &vcpu->td.regs;
    test_name_set(TEST_MEASURE);
    host_log_clear();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_name_set("");
    measure_series_free(vcpu);
    fake_vm_destroy(vm);
    return 0;
}

static u64 call(u64 number, u64 r12, u64 r13)
{
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_R10] = MEASURE_VENDOR;
    regs->gpr[GPR_R11] = number;
    regs->gpr[GPR_R12] = r12;
    regs->gpr[GPR_R13] = r13;
    vmcall_handle(vcpu);
    return regs->gpr[GPR_R10];
}

static u64 reply(void)
{
    return regs->gpr[GPR_R11];
}

static void without_the_test_there_are_none(void **state)
{
    (void)state;
    test_name_set("");
    for (u64 number = BEGIN; number <= TEARDOWN_PAGES; number++)
        assert_true(call(number, 0, PAGE_BYTES) == VMCALL_SUBFUNC_UNSUPPORTED);
    assert_null(vcpu->series);
    test_name_set("touch-private");
    assert_true(call(BEGIN, 0, 0) == VMCALL_SUBFUNC_UNSUPPORTED);
    test_name_set(TEST_MEASURE);
    assert_true(call(0x7777, 0, 0) == VMCALL_SUBFUNC_UNSUPPORTED);
}

static void ranges_are_checked(void **state)
{
    (void)state;
    static const u64 numbers[] = {DISCARD, DEMOTE, PROMOTE, DISCARD_PAGES};
    for (u32 i = 0; i < ARRAY_LENGTH(numbers); i++) {
        assert_true(call(numbers[i], 1, PAGE_BYTES) == VMCALL_ALIGN_ERROR);
        assert_true(call(numbers[i], 0, 1) == VMCALL_ALIGN_ERROR);
        assert_true(call(numbers[i], 0, 0) == VMCALL_INVALID_OPERAND);
        assert_true(call(numbers[i], FAKE_SHARED_BIT, PAGE_BYTES) == VMCALL_INVALID_OPERAND);
        assert_true(call(numbers[i], PAGE_BYTES, FAKE_SHARED_BIT) == VMCALL_INVALID_OPERAND);
    }
}

static void pages_map(u32 count)
{
    for (u64 i = 0; i < count; i++)
        assert_int_equal(memory_fault(vcpu, gfn(512 + i), FAULT_ACCESS), OK);
}

static void a_range_is_discarded_at_once_or_page_by_page(void **state)
{
    (void)state;
    pages_map(8);
    assert_int_equal(call(DISCARD, 2 * MIB, 4 * PAGE_BYTES), VMCALL_SUCCESS);
    assert_int_equal(reply(), 2 * MIB + 4 * PAGE_BYTES);
    assert_int_equal(fakes.track_calls, 1);
    assert_int_equal(call(DISCARD_PAGES, 2 * MIB + 4 * PAGE_BYTES, 4 * PAGE_BYTES), VMCALL_SUCCESS);
    assert_int_equal(reply(), 2 * MIB + 8 * PAGE_BYTES);
    assert_int_equal(fakes.track_calls, 5);
    for (u32 i = 0; i < 8; i++)
        assert_true(hpa_is_none(fakes.mirror[512 + i]));
}

static void sizes_change_on_request(void **state)
{
    (void)state;
    assert_int_equal(call(DEMOTE, 2 * MIB, 4 * MIB), VMCALL_SUCCESS);
    assert_int_equal(fakes.demotions, 2);
    fakes.can_promote = true;
    assert_int_equal(call(PROMOTE, 2 * MIB, 6 * MIB), VMCALL_SUCCESS);
    assert_int_equal(reply(), 3);
}

static void an_audit_says_whether_all_agrees(void **state)
{
    (void)state;
    assert_int_equal(call(AUDIT, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(reply(), 0);
    fakes.audit = ERR_STATE;
    assert_int_equal(call(AUDIT, 0, 0), VMCALL_SUCCESS);
    assert_int_not_equal(reply(), 0);
}

static void a_fault_maps_ahead_or_not(void **state)
{
    (void)state;
    assert_int_equal(call(MAP_AHEAD, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(memory_fault(vcpu, gfn(512), FAULT_ACCEPT_4K), OK);
    assert_true(hpa_is_none(fakes.mirror[513]));
    assert_int_equal(call(MAP_AHEAD, 1, 0), VMCALL_SUCCESS);
    assert_int_equal(memory_fault(vcpu, gfn(513), FAULT_ACCEPT_4K), OK);
    assert_false(hpa_is_none(fakes.mirror[514]));
    assert_false(vm->teardown_by_page);
    assert_int_equal(call(TEARDOWN_PAGES, 0, 0), VMCALL_SUCCESS);
    assert_true(vm->teardown_by_page);
}

/* One VP.ENTER: it ended with `exit`, after the last exit had taken so many ticks. */
static void exits(enum td_exit_kind kind, u64 vmm_ticks, u64 module_ticks)
{
    const u64 guest_ticks = 1 << 20, slack = 1 << 16;
    fakes.clock.module_ticks += module_ticks;
    fakes.clock.enter_tsc = fakes.clock.return_tsc + vmm_ticks + module_ticks + slack;
    fakes.clock.return_tsc = fakes.clock.enter_tsc + guest_ticks;
    struct td_exit exit = {.kind = kind};
    measure_td_exit(vcpu, &exit, tsc_read());
}

static void a_series_counts_its_own_exits_alone(void **state)
{
    (void)state;
    assert_int_equal(call(BEGIN, SERIES_fault_4k, 0), VMCALL_SUCCESS);
    exits(TD_EXIT_EPT_VIOLATION, 1000, 50); /* before it: the end of the call that began it */
    exits(TD_EXIT_INTERRUPT, 1000, 300);    /* ends a fault */
    exits(TD_EXIT_EPT_VIOLATION, 1000, 7);  /* ends an interrupt */
    exits(TD_EXIT_RETRY, 1000, 7);          /* nothing was entered */
    exits(TD_EXIT_VMCALL, 1000, 200);       /* ends a fault */
    exits(TD_EXIT_VMCALL, 1000, 9);
    assert_int_equal(call(END, 0, 0), VMCALL_SUCCESS);
    assert_non_null(strstr(host_log(), "bench: fault_4k: vmm min "));
    assert_non_null(strstr(host_log(), " n 2; module min 207 median 300 p99 300"));
    assert_null(vcpu->series);
}

static void what_a_sample_covers_divides_it(void **state)
{
    (void)state;
    assert_int_equal(call(BEGIN, SERIES_discard_4k, 0), VMCALL_SUCCESS);
    exits(TD_EXIT_VMCALL, 0, 0);
    exits(TD_EXIT_VMCALL, 0, 4096 * 5);
    assert_int_equal(call(END, 0, 0), VMCALL_SUCCESS);
    assert_non_null(strstr(host_log(), " n 1; module min 5 median 5 p99 5"));
}

static void series_are_opened_and_closed_in_turn(void **state)
{
    (void)state;
    assert_true(call(END, 0, 0) == VMCALL_INVALID_OPERAND);
    assert_true(call(BEGIN, SERIES_IDS, 0) == VMCALL_INVALID_OPERAND);
    assert_int_equal(call(BEGIN, SERIES_vmcall, 0), VMCALL_SUCCESS);
    assert_true(call(BEGIN, SERIES_vmcall, 0) == VMCALL_INVALID_OPERAND);
    assert_int_equal(call(END, 0, 0), VMCALL_SUCCESS);
    assert_non_null(strstr(host_log(), "bench: vmcall: no sample"));
    fakes.pages_limit = fakes.pages_taken;
    assert_true(call(BEGIN, SERIES_vmcall, 0) == VMCALL_INVALID_OPERAND);
}

static void a_full_series_says_so_once(void **state)
{
    (void)state;
    assert_int_equal(call(BEGIN, SERIES_vmcall, 0), VMCALL_SUCCESS);
    for (u32 i = 0; i < 2100; i++)
        exits(TD_EXIT_VMCALL, 10, i);
    assert_int_equal(call(END, 0, 0), VMCALL_SUCCESS);
    assert_non_null(strstr(host_log(), "more than 2048 samples"));
    assert_non_null(strstr(host_log(), " n 2048; module min 1 median 1025 p99 2028"));
}

static bool vm_call(u64 vendor, u64 number, u64 r12)
{
    u64 *gpr = vcpu->vmx.gpr;
    gpr[GPR_R10] = vendor;
    gpr[GPR_R11] = number;
    gpr[GPR_R12] = r12;
    return measure_vm_call(vcpu);
}

static void a_vm_may_open_and_close_series_alone(void **state)
{
    (void)state;
    const u64 *status = &vcpu->vmx.gpr[GPR_R10];
    for (u64 number = DISCARD; number <= TEARDOWN_PAGES + 1; number++)
        assert_false(vm_call(MEASURE_VENDOR, number, 0));
    assert_false(vm_call(0, BEGIN, SERIES_vm_cpuid));
    assert_true(vm_call(MEASURE_VENDOR, BEGIN, SERIES_IDS));
    assert_true(*status == VMCALL_INVALID_OPERAND);
    assert_true(vm_call(MEASURE_VENDOR, BEGIN, SERIES_vm_cpuid));
    assert_int_equal(*status, VMCALL_SUCCESS);
    assert_non_null(vcpu->series);
    assert_true(vm_call(MEASURE_VENDOR, END, 0));
    assert_int_equal(*status, VMCALL_SUCCESS);
    assert_null(vcpu->series);
    test_name_set("");
    assert_false(vm_call(MEASURE_VENDOR, BEGIN, SERIES_vm_cpuid));
    assert_null(vcpu->series);
}

/* The guest was entered so many ticks after it had come back, and came back for `reason`. */
static void vm_exits(u64 reason, u64 ticks)
{
    vcpu->vmx.enter_tsc = vcpu->vmx.return_tsc + ticks;
    vcpu->vmx.return_tsc = vcpu->vmx.enter_tsc + (1 << 20);
    measure_vm_exit(vcpu, reason, tsc_read());
}

static void a_vm_series_counts_its_own_exits_alone(void **state)
{
    (void)state;
    const u64 long_ticks = 1ull << 40; /* far more than what measuring takes */
    unsigned long long min, median;
    assert_true(vm_call(MEASURE_VENDOR, BEGIN, SERIES_vm_fault_4k));
    vm_exits(EXIT_EPT_VIOLATION, 1);
    vm_exits(EXIT_CPUID, 2 * long_ticks);         /* ends a fault */
    vm_exits(EXIT_PREEMPTION_TIMER, 1);           /* ends CPUID */
    vm_exits(EXIT_EPT_VIOLATION, 1);              /* ends what is neither */
    vm_exits(EXIT_EPT_VIOLATION, 3 * long_ticks); /* ends a fault */
    assert_true(vm_call(MEASURE_VENDOR, END, 0));
    const char *line = strstr(host_log(), "bench: vm_fault_4k: ");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "bench: vm_fault_4k: vmm min %llu median %llu", &min, &median),
                     2);
    assert_true(min > long_ticks && min <= 2 * long_ticks);
    assert_true(median > 2 * long_ticks && median <= 3 * long_ticks);
    assert_non_null(strstr(line, " n 2; module min 0 median 0 p99 0"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_the_test_there_are_none),
        TEST(ranges_are_checked),
        TEST(a_range_is_discarded_at_once_or_page_by_page),
        TEST(sizes_change_on_request),
        TEST(an_audit_says_whether_all_agrees),
        TEST(a_fault_maps_ahead_or_not),
        TEST(a_series_counts_its_own_exits_alone),
        TEST(what_a_sample_covers_divides_it),
        TEST(series_are_opened_and_closed_in_turn),
        TEST(a_full_series_says_so_once),
        TEST(a_vm_may_open_and_close_series_alone),
        TEST(a_vm_series_counts_its_own_exits_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
