/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_policy.h"

#include "boot/machine.h"
#include "boot/msr.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

static const struct vmx_cpu_view one = {.apic_id = 0, .vcpus = 1, .xcr0 = 1};

/* Of the processor's VMX: what the control registers must have, and may have. */
bool rdmsr_try(u32 index, u64 *value)
{
    *value = index == MSR_VMX_CR0_FIXED0   ? CR0_PE | CR0_NE | CR0_PG
             : index == MSR_VMX_CR0_FIXED1 ? 0xffffffff
             : index == MSR_VMX_CR4_FIXED0 ? CR4_VMXE
             : index == MSR_VMX_CR4_FIXED1 ? 0xffffff
                                           : 0;
    return true;
}

static void cpuid_shows_no_more_than_a_vm_has(void **state)
{
    (void)state;
    static const struct {
        u32 leaf, subleaf;
        struct cpuid_values hidden;
    } rows[] = {
        /* MONITOR VMX SMX; MCE MTRR MCA */
        {1, 0, {0, 0, 1u << 3 | 1u << 5 | 1u << 6 | 1u << 27, 1u << 7 | 1u << 12 | 1u << 14}},
        {3, 0, {~0u, ~0u, ~0u, ~0u}},
        {5, 0, {~0u, ~0u, ~0u, ~0u}},
        /* SGX HLE RTM PT; PKU WAITPKG CET LA57; speculation controls */
        {7, 0, {~0u, 1u << 2 | 1u << 4 | 1u << 11 | 1u << 25, 0x100b8, 1u << 26 | 1u << 27}},
        {7, 1, {~0u, ~0u, ~0u, ~0u}},
        {0xa, 0, {~0u, ~0u, ~0u, ~0u}},
        {0xd, 0, {~0xe7u, 0, 0, ~0u}},
        {0xd, 1, {~1u, ~0u, ~0u, ~0u}},
        {0xd, 9, {~0u, ~0u, ~0u, ~0u}},
        {0x12, 3, {~0u, ~0u, ~0u, ~0u}},
        {0x7fffffff, 0, {~0u, ~0u, ~0u, ~0u}},
        {0x80000009, 0, {~0u, ~0u, ~0u, ~0u}},
        {0xc0000000, 0, {~0u, ~0u, ~0u, ~0u}},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct cpuid_values seen = vmx_cpuid(&one, rows[i].leaf, rows[i].subleaf);
        assert_int_equal(seen.eax & rows[i].hidden.eax, 0);
        assert_int_equal(seen.ebx & rows[i].hidden.ebx, 0);
        assert_int_equal(seen.ecx & rows[i].hidden.ecx, 0);
        assert_int_equal(seen.edx & rows[i].hidden.edx, 0);
    }
}

static void cpuid_tells_of_a_hypervisor(void **state)
{
    (void)state;
    assert_true(vmx_cpuid(&one, 1, 0).ecx & 1u << 31);
    assert_int_equal(vmx_cpuid(&one, 0x40000000, 0).ebx, 0x4b4d564b);
    assert_int_equal(vmx_cpuid(&one, 0x4fffffff, 0).eax, 0);
    assert_int_equal(vmx_cpuid(&one, 0, 0).ebx, cpuid(0, 0).ebx);
    assert_in_range(vmx_cpuid(&one, 0, 0).eax, 0x16, 0x1f);
    assert_int_equal(vmx_cpuid(&one, 0x80000000, 0).eax, 0x80000008);
}

/* What Tain does in software is there whatever the machine has: x2APIC, deadline timer, TSC. */
static void cpuid_tells_of_what_the_vmm_does(void **state)
{
    (void)state;
    struct cpuid_values features = vmx_cpuid(&one, 1, 0), tsc = vmx_cpuid(&one, 0x15, 0);
    assert_int_equal(features.ecx & (1u << 21 | 1u << 24), 1u << 21 | 1u << 24);
    assert_true(features.edx & 1u << 9);
    struct vmx_cpu_view off = {.vcpus = 1, .apic_is_off = true};
    assert_false(vmx_cpuid(&off, 1, 0).edx & 1u << 9);
    assert_true(vmx_cpuid(&one, 7, 0).edx & 1u << 29);
    assert_int_equal((u64)tsc.ecx * tsc.ebx / tsc.eax, 100000000);
    assert_int_equal(vmx_cpuid(&one, 0x16, 0).eax, 100);
}

/* What stands in ECX selects nothing where a leaf is one piece: it must not open a way around. */
static void a_subleaf_that_there_is_not_changes_nothing(void **state)
{
    (void)state;
    static const u32 leaves[] = {0, 1, 6, 0xa, 0x40000000, 0x80000001, 0x80000008};
    for (u32 i = 0; i < ARRAY_LENGTH(leaves); i++) {
        struct cpuid_values want = vmx_cpuid(&one, leaves[i], 0);
        struct cpuid_values seen = vmx_cpuid(&one, leaves[i], 0xdead);
        assert_int_equal(seen.eax, want.eax);
        assert_int_equal(seen.ecx, want.ecx);
        assert_int_equal(seen.edx, want.edx);
    }
}

