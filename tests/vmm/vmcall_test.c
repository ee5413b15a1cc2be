/* SPDX-License-Identifier: MIT */
/* Each TDVMCALL as a guest makes it: registers in, registers out. */
#include <string.h>

#include "boot/msr.h"
#include "boot/phys.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/fakes.h"
#include "vmm/layout.h"
#include "vmm/vmcall.h"

static struct vm *vm;
static struct tdx_regs *regs;

static int set_up(void **state)
{
    (void)state;
    vm = fake_vm_create(64 * MIB, 2);
    regs = &vm->vcpus[0]->td.regs;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_vm_destroy(vm);
    return 0;
}

static u64 call(u64 function, u64 r12, u64 r13, u64 r14, u64 r15)
{
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_R11] = function;
    regs->gpr[GPR_R12] = r12;
    regs->gpr[GPR_R13] = r13;
    regs->gpr[GPR_R14] = r14;
    regs->gpr[GPR_R15] = r15;
    vmcall_handle(vm->vcpus[0]);
    return regs->gpr[GPR_R10];
}

static u64 in(u16 port, u64 size)
{
    assert_int_equal(call(30, size, 0, port, 0), VMCALL_SUCCESS);
    return regs->gpr[GPR_R11];
}

static void out(u16 port, u64 size, u64 value)
{
    assert_int_equal(call(30, size, 1, port, value), VMCALL_SUCCESS);
}

static void unknown_subfunctions_are_unsupported(void **state)
{
    (void)state;
    assert_int_equal(call(0x7777, 0, 0, 0, 0), VMCALL_SUBFUNC_UNSUPPORTED);
    assert_int_equal(call(0x10002, 0, 0x1000, 0, 0), VMCALL_SUBFUNC_UNSUPPORTED);
    regs->gpr[GPR_R10] = 1; /* somebody's own call */
    regs->gpr[GPR_R11] = 12;
    vmcall_handle(vm->vcpus[0]);
    assert_int_equal(regs->gpr[GPR_R10], VMCALL_SUBFUNC_UNSUPPORTED);
    assert_int_equal(vm->vcpus[0]->wish, VCPU_RUN);
    assert_int_equal(vm->vcpus[0]->vmcalls[VMCALL_unknown], 2);
    assert_int_equal(vm->end, VM_RUNS);
}

static void get_info_answers_its_leaves(void **state)
{
    (void)state;
    assert_int_equal(call(0x10000, 0, 5, 5, 5), VMCALL_SUCCESS);
    for (u32 i = GPR_R11; i <= GPR_R14; i++)
        assert_int_equal(regs->gpr[i], 0);
    assert_int_equal(call(0x10000, 1, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R11], 2);
    assert_int_equal(call(0x10000, 2, 0, 0, 0), VMCALL_INVALID_OPERAND);
}

static void cpuid_shows_the_signature(void **state)
{
    (void)state;
    assert_int_equal(call(10, 0x40000000, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R12], 0x40000001);
    assert_memory_equal(&regs->gpr[GPR_R13], "KVMK", 4);
    assert_memory_equal(&regs->gpr[GPR_R14], "VMKV", 4);
    assert_memory_equal(&regs->gpr[GPR_R15], "M\0\0\0", 4);
    assert_int_equal(call(10, 0x40000001, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R12], 0);
    assert_int_equal(call(10, 1, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R12] | regs->gpr[GPR_R15], 0);
}

