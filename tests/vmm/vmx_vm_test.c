/* SPDX-License-Identifier: MIT */
/* A VM's memory on the real page allocator, caches and direct EPT. */
#include "vmm/vmx_vm.h"

#include <stdlib.h>
#include <string.h>

#include "boot/phys.h"
#include "boot/vmx.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/guest_image.h"
#include "vmm/vm.h"

#define MACHINE_PAGES 256 /* none of 2 MiB */
#define LARGE_MACHINE_PAGES 2560
#define MEMORY_BYTES (16 * MIB)

static struct guest_config config = {
    .name = "small", .kind = GUEST_VM, .memory_bytes = MEMORY_BYTES, .vcpus = 1};
static struct vm *vm;
static struct vcpu *vcpu;
static struct pages_stats at_start;

u32 vmx_ept_features(void)
{
    return EPT_FEATURE_2M;
}

static int set_up_with(u64 pages)
{
    host_memory_create(pages * PAGE_BYTES);
    host_log_clear();
    memset(phys_to_virt(hpa(HOST_MEMORY_START)), 0xaa, pages * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + pages * PAGE_BYTES));
    pages_statistics(&at_start);
    vm = calloc(1, sizeof *vm);
    vcpu = calloc(1, sizeof *vcpu);
    vm->config = &config;
    vm->vcpus[0] = vcpu;
    vm->vcpu_count = 1;
    vcpu->vm = vm;
    vcpu_caches_init(&vcpu->caches, 0);
    assert_int_equal(vmx_vm_create(vm), OK);
    assert_true(vm->has_direct);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(MACHINE_PAGES);
}

static int set_up_large(void **state)
{
    (void)state;
    return set_up_with(LARGE_MACHINE_PAGES);
}

static int tear_down(void **state)
{
    (void)state;
    struct pages_stats now;
    vcpu_caches_drain(&vcpu->caches);
    ept_destroy(&vm->direct);
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    free(vcpu);
    free(vm);
    host_memory_destroy();
    return 0;
}

static const u8 *page_at(u64 address)
{
    hpa_t page = ept_lookup(&vm->direct, gpa_to_gfn(gpa(address)), NULL);
    return hpa_is_none(page) ? NULL : phys_to_virt(page);
}

static void all_are(const u8 *bytes, u8 value, u64 len_bytes)
{
    for (u64 i = 0; i < len_bytes; i++)
        assert_int_equal(bytes[i], value);
}