static void vcpus_are_cores_of_one_package(void **state)
{
    (void)state;
    static const struct {
        u32 vcpus, bits;
    } rows[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {8, 3}, {64, 6}};
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct vmx_cpu_view view = {.apic_id = rows[i].vcpus - 1, .vcpus = rows[i].vcpus};
        struct cpuid_values features = vmx_cpuid(&view, 1, 0);
        assert_int_equal(features.ebx >> 24, view.apic_id);
        assert_int_equal(features.ebx >> 16 & 0xff, 1u << rows[i].bits);
        assert_int_equal(features.edx >> 28 & 1, view.vcpus > 1);
        static const u32 leaves[] = {0xb, 0x1f};
        for (u32 k = 0; k < ARRAY_LENGTH(leaves); k++) {
            struct cpuid_values threads = vmx_cpuid(&view, leaves[k], 0);
            struct cpuid_values cores = vmx_cpuid(&view, leaves[k], 1);
            struct cpuid_values end = vmx_cpuid(&view, leaves[k], 2);
            assert_int_equal(threads.eax, 0);
            assert_int_equal(threads.ebx, 1);
            assert_int_equal(threads.ecx, 0x100);
            assert_int_equal(cores.eax, rows[i].bits);
            assert_int_equal(cores.ebx, view.vcpus);
            assert_int_equal(cores.ecx, 0x201);
            assert_int_equal(end.ebx, 0);
            assert_int_equal(end.ecx, 2);
            assert_int_equal(threads.edx, view.apic_id);
            assert_int_equal(cores.edx, view.apic_id);
        }
        for (u32 cache = 0; cache < 4; cache++) {
            u32 eax = vmx_cpuid(&view, 4, cache).eax;
            if (!(eax & 0x1f))
                continue;
            assert_int_equal(eax >> 26, (1u << rows[i].bits) - 1);
            assert_int_equal(eax >> 14 & 0xfff, (eax >> 5 & 7) == 3 ? (1u << rows[i].bits) - 1 : 0);
        }
    }
}

/* The area's size now follows XCR0; that of all features is what a kernel sets aside. */
static void leaf_d_tells_the_size_of_the_area(void **state)
{
    (void)state;
    struct vmx_cpu_view view = {.vcpus = 1, .xcr0 = 3};
    u64 allowed = vmx_xcr0_allowed();
    assert_int_equal(vmx_cpuid(&view, 0xd, 0).ebx, allowed ? 576 : 0);
    if (!(allowed & 4))
        return;
    view.xcr0 = 7;
    struct cpuid_values all = vmx_cpuid(&view, 0xd, 0), avx = vmx_cpuid(&view, 0xd, 2);
    assert_int_equal(all.eax, allowed);
    assert_int_equal(all.ebx, avx.eax + avx.ebx);
    assert_in_range(all.ecx, all.ebx, PAGE_BYTES);
}

static void xcr0_is_what_xsetbv_takes(void **state)
{
    (void)state;
    assert_true(vmx_xcr0_is_valid(1, 7));
    assert_true(vmx_xcr0_is_valid(3, 7));
    assert_true(vmx_xcr0_is_valid(7, 7));
    assert_true(vmx_xcr0_is_valid(0xe7, 0xe7));
    assert_false(vmx_xcr0_is_valid(0, 7)); /* x87 is always on */
    assert_false(vmx_xcr0_is_valid(2, 7));
    assert_false(vmx_xcr0_is_valid(5, 7)); /* AVX without SSE */
    assert_false(vmx_xcr0_is_valid(7, 3)); /* more than there is */
    assert_false(vmx_xcr0_is_valid(0xe7, 7));
    assert_false(vmx_xcr0_is_valid(0x67, 0xe7)); /* AVX-512 is three parts */
    assert_false(vmx_xcr0_is_valid(0xe3, 0xe7)); /* and AVX */
    assert_false(vmx_xcr0_is_valid(1ull << 63 | 1, 7));
}

static void efer_takes_no_value_that_an_entry_would_refuse(void **state)
{
    (void)state;
    const u64 efer = EFER_LME | EFER_LMA;
    assert_true(vmx_efer_is_valid(efer | EFER_NXE | EFER_SCE, efer, true));
    assert_true(vmx_efer_is_valid(EFER_LME, 0, false));
    assert_false(vmx_efer_is_valid(EFER_LME, 0, true)); /* with paging on */
    assert_false(vmx_efer_is_valid(EFER_LMA, efer, true));
    assert_false(vmx_efer_is_valid(efer, EFER_LME, true)); /* LMA is not the guest's */
    assert_false(vmx_efer_is_valid(efer | 1ull << 63, efer, true));
}

