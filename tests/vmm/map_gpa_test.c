/* SPDX-License-Identifier: MIT */
/* MapGPA and private faults: bookkeeping, both directions, and every refusal. */
#include <string.h>

#include "boot/phys.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/fakes.h"
#include "vmm/layout.h"
#include "vmm/vmcall.h"

#define MEMORY (64 * MIB)

static u64 map_gpa(struct vm *vm, u64 start, u64 bytes)
{
    struct tdx_regs *regs = &vm->vcpus[0]->td.regs;
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_R11] = 0x10001;
    regs->gpr[GPR_R12] = start;
    regs->gpr[GPR_R13] = bytes;
    vmcall_handle(vm->vcpus[0]);
    return regs->gpr[GPR_R10];
}

static u64 reply_gpa(struct vm *vm)
{
    return vm->vcpus[0]->td.regs.gpr[GPR_R11];
}

static bool is_shared(struct vm *vm, u64 address)
{
    gfn_t frame = gpa_to_gfn(gpa(address));
    bool mapped = !hpa_is_none(fakes.direct[frame.raw]);
    assert_int_equal(mapped, memory_frame_is_shared(&vm->memory, frame));
    return mapped;
}

static bool is_private(u64 address)
{
    return !hpa_is_none(fakes.mirror[address >> PAGE_SHIFT]);
}

static void fault(struct vm *vm, u64 address, enum fault_kind wanted, enum error expected)
{
    assert_int_equal(memory_fault(vm->vcpus[0], gpa_to_gfn(gpa(address)), wanted), expected);
}

static void a_private_range_becomes_shared_and_back(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    for (u64 at = 2 * MIB; at < 2 * MIB + 4 * PAGE_BYTES; at += PAGE_BYTES)
        fault(vm, at, FAULT_ACCESS, OK);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 2 * MIB, 4 * PAGE_BYTES), VMCALL_SUCCESS);
    for (u64 at = 2 * MIB; at < 2 * MIB + 4 * PAGE_BYTES; at += PAGE_BYTES) {
        assert_true(is_shared(vm, at));
        assert_false(is_private(at));
    }
    assert_false(is_shared(vm, 2 * MIB - PAGE_BYTES));
    assert_false(is_shared(vm, 2 * MIB + 4 * PAGE_BYTES));
    assert_int_equal(vm->memory.shared_now, 4);
    assert_int_equal(fakes.track_calls, 1);

    assert_int_equal(map_gpa(vm, 2 * MIB, 4 * PAGE_BYTES), VMCALL_SUCCESS);
    assert_false(is_shared(vm, 2 * MIB));
    assert_false(is_private(2 * MIB));
    assert_int_equal(vm->memory.shared_now, 0);
    assert_int_equal(vm->memory.shared_most, 4);
    assert_int_equal(fakes.flushes, 1);
    assert_true(fakes.flushed_before_free);
    fault(vm, 2 * MIB, FAULT_ACCESS, OK);
    assert_true(is_private(2 * MIB));
    fake_vm_destroy(vm);
}

static void converting_twice_changes_nothing(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x2000), VMCALL_SUCCESS);
    hpa_t page = fakes.direct[0x100];
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0xff000, 0x4000), VMCALL_SUCCESS);
    assert_int_equal(fakes.direct[0x100].raw, page.raw);
    assert_int_equal(vm->memory.shared_now, 4);
    assert_int_equal(map_gpa(vm, 0x300000, 0x1000), VMCALL_SUCCESS);
    assert_int_equal(fakes.flushes, 0);
    fake_vm_destroy(vm);
}

static void misaligned_ranges_are_named_so(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100800, 0x1000), VMCALL_ALIGN_ERROR);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x1001), VMCALL_ALIGN_ERROR);
    assert_int_equal(reply_gpa(vm), FAKE_SHARED_BIT | 0x100000);
    assert_int_equal(vm->memory.shared_now, 0);
    fake_vm_destroy(vm);
}

static void impossible_ranges_are_refused(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0), VMCALL_INVALID_OPERAND);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT << 1, 0x1000), VMCALL_INVALID_OPERAND);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT - 0x1000, 0x2000), VMCALL_INVALID_OPERAND);
    assert_int_equal(map_gpa(vm, 0x1000, ~0xfffull), VMCALL_INVALID_OPERAND);
    assert_int_equal(vm->memory.shared_now, 0);
    fake_vm_destroy(vm);
}

static void the_mmio_hole_may_be_mapped_without_effect(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    u64 taken = fakes.pages_taken;
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x80000000, 0x80000000), VMCALL_SUCCESS);
    assert_int_equal(fakes.pages_taken, taken);
    /* A range that straddles the end of RAM converts the RAM in it. */
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | (MEMORY - 0x1000), 0x10000), VMCALL_SUCCESS);
    assert_int_equal(vm->memory.shared_now, 1);
    fake_vm_destroy(vm);
}

static void a_waiting_interrupt_makes_a_long_conversion_resume(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fakes.interrupt_pending = true;
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 8 * MIB), VMCALL_RETRY);
    assert_int_equal(reply_gpa(vm), FAKE_SHARED_BIT | 2 * MIB);
    assert_int_equal(vm->memory.shared_now, 256);
    fakes.interrupt_pending = false;
    assert_int_equal(map_gpa(vm, reply_gpa(vm), 7 * MIB), VMCALL_SUCCESS);
    assert_int_equal(vm->memory.shared_now, 2048);
    fake_vm_destroy(vm);
}

