/* SPDX-License-Identifier: MIT */
/* A platform that is not as the module wants it, and a VMM that moves what it relies on. */
#include <string.h>

#include "boot/msr.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/td_model.h"

#define SMRR_AT_2G 0x80000000ull
#define SMRR_SUPPORTED (1ull << 11 | 1ull << 14)
#define SMRR2_SUPPORTED (1ull << 13)
#define SMRR_LOCKED (1ull << 10)
#define SMRR_VALID (1ull << 11)
#define SMRR_16M 0xff000000ull
#define MISC_ENABLE_NT4 (1ull << 22)

static struct soft_platform platform_described;

static int fresh(void **state)
{
    (void)state;
    platform_described = model_platform();
    return 0;
}

static int finish(void **state)
{
    (void)state;
    if (machine_is_in_guest())
        (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    return 0;
}

static void has_msr(u32 lp, u32 index, u64 value)
{
    platform_described.msrs[platform_described.msr_count++] = (struct soft_msr){lp, index, value};
}

static u64 sys_init(void)
{
    model_install(&platform_described);
    return model_call3(TDH_SYS_INIT, 0, 0, 0);
}

/* SYS.INIT refuses a value, and the module goes on once the platform is right. */
static void refuses_msr(u32 index, u64 value, u64 status)
{
    platform_described = model_platform();
    has_msr(SOFT_ALL_LPS, index, value);
    assert_int_equal(sys_init(), status);
    assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0),
                     completion(TDX_SYS_LP_INIT_NOT_PENDING, 0));
    soft_system.platform.msr_count = 0;
    assert_int_equal(model_call3(TDH_SYS_INIT, 0, 0, 0), 0);
}

static void sys_init_names_the_msr_that_is_wrong(void **state)
{
    (void)state;
    static const struct {
        u32 index;
        u64 value;
    } wrong[] = {
        {MSR_ARCH_CAPABILITIES, 0x20fd6a}, {MSR_ARCH_CAPABILITIES, 0x20fd6f},
        {MSR_XAPIC_DISABLE_STATUS, 0},     {MSR_XAPIC_DISABLE_STATUS, 3},
        {MSR_MISC_PACKAGE_CTLS, 0},        {MSR_PERF_CAPABILITIES, 1 << 12},
        {MSR_PERF_CAPABILITIES, 1 << 13},  {MSR_WBNOINVDP, 5},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(wrong); i++)
        refuses_msr(wrong[i].index, wrong[i].value,
                    completion(TDX_INCORRECT_MSR_VALUE, wrong[i].index));
}

static void sys_init_names_the_first_of_two(void **state)
{
    (void)state;
    has_msr(SOFT_ALL_LPS, MSR_PERF_CAPABILITIES, 0);
    has_msr(SOFT_ALL_LPS, MSR_XAPIC_DISABLE_STATUS, 0);
    assert_int_equal(sys_init(), completion(TDX_INCORRECT_MSR_VALUE, MSR_XAPIC_DISABLE_STATUS));
}