static void ports_answer_by_the_table(void **state)
{
    (void)state;
    assert_int_equal(in(0x71, 1), 0);
    assert_int_equal(in(0x60, 1), 0xff);
    assert_int_equal(in(0xcf8, 4), 0xffffffff);
    assert_int_equal(in(0x3fd, 1), 0x60);
    assert_int_equal(in(0x3fd, 2), 0xb060); /* line and modem status */
    assert_int_equal(in(0x3ff, 4), 0xffffff00);
    assert_int_equal(in(0xffff, 4), 0xffffffff);
    out(0x80, 1, 0x55);
    assert_int_equal(call(30, 3, 0, 0x80, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(call(30, 1, 2, 0x80, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(call(30, 1, 0, 0x10000, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(vm->end, VM_RUNS);
}

static void the_uart_prints(void **state)
{
    (void)state;
    out(0x3f8, 1, 'T');
    assert_string_equal(host_log(), "T\n");
    assert_true(vm->console.in_line);
    out(0x3f8, 1, '\n');
    assert_false(vm->console.in_line);
}

static void the_sleep_register_switches_off(void **state)
{
    (void)state;
    out(0x600, 1, 0x14); /* no sleep enable */
    out(0x600, 1, 0x20 | 3 << 2);
    assert_int_equal(vm->end, VM_RUNS);
    out(0x600, 1, 0x34);
    assert_int_equal(vm->end, VM_END_POWERED_OFF);
}

static void hlt_is_a_wish(void **state)
{
    (void)state;
    assert_int_equal(call(12, 0, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(vm->vcpus[0]->wish, VCPU_HALT);
    assert_int_equal(call(12, 1, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(vm->vcpus[0]->wish, VCPU_HALT_INTERRUPTS_BLOCKED);
}

static void msrs_are_answered_or_refused(void **state)
{
    (void)state;
    assert_int_equal(call(31, MSR_MCG_CAP, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R11], 0);
    assert_int_equal(call(31, MSR_X2APIC_VERSION, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R11], 0x50014);
    assert_int_equal(call(31, 0x17, 0, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(call(32, MSR_MCG_STATUS, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(call(32, MSR_MCG_STATUS, 1, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(call(32, 0x1234, 0, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(vm->vcpus[0]->msrs_refused, 3);
}

static void an_ipi_reaches_its_vcpu(void **state)
{
    (void)state;
    assert_int_equal(call(32, MSR_X2APIC_ICR, 1ull << 32 | 0xfd, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(fakes.posts, 1);
    assert_int_equal(fakes.posted_vcpu, 1);
    assert_int_equal(fakes.posted_vector, 0xfd);
    assert_int_equal(call(32, MSR_X2APIC_ICR, 3 << 18 | 0x40, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(fakes.posts, 2);
    assert_int_equal(fakes.posted_vcpu, 1);
}

static u64 mmio(u64 address, u64 size, u64 direction, u64 data)
{
    return call(48, size, direction, address, data);
}

static void mmio_reaches_the_io_apic(void **state)
{
    (void)state;
    const u64 window = FAKE_SHARED_BIT | LAYOUT_IOAPIC;
    assert_int_equal(mmio(window, 4, 1, 0x01), VMCALL_SUCCESS);
    assert_int_equal(mmio(window + 0x10, 4, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R11], 0x170011);
    /* Pin 4 to vCPU 1, vector 0x31; then a key and the receive interrupt. */
    assert_int_equal(mmio(window, 4, 1, 0x19), VMCALL_SUCCESS);
    assert_int_equal(mmio(window + 0x10, 4, 1, 0x01000000), VMCALL_SUCCESS);
    assert_int_equal(mmio(window, 4, 1, 0x18), VMCALL_SUCCESS);
    assert_int_equal(mmio(window + 0x10, 4, 1, 0x31), VMCALL_SUCCESS);
    assert_int_equal(fakes.posts, 0);
    assert_true(guest_console_type('k'));
    assert_int_equal(fakes.posts, 0);
    out(0x3f9, 1, 1);
    assert_int_equal(fakes.posts, 1);
    assert_int_equal(fakes.posted_vcpu, 1);
    assert_int_equal(fakes.posted_vector, 0x31);
    assert_int_equal(in(0x3f8, 1), 'k');
}

static void mmio_elsewhere_is_an_empty_bus(void **state)
{
    (void)state;
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0xfed00000, 4, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(regs->gpr[GPR_R11], 0xffffffff);
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0xfed00000, 8, 0, 0), VMCALL_SUCCESS);
    assert_true(regs->gpr[GPR_R11] == ~0ull);
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0xfed00000, 4, 1, 1), VMCALL_SUCCESS);
    assert_int_equal(mmio(0xfed00000, 4, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0x100000, 4, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0xfed00000, 3, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(mmio(FAKE_SHARED_BIT | 0xfed00000, 4, 2, 0), VMCALL_INVALID_OPERAND);
}

static void a_fatal_error_is_printed_and_ends_the_guest(void **state)
{
    (void)state;
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_R11] = 0x10003;
    regs->gpr[GPR_R12] = 7;
    memcpy(&regs->gpr[GPR_R14], "no memor", 8);
    memcpy(&regs->gpr[GPR_R15], "y \x1b[2Jok", 8);
    vmcall_handle(vm->vcpus[0]);
    assert_int_equal(vm->end, VM_END_FATAL_ERROR);
    assert_string_equal(host_log(),
                        "guest test: vCPU 0 reports a fatal error, code 0x7: no memory .[2Jok\n");
}

static void a_fatal_error_may_have_its_text_in_shared_memory(void **state)
{
    (void)state;
    assert_int_equal(call(0x10001, FAKE_SHARED_BIT | 0x200000, 0x1000, 0, 0), VMCALL_SUCCESS);
    memcpy((u8 *)phys_to_virt(fakes.direct[0x200]) + PAGE_BYTES - 5, "crash", 5);
    call(0x10003, 1ull << 63, FAKE_SHARED_BIT | 0x200ffb, 0, 0);
    assert_non_null(strstr(host_log(), "code 0: crash\n"));
}

static void event_vectors_are_checked(void **state)
{
    (void)state;
    assert_int_equal(call(0x10004, 32, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(call(0x10004, 31, 0, 0, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(call(0x10004, 256, 0, 0, 0), VMCALL_INVALID_OPERAND);
}

static void wbinvd_is_nothing(void **state)
{
    (void)state;
    assert_int_equal(call(54, 0, 0, 0, 0), VMCALL_SUCCESS);
    assert_int_equal(call(54, 2, 0, 0, 0), VMCALL_INVALID_OPERAND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unknown_subfunctions_are_unsupported),
        TEST(get_info_answers_its_leaves),
        TEST(cpuid_shows_the_signature),
        TEST(ports_answer_by_the_table),
        TEST(the_uart_prints),
        TEST(the_sleep_register_switches_off),
        TEST(hlt_is_a_wish),
        TEST(msrs_are_answered_or_refused),
        TEST(an_ipi_reaches_its_vcpu),
        TEST(mmio_reaches_the_io_apic),
        TEST(mmio_elsewhere_is_an_empty_bus),
        TEST(a_fatal_error_is_printed_and_ends_the_guest),
        TEST(a_fatal_error_may_have_its_text_in_shared_memory),
        TEST(event_vectors_are_checked),
        TEST(wbinvd_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