static void a_fault_brings_a_large_page_where_nothing_is_in_the_way(void **state)
{
    (void)state;
    enum level level;
    assert_int_equal(vmx_memory_fault(vcpu, gfn(0x234)), OK);
    assert_false(hpa_is_none(ept_lookup(&vm->direct, gfn(0x200), &level)));
    assert_int_equal(level, LEVEL_2M);
    for (u64 at = 2 * MIB; at < 4 * MIB; at += PAGE_BYTES)
        all_are(page_at(at), 0, PAGE_BYTES);
    assert_int_equal(vm->memory.faulted, 512);
    assert_int_equal(vmx_vm_pages(vm), 512);
    /* When they are used up, small ones do. */
    u64 large = 1;
    for (u64 block = 2; block < 8; block++) {
        assert_int_equal(vmx_memory_fault(vcpu, gfn(block * 512 + 7)), OK);
        (void)ept_lookup(&vm->direct, gfn(block * 512 + 7), &level);
        large += level == LEVEL_2M;
    }
    assert_true(large > 1 && large < 7);
    assert_int_equal(vm->direct.leaves[LEVEL_2M], large);
    assert_int_equal(vm->direct.leaves[LEVEL_4K], 7 - large);
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void a_fault_brings_a_page_of_zeros(void **state)
{
    (void)state;
    assert_int_equal(vmx_memory_fault(vcpu, gfn(0)), OK);
    assert_int_equal(vmx_memory_fault(vcpu, gfn(MEMORY_BYTES / PAGE_BYTES - 1)), OK);
    all_are(page_at(0), 0, PAGE_BYTES);
    all_are(page_at(MEMORY_BYTES - PAGE_BYTES), 0, PAGE_BYTES);
    assert_null(page_at(PAGE_BYTES));
    assert_int_equal(vm->memory.faulted, 2);
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void what_is_no_memory_is_not_mapped(void **state)
{
    (void)state;
    assert_int_equal(vmx_memory_fault(vcpu, gfn(MEMORY_BYTES / PAGE_BYTES)), ERR_RANGE);
    assert_int_equal(vmx_memory_fault(vcpu, gfn(LAYOUT_FIRMWARE >> PAGE_SHIFT)), ERR_RANGE);
    assert_int_equal(vmx_memory_fault(vcpu, gfn(~0ull >> PAGE_SHIFT)), ERR_RANGE);
    /* Mapped, and the processor still objects: nothing more can be done for it. */
    assert_int_equal(vmx_memory_fault(vcpu, gfn(7)), OK);
    assert_int_equal(vmx_memory_fault(vcpu, gfn(7)), ERR_EXISTS);
    assert_int_equal(vm->memory.faulted, 1);
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void an_image_is_copied_and_filled_up_with_zeros(void **state)
{
    (void)state;
    u8 bytes[PAGE_BYTES + 100];
    memset(bytes, 0x3c, sizeof bytes);
    struct guest_image image = {
        .config = &config,
        .pieces = {{gpa(MIB), bytes, sizeof bytes, "a kernel"},
                   {gpa(LAYOUT_STACK), bytes, 1, "a stack"}},
        .count = 2,
    };
    assert_int_equal(vmx_vm_add_image(vm, &image), OK);
    all_are(page_at(MIB), 0x3c, PAGE_BYTES);
    all_are(page_at(MIB + PAGE_BYTES), 0x3c, 100);
    all_are(page_at(MIB + PAGE_BYTES) + 100, 0, PAGE_BYTES - 100);
    all_are(page_at(LAYOUT_STACK) + 1, 0, PAGE_BYTES - 1);
    assert_int_equal(vm->initial_pages, 3);
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void without_memory_nothing_is_half_mapped(void **state)
{
    (void)state;
    u64 mapped = 0;
    enum error e;
    while (!(e = vmx_memory_fault(vcpu, gfn(mapped))))
        mapped++;
    assert_int_equal(e, ERR_NO_MEMORY);
    assert_true(mapped > MACHINE_PAGES / 2);
    assert_int_equal(vm->direct.leaves[LEVEL_4K], mapped);
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void memory_is_read_and_written_across_pages(void **state)
{
    (void)state;
    u8 written[3 * PAGE_BYTES], seen[3 * PAGE_BYTES];
    for (u32 i = 0; i < sizeof written; i++)
        written[i] = (u8)(i * 13 + 1);
    /* Not there yet: zeros to read, and no page is taken for that. */
    assert_true(vmx_memory_read(vm, gpa(0x5ff0), seen, sizeof seen));
    all_are(seen, 0, sizeof seen);
    assert_int_equal(vm->memory.faulted, 0);
    assert_true(vmx_memory_write(vcpu, gpa(0x5ff0), written, sizeof written));
    assert_int_equal(vm->memory.faulted, 4);
    assert_true(vmx_memory_read(vm, gpa(0x5ff0), seen, sizeof seen));
    assert_memory_equal(seen, written, sizeof seen);
    assert_memory_equal(page_at(0x6000), written + 16, PAGE_BYTES);
    all_are(page_at(0x5000), 0, 0xff0);
    /* Where memory ends. */
    assert_false(vmx_memory_read(vm, gpa(MEMORY_BYTES - 2), seen, 4));
    assert_false(vmx_memory_write(vcpu, gpa(MEMORY_BYTES - 2), written, 4));
    assert_false(vmx_memory_read(vm, gpa(~0ull - 1), seen, 1));
    assert_int_equal(vmx_vm_audit(vm), OK);
}

static void the_audit_sees_a_page_that_is_gone(void **state)
{
    (void)state;
    hpa_t page;
    enum level level;
    assert_int_equal(vmx_memory_fault(vcpu, gfn(3)), OK);
    assert_int_equal(ept_unmap(&vm->direct, &vcpu->caches, gfn(3), LEVEL_4K, &page, &level), OK);
    page_free(page);
    ept_free_tables(&vm->direct, ept_retired(&vm->direct));
    assert_int_equal(vmx_vm_audit(vm), ERR_STATE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fault_brings_a_page_of_zeros),
        cmocka_unit_test_setup_teardown(a_fault_brings_a_large_page_where_nothing_is_in_the_way,
                                        set_up_large, tear_down),
        TEST(what_is_no_memory_is_not_mapped),
        TEST(an_image_is_copied_and_filled_up_with_zeros),
        TEST(without_memory_nothing_is_half_mapped),
        TEST(memory_is_read_and_written_across_pages),
        TEST(the_audit_sees_a_page_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