#define PAGING (CR0_PE | CR0_PG)

static void cr0_follows_the_manual(void **state)
{
    (void)state;
    struct vmx_modes real = {.efer = EFER_LME, .cr4 = CR4_PAE};
    struct vmx_modes run_64 = {
        .cr0 = PAGING, .efer = EFER_LME | EFER_LMA, .cr4 = CR4_PAE, .code_64 = true};
    struct vmx_modes compatible = run_64, with_pcid = run_64;
    compatible.code_64 = with_pcid.code_64 = false;
    with_pcid.cr4 |= CR4_PCIDE;
    assert_true(vmx_cr0_is_valid(&real, PAGING | CR0_CD | CR0_NW));
    assert_false(vmx_cr0_is_valid(&real, CR0_PG));          /* without protection */
    assert_false(vmx_cr0_is_valid(&real, CR0_PE | CR0_NW)); /* without CD */
    assert_false(vmx_cr0_is_valid(&real, 1ull << 32));
    real.code_64 = true; /* "CS.L is 1" */
    assert_false(vmx_cr0_is_valid(&real, PAGING));
    real.code_64 = false;
    assert_true(vmx_cr0_is_valid(&real, PAGING));
    real.cr4 = 0;
    assert_false(vmx_cr0_is_valid(&real, PAGING)); /* long mode without PAE */
    real.efer = 0;
    assert_true(vmx_cr0_is_valid(&real, PAGING));
    assert_true(vmx_cr0_is_valid(&run_64, PAGING | CR0_CD));
    assert_false(vmx_cr0_is_valid(&run_64, CR0_PE));
    assert_true(vmx_cr0_is_valid(&compatible, CR0_PE));
    assert_false(vmx_cr0_is_valid(&with_pcid, CR0_PE));
    /* Caches stay on, and errors exceptions, whatever the guest sees. */
    assert_int_equal(vmx_cr0_of(CR0_PE | CR0_CD | CR0_NW), CR0_PE | CR0_ET | CR0_NE);
    assert_int_equal(vmx_cr0_free() & (CR0_CD | CR0_NW | CR0_NE), 0);
    assert_int_equal(vmx_cr0_free() & PAGING, PAGING);
}

static void cr4_has_no_feature_that_cpuid_hides(void **state)
{
    (void)state;
    struct vmx_modes run_64 = {.cr0 = PAGING, .efer = EFER_LME | EFER_LMA, .cr4 = CR4_PAE};
    struct vmx_modes real = {0};
    assert_true(vmx_cr4_is_valid(&run_64, CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_OSXSAVE));
    assert_false(vmx_cr4_is_valid(&run_64, CR4_PGE)); /* long mode without PAE */
    assert_false(vmx_cr4_is_valid(&run_64, CR4_PAE | CR4_VMXE));
    assert_false(vmx_cr4_is_valid(&run_64, CR4_PAE | CR4_LA57));
    assert_false(vmx_cr4_is_valid(&run_64, CR4_PAE | 1ull << 22)); /* PKE */
    assert_false(vmx_cr4_is_valid(&run_64, CR4_PAE | 1ull << 23)); /* CET */
    assert_false(vmx_cr4_is_valid(&real, CR4_PCIDE));
    assert_true(vmx_cr4_is_valid(&real, 0));
    assert_int_equal(vmx_cr4_of(CR4_PAE), CR4_PAE | CR4_VMXE | CR4_MCE);
}

static void in_and_out_are_told_apart(void **state)
{
    (void)state;
    struct vmx_io io = vmx_io_decode(0x03f80000);
    assert_true(io.port == 0x3f8 && io.size_bytes == 1 && !io.in && !io.string && !io.rep);
    io = vmx_io_decode(0xfffe0000 | 1 << 3 | 3);
    assert_true(io.port == 0xfffe && io.size_bytes == 4 && io.in && !io.string);
    io = vmx_io_decode(0x00600000 | 1 << 5 | 1 << 4 | 1); /* REP OUTSW */
    assert_true(io.port == 0x60 && io.size_bytes == 2 && !io.in && io.string && io.rep);
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
        TEST(cpuid_tells_of_what_the_vmm_does),
        TEST(vcpus_are_cores_of_one_package),
        TEST(leaf_d_tells_the_size_of_the_area),
        TEST(xcr0_is_what_xsetbv_takes),
        TEST(efer_takes_no_value_that_an_entry_would_refuse),
        TEST(cr0_follows_the_manual),
        TEST(cr4_has_no_feature_that_cpuid_hides),
        TEST(in_and_out_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
