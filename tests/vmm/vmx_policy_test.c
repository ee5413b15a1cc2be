/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_policy.h"

#include "boot/machine.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

static void cpuid_shows_no_more_than_a_vm_has(void **state)
{
    (void)state;
    static const struct {
        u32 leaf, subleaf;
        struct cpuid_values hidden;
    } rows[] = {
        {1, 0, {0, 0, 1u << 3 | 1u << 5 | 1u << 6 | 1u << 21 | 1u << 24 | 1u << 27, 1u << 9}},
        {7, 0, {~0u, 1u << 2, 1u << 3 | 1u << 22, ~0u}},
        {7, 1, {~0u, ~0u, ~0u, ~0u}},
        {0xa, 0, {~0u, ~0u, ~0u, ~0u}},
        {0xb, 0, {~0u, ~0u, ~0u, ~0u}},
        {0xb, 1, {~0u, ~0u, ~0u, ~0u}},
        {0xd, 0, {~7u, 0, 0, ~0u}},
        {0xd, 1, {~1u, ~0u, ~0u, ~0u}},
        {0x12, 3, {~0u, ~0u, ~0u, ~0u}},
        {0x80000001, 0, {0, 0, 0, 1u << 11 | 1u << 27}},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct cpuid_values seen = vmx_cpuid(rows[i].leaf, rows[i].subleaf);
        assert_int_equal(seen.eax & rows[i].hidden.eax, 0);
        assert_int_equal(seen.ebx & rows[i].hidden.ebx, 0);
        assert_int_equal(seen.ecx & rows[i].hidden.ecx, 0);
        assert_int_equal(seen.edx & rows[i].hidden.edx, 0);
    }
}

static void cpuid_tells_of_a_hypervisor(void **state)
{
    (void)state;
    assert_true(vmx_cpuid(1, 0).ecx & 1u << 31);
    assert_int_equal(vmx_cpuid(0x40000000, 0).ebx, 0x4b4d564b);
    assert_int_equal(vmx_cpuid(0x4fffffff, 0).eax, 0);
    assert_int_equal(vmx_cpuid(0, 0).ebx, cpuid(0, 0).ebx);
}

/* What stands in ECX selects nothing where a leaf is one piece: it must not open a way around. */
static void a_subleaf_that_there_is_not_changes_nothing(void **state)
{
    (void)state;
    static const u32 leaves[] = {0, 1, 6, 0xa, 0x40000000, 0x80000001, 0x80000008};
    for (u32 i = 0; i < ARRAY_LENGTH(leaves); i++) {
        struct cpuid_values want = vmx_cpuid(leaves[i], 0), seen = vmx_cpuid(leaves[i], 0xdead);
        assert_int_equal(seen.eax, want.eax);
        assert_int_equal(seen.ecx, want.ecx);
        assert_int_equal(seen.edx, want.edx);
    }
}

static void xcr0_is_what_xsetbv_takes(void **state)
{
    (void)state;
    assert_true(vmx_xcr0_is_valid(1, 7));
    assert_true(vmx_xcr0_is_valid(3, 7));
    assert_true(vmx_xcr0_is_valid(7, 7));
    assert_false(vmx_xcr0_is_valid(0, 7)); /* x87 is always on */
    assert_false(vmx_xcr0_is_valid(2, 7));
    assert_false(vmx_xcr0_is_valid(5, 7)); /* AVX without SSE */
    assert_false(vmx_xcr0_is_valid(7, 3)); /* more than there is */
    assert_false(vmx_xcr0_is_valid(0xe7, 7));
    assert_false(vmx_xcr0_is_valid(1ull << 63 | 1, 7));
}

static void an_msr_takes_no_value_that_an_entry_would_refuse(void **state)
{
    (void)state;
    const u64 efer = EFER_LME | EFER_LMA;
    assert_true(vmx_efer_is_valid(efer, efer));
    assert_true(vmx_efer_is_valid(efer | EFER_NXE, efer));
    assert_false(vmx_efer_is_valid(efer | EFER_SCE, efer));
    assert_false(vmx_efer_is_valid(0, efer));
    assert_false(vmx_efer_is_valid(efer | 1ull << 63, efer));
    assert_true(vmx_pat_is_valid(0x0007040600070406));
    assert_false(vmx_pat_is_valid(0x0007040600070402));
    assert_false(vmx_pat_is_valid(0x0307040600070406));
    assert_false(vmx_pat_is_valid(0x0008040600070406));
    assert_true(vmx_address_is_canonical(0x00007fffffffffff));
    assert_true(vmx_address_is_canonical(0xffff800000000000));
    assert_false(vmx_address_is_canonical(0x0000800000000000));
    assert_false(vmx_address_is_canonical(0xffff7fffffffffff));
}

static void in_and_out_are_told_apart(void **state)
{
    (void)state;
    struct vmx_io io = vmx_io_decode(0x03f80000);
    assert_true(io.port == 0x3f8 && io.size_bytes == 1 && !io.in && !io.string);
    io = vmx_io_decode(0xfffe0000 | 1 << 3 | 3);
    assert_true(io.port == 0xfffe && io.size_bytes == 4 && io.in && !io.string);
    io = vmx_io_decode(0x00600000 | 1 << 5 | 1 << 4 | 1); /* REP OUTSW */
    assert_true(io.port == 0x60 && io.size_bytes == 2 && !io.in && io.string);
    assert_true(vmx_io_merge(0x1122334455667788, 0xffffffaa, 1) == 0x11223344556677aa);
    assert_true(vmx_io_merge(0x1122334455667788, 0xffffbbaa, 2) == 0x112233445566bbaa);
    assert_true(vmx_io_merge(0x1122334455667788, 0xffffffff, 4) == 0xffffffff);
}

static int set_up(void **state)
{
    (void)state;
    static struct machine described = {.tsc_hz = 100000000};
    machine_set(&described);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cpuid_shows_no_more_than_a_vm_has),
        TEST(cpuid_tells_of_a_hypervisor),
        TEST(a_subleaf_that_there_is_not_changes_nothing),
        TEST(xcr0_is_what_xsetbv_takes),
        TEST(an_msr_takes_no_value_that_an_entry_would_refuse),
        TEST(in_and_out_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