static void smrrs_are_there_locked_whole_and_off_the_cmrs(void **state)
{
    (void)state;
    u64 locked = SMRR_LOCKED | SMRR_VALID;
    refuses_msr(MSR_MTRR_CAP, 1 << 14, completion(TDX_SMRR_NOT_SUPPORTED, 0));
    refuses_msr(MSR_MTRR_CAP, 1 << 11, completion(TDX_SMRR_LOCK_NOT_SUPPORTED, 0));
    refuses_msr(MSR_SMRR_MASK, SMRR_VALID | SMRR_16M, completion(TDX_SMRR_NOT_LOCKED, 0));
    refuses_msr(MSR_SMRR_MASK, locked, completion(TDX_INVALID_SMRR_CONFIGURATION, 0));
    refuses_msr(MSR_SMRR_MASK, locked | 0xf0f00000, completion(TDX_INVALID_SMRR_CONFIGURATION, 0));

    platform_described = model_platform();
    platform_described.cmrs[1] = (struct tdx_cmr){8 * GIB, GIB};
    platform_described.cmrs[0] = (struct tdx_cmr){MIB, SMRR_AT_2G - MIB};
    platform_described.cmr_count = 2;
    has_msr(SOFT_ALL_LPS, MSR_SMRR_MASK, locked | SMRR_16M);
    has_msr(SOFT_ALL_LPS, MSR_SMRR_BASE, SMRR_AT_2G);
    assert_int_equal(sys_init(), 0);
    platform_described.cmrs[0].bytes += PAGE_BYTES;
    assert_int_equal(sys_init(), completion(TDX_SMRR_OVERLAPS_CMR, 0));
    platform_described.cmrs[0].bytes -= PAGE_BYTES;
    platform_described.cmrs[1].base = SMRR_AT_2G + 8 * MIB;
    assert_int_equal(sys_init(), completion(TDX_SMRR_OVERLAPS_CMR, 1 << 8));
    platform_described.cmrs[1].base = 8 * GIB;
    has_msr(SOFT_ALL_LPS, MSR_MTRR_CAP, SMRR_SUPPORTED | SMRR2_SUPPORTED);
    has_msr(SOFT_ALL_LPS, MSR_SMRR2_MASK, locked | SMRR_16M);
    platform_described.cmrs[0] = (struct tdx_cmr){0, MIB};
    assert_int_equal(sys_init(), completion(TDX_SMRR_OVERLAPS_CMR, 1));
    platform_described.cmrs[0].base = 16 * MIB;
    assert_int_equal(sys_init(), 0);
    has_msr(SOFT_ALL_LPS, MSR_SMRR2_BASE, MIB);
    assert_int_equal(sys_init(), completion(TDX_INVALID_SMRR_CONFIGURATION, 1));
}

static void convertible_ranges_are_sorted_whole_pages(void **state)
{
    (void)state;
    static const struct tdx_cmr wrong[][2] = {
        {{2 * GIB, GIB}, {GIB, GIB}},
        {{GIB, GIB}, {2 * GIB - PAGE_BYTES, GIB}},
        {{GIB + 1, GIB - 1}},
        {{1ull << 46, GIB}},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(wrong); i++) {
        memcpy(platform_described.cmrs, wrong[i], sizeof wrong[i]);
        platform_described.cmr_count = 2;
        assert_int_equal(sys_init(), completion(TDX_CMR_LIST_INVALID, 0));
    }
}

/* Each MSR that SYS.INIT sampled; the processor can be made like the others and tried again. */
static void lp_init_names_the_msr_that_another_lp_has_otherwise(void **state)
{
    (void)state;
    static const u32 indices[] = {
        0xcf,          MSR_ARCH_CAPABILITIES, MSR_TSC_ADJUST,   MSR_SMRR_BASE,
        MSR_VMX_BASIC, MSR_VMX_CR4_FIXED1,    MSR_TME_ACTIVATE, MSR_WBNOINVDP};
    for (u32 i = 0; i < ARRAY_LENGTH(indices); i++) {
        platform_described = model_platform();
        has_msr(1, indices[i], 0x1234567);
        assert_int_equal(sys_init(), 0);
        assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0), 0);
        machine_select_lp(1);
        assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0),
                         completion(TDX_INCONSISTENT_MSR, indices[i]));
        soft_system.platform.msr_count = 0;
        assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0), 0);
        assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0),
                         completion(TDX_SYS_LP_INIT_DONE, 0));
    }
}

static void a_second_smrr_is_compared_where_there_is_one(void **state)
{
    (void)state;
    has_msr(1, MSR_SMRR2_MASK, 0);
    assert_int_equal(sys_init(), 0);
    machine_select_lp(1);
    assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0), 0);
    has_msr(SOFT_ALL_LPS, MSR_MTRR_CAP, SMRR_SUPPORTED | SMRR2_SUPPORTED);
    assert_int_equal(sys_init(), 0);
    machine_select_lp(1);
    assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0),
                     completion(TDX_INCONSISTENT_MSR, MSR_SMRR2_MASK));
}