static void without_memory_nothing_is_converted(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fault(vm, 0x100000, FAULT_ACCESS, OK);
    fakes.pages_limit = fakes.pages_taken + 3;
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x4000), VMCALL_INVALID_OPERAND);
    assert_int_equal(reply_gpa(vm), FAKE_SHARED_BIT | 0x100000);
    assert_true(is_private(0x100000));
    assert_int_equal(vm->memory.shared_now, 0);
    assert_non_null(strstr(host_log(), "MapGPA of 0x8000100000, 0x4000 bytes, stopped at"));
    fake_vm_destroy(vm);
}

/* Each failure in turn: the guest is told the first frame that is not converted. */
static void a_failure_in_the_middle_is_told_where(void **state)
{
    (void)state;
    for (u64 fail = 0; fail < 4; fail++) {
        struct vm *vm = fake_vm_create(MEMORY, 1);
        fakes.maps_left = fail;
        assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x4000), VMCALL_INVALID_OPERAND);
        assert_int_equal(reply_gpa(vm), FAKE_SHARED_BIT | (0x100000 + fail * PAGE_BYTES));
        assert_int_equal(vm->memory.shared_now, fail);
        fake_vm_destroy(vm);

        vm = fake_vm_create(MEMORY, 1);
        fault(vm, 0x103000, FAULT_ACCESS, OK);
        fakes.removals_left = fail;
        assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x4000), VMCALL_INVALID_OPERAND);
        assert_int_equal(reply_gpa(vm), FAKE_SHARED_BIT | (0x100000 + fail * PAGE_BYTES));
        assert_true(is_private(0x103000));
        fake_vm_destroy(vm);
    }
}

static void a_fault_maps_its_page_alone(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fault(vm, 0x200000, FAULT_ACCESS, OK);
    assert_true(is_private(0x200000));
    assert_false(is_private(0x201000));
    assert_int_equal(vm->memory.faulted, 1);
    fake_vm_destroy(vm);
}

static void an_accept_of_2_mib_maps_the_block_but_no_shared_frame(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x300000, 0x1000), VMCALL_SUCCESS);
    fault(vm, 0x200000, FAULT_ACCEPT_2M, OK);
    assert_true(is_private(0x200000));
    assert_true(is_private(0x3ff000));
    assert_false(is_private(0x300000));
    assert_false(is_private(0x400000));
    assert_int_equal(vm->memory.faulted, 511);
    fake_vm_destroy(vm);
}

static void an_accept_of_4_kib_maps_a_few_ahead_in_its_block(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fault(vm, 0x210000, FAULT_ACCEPT_4K, OK);
    assert_false(is_private(0x20f000));
    assert_true(is_private(0x210000));
    assert_true(is_private(0x22f000));
    assert_false(is_private(0x230000));
    fault(vm, 0x3ff000, FAULT_ACCEPT_4K, OK);
    assert_true(is_private(0x3ff000));
    assert_false(is_private(0x400000));
    assert_int_equal(vm->memory.faulted, 33);
    fake_vm_destroy(vm);
}

static void a_block_fault_gives_way_to_interrupts(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fakes.interrupt_pending = true;
    fault(vm, 0x200000, FAULT_ACCEPT_2M, OK);
    assert_true(is_private(0x200000));
    assert_true(vm->memory.faulted < 128);
    fake_vm_destroy(vm);
}

static void frames_that_do_not_exist_are_no_faults(void **state)
{
    (void)state;
    struct vm *vm = fake_vm_create(MEMORY, 1);
    fault(vm, MEMORY, FAULT_ACCESS, ERR_RANGE);
    fault(vm, LAYOUT_IOAPIC, FAULT_ACCESS, ERR_RANGE);
    fault(vm, LAYOUT_FIRMWARE, FAULT_ACCESS, OK);
    fault(vm, LAYOUT_FIRMWARE_END, FAULT_ACCESS, ERR_RANGE);
    assert_int_equal(map_gpa(vm, FAKE_SHARED_BIT | 0x100000, 0x1000), VMCALL_SUCCESS);
    fault(vm, 0x100000, FAULT_ACCESS, ERR_RANGE);
    fake_vm_destroy(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_private_range_becomes_shared_and_back),
        cmocka_unit_test(converting_twice_changes_nothing),
        cmocka_unit_test(misaligned_ranges_are_named_so),
        cmocka_unit_test(impossible_ranges_are_refused),
        cmocka_unit_test(the_mmio_hole_may_be_mapped_without_effect),
        cmocka_unit_test(a_waiting_interrupt_makes_a_long_conversion_resume),
        cmocka_unit_test(without_memory_nothing_is_converted),
        cmocka_unit_test(a_failure_in_the_middle_is_told_where),
        cmocka_unit_test(a_fault_maps_its_page_alone),
        cmocka_unit_test(an_accept_of_2_mib_maps_the_block_but_no_shared_frame),
        cmocka_unit_test(an_accept_of_4_kib_maps_a_few_ahead_in_its_block),
        cmocka_unit_test(a_block_fault_gives_way_to_interrupts),
        cmocka_unit_test(frames_that_do_not_exist_are_no_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