static void a_cut_cpuid_is_refused_wherever_it_matters(void **state)
{
    (void)state;
    u64 refused = completion(TDX_LIMIT_CPUID_MAXVAL_SET, 0), status;
    model_install(&platform_described);
    machine_set_msrs(MISC_ENABLE_NT4, 0);
    assert_int_equal(model_call3(TDH_SYS_INIT, 0, 0, 0), refused);
    machine_set_msrs(0, 0);
    assert_int_equal(model_call3(TDH_SYS_INIT, 0, 0, 0), 0);
    machine_set_msrs(MISC_ENABLE_NT4, 0);
    assert_int_equal(model_call3(TDH_SYS_LP_INIT, 0, 0, 0), refused);
    model_start();
    machine_set_msrs(MISC_ENABLE_NT4, 0);
    assert_int_equal(model_call3(TDH_MNG_INIT, 1, 0, 0), refused);
    assert_false(model_enter(&status));
    assert_int_equal(status, refused);
}

static void a_moved_tsc_is_refused_wherever_it_matters(void **state)
{
    (void)state;
    u64 refused = completion(TDX_INCONSISTENT_MSR, MSR_TSC_ADJUST), status;
    struct td_params params = model_params();
    model_start();
    machine_set_msrs(0, 5);
    assert_false(model_enter(&status));
    assert_int_equal(status, refused);
    machine_set_msrs(0, 0);
    assert_true(model_enter(&status));
    (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    machine_set_tsc(0);
    assert_false(model_enter(&status));
    assert_int_equal(status, completion(TDX_TSC_ROLLBACK, 0));
    machine_set_tsc(1ull << 40);
    assert_true(model_enter(&status));
    (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);

    model_install(&platform_described);
    model_bring_up();
    machine_set_msrs(0, 5);
    params.reserved_42[0] = 1;
    memcpy(seam_page(MODEL_SCRATCH), &params, sizeof params);
    assert_int_equal(model_call3(TDH_MNG_CREATE, MODEL_TDR, 33, 0), 0);
    assert_int_equal(model_call3(TDH_MNG_KEY_CONFIG, MODEL_TDR, 0, 0), 0);
    for (u64 i = 1; i <= 6; i++)
        assert_int_equal(model_call3(TDH_MNG_ADDCX, MODEL_TDR + i * PAGE_BYTES, MODEL_TDR, 0), 0);
    assert_int_equal(model_call3(TDH_MNG_INIT, MODEL_TDR, MODEL_SCRATCH, 0), refused);
}

/* With a vCPU in its guest on the other LP, and without. */
static void shutdown_waits_for_processors_inside(void **state)
{
    (void)state;
    u64 status;
    model_start();
    assert_true(model_enter(&status));
    machine_select_lp(1);
    assert_int_equal(model_call3(TDH_SYS_SHUTDOWN, 0, 0, 0), completion(TDX_SYS_BUSY, 0));
    assert_int_equal(soft_system.state, SYSTEM_READY);
    machine_select_lp(0);
    (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    machine_select_lp(1);
    assert_int_equal(model_call3(TDH_SYS_SHUTDOWN, 0, 0, 0), 0);
    assert_int_equal(model_call3(TDH_SYS_SHUTDOWN, 0, 0, 0), completion(TDX_SYS_SHUTDOWN, 0));
    assert_int_equal(model_call3(TDH_SYS_LP_SHUTDOWN, 0, 0, 0), 0);
    machine_select_lp(0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sys_init_names_the_msr_that_is_wrong),
        T(sys_init_names_the_first_of_two),
        T(smrrs_are_there_locked_whole_and_off_the_cmrs),
        T(convertible_ranges_are_sorted_whole_pages),
        T(lp_init_names_the_msr_that_another_lp_has_otherwise),
        T(a_second_smrr_is_compared_where_there_is_one),
        T(a_cut_cpuid_is_refused_wherever_it_matters),
        T(a_moved_tsc_is_refused_wherever_it_matters),
        T(shutdown_waits_for_processors_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
