/* SPDX-License-Identifier: MIT */
/*
 * Refusals that no trace shows: of two mistakes the one that a leaf looks for first, and what a
 * state does not allow. The worlds are the fuzzer's.
 */
#include "boot/vmx.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/fuzz.h"

#define UNALIGNED 8
#define KEYID_SPARE (FUZZ_KEYID + 3)

#define assert_answer(answer, code, detail) \
    assert_int_equal(answer, (u64)(code) << 32 | (u64)(detail))

static void world(enum fuzz_start start)
{
    fuzz_world_start((u8)start);
    machine_select_lp(0);
}

static u64 answer(u64 rax, u64 rcx, u64 rdx, u64 r8, u64 r9)
{
    return fuzz_answer(rax, rcx, rdx, r8, r9);
}

static void sys_info_looks_at_its_buffers_one_after_the_other(void **state)
{
    (void)state;
    world(FUZZ_READY);
    u64 cmrs = FUZZ_SHARED + PAGE_BYTES;
    assert_answer(answer(TDH_SYS_INFO, FUZZ_SHARED, 1023, cmrs + UNALIGNED, 31),
                  TDX_OPERAND_INVALID, OPERAND_RDX);
    assert_answer(answer(TDH_SYS_INFO, FUZZ_SHARED, 1024, cmrs + UNALIGNED, 31),
                  TDX_OPERAND_INVALID, OPERAND_R8);
    assert_answer(answer(TDH_SYS_INFO, FUZZ_SHARED, 1024, cmrs, 31), TDX_OPERAND_INVALID,
                  OPERAND_R9);
    assert_answer(answer(TDH_SYS_INFO, FUZZ_SHARED, 1024, cmrs, 32), TDX_SUCCESS, 0);
}

static void page_add_looks_at_the_entry_then_the_source_then_the_page(void **state)
{
    (void)state;
    world(FUZZ_BUILDING);
    u64 tdr = fuzz_world.tds[0], used = fuzz_world.vcpus[0], gpa = 100 * PAGE_BYTES;
    assert_answer(answer(TDH_MEM_PAGE_ADD, 0, tdr, used, FUZZ_SHARED + UNALIGNED),
                  TDX_EPT_ENTRY_STATE_INCORRECT, OPERAND_RCX);
    assert_answer(answer(TDH_MEM_PAGE_ADD, gpa, tdr, used, FUZZ_SHARED + UNALIGNED),
                  TDX_OPERAND_INVALID, OPERAND_R9);
    assert_answer(answer(TDH_MEM_PAGE_ADD, gpa, tdr, used, FUZZ_SHARED),
                  TDX_PAGE_METADATA_INCORRECT, OPERAND_R8);
}

static void addcx_looks_at_the_keys_then_the_number_then_the_page(void **state)
{
    (void)state;
    world(FUZZ_READY);
    u64 tdr = fuzz_page_take(), used = fuzz_page_take();
    assert_answer(answer(TDH_MNG_CREATE, tdr, KEYID_SPARE, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_MNG_ADDCX, used, tdr, 0, 0), TDX_TD_KEYS_NOT_CONFIGURED, 0);
    assert_answer(answer(TDH_MNG_KEY_CONFIG, tdr, 0, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_MNG_ADDCX, used, tdr, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_MNG_ADDCX, used, tdr, 0, 0), TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX);
    for (u32 i = 1; i < TDCX_PAGES_MAX; i++)
        assert_answer(answer(TDH_MNG_ADDCX, fuzz_page_take(), tdr, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_MNG_ADDCX, used, tdr, 0, 0), TDX_TDCX_NUM_INCORRECT, 0);
    assert_answer(answer(TDH_MNG_VPFLUSHDONE, tdr, 0, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_MNG_ADDCX, used, tdr, 0, 0), TDX_TD_KEYS_NOT_CONFIGURED, 0);
}

/* A TD that takes its parameters, of which each is wrong until it is put right. */
static void init_looks_at_its_parameters_in_their_order(void **state)
{
    (void)state;
    world(FUZZ_READY);
    u64 tdr = fuzz_page_take();
    struct td_params *params = seam_page(FUZZ_PARAMS);
    answer(TDH_MNG_CREATE, tdr, KEYID_SPARE, 0, 0);
    answer(TDH_MNG_KEY_CONFIG, tdr, 0, 0, 0);
    for (u32 i = 0; i < TDCX_PAGES_BASE; i++)
        answer(TDH_MNG_ADDCX, fuzz_page_take(), tdr, 0, 0);
    *params = (struct td_params){.attributes = ~0ull,
                                 .num_l2_vms = 0xff,
                                 .reserved_20 = {1},
                                 .eptp_controls = 1,
                                 .config_flags = ~0ull};
#define ASSERT_PARAMETER(code, operand) \
    assert_answer(answer(TDH_MNG_INIT, tdr, FUZZ_PARAMS, 0, 0), code, operand)
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_ATTRIBUTES);
    params->attributes = 0;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_XFAM);
    params->xfam = XFAM_FIXED1;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_MAX_VCPUS);
    params->max_vcpus = 1;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_NUM_L2_VMS);
    params->num_l2_vms = 1;
    ASSERT_PARAMETER(TDX_TDCS_NOT_ALLOCATED, 0);
    params->num_l2_vms = 0;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_RDX);
    params->reserved_20[0] = 0;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_EXEC_CONTROLS);
    params->config_flags = 0;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_EPTP_CONTROLS);
    params->eptp_controls = 0x1e;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_TSC_FREQUENCY);
    params->tsc_frequency = TDX_TSC_UNITS_MIN;
    params->reserved_42[0] = 1;
    ASSERT_PARAMETER(TDX_OPERAND_INVALID, OPERAND_RDX);
    params->reserved_42[0] = 0;
    ASSERT_PARAMETER(TDX_SUCCESS, 0);
    ASSERT_PARAMETER(TDX_OP_STATE_INCORRECT, 0);
}

static void a_td_without_parameters_has_no_fields(void **state)
{
    (void)state;
    world(FUZZ_READY);
    u64 tdr = fuzz_page_take();
    answer(TDH_MNG_CREATE, tdr, KEYID_SPARE, 0, 0);
    answer(TDH_MNG_KEY_CONFIG, tdr, 0, 0, 0);
    assert_answer(answer(TDH_MNG_RD, tdr, MD_TD_NUM_VCPUS, 0, 0), TDX_TDCS_NOT_ALLOCATED, 0);
    for (u32 i = 0; i < TDCX_PAGES_BASE; i++)
        answer(TDH_MNG_ADDCX, fuzz_page_take(), tdr, 0, 0);
    assert_answer(answer(TDH_MNG_RD, tdr, MD_TD_NUM_VCPUS, 0, 0), TDX_OP_STATE_INCORRECT, 0);
    assert_answer(answer(TDH_MNG_WR, tdr, MD_TD_NUM_VCPUS, 0, 1), TDX_OP_STATE_INCORRECT, 0);
    world(FUZZ_BUILDING);
    assert_answer(answer(TDH_MNG_RD, fuzz_world.tds[0], MD_TD_NUM_VCPUS, 0, 0), TDX_SUCCESS, 0);
}

static void entry_looks_at_the_pages_then_the_state(void **state)
{
    (void)state;
    u64 whole;
    world(FUZZ_BUILDING);
    u64 tdr = fuzz_world.tds[0], tdvpr = fuzz_page_take();
    answer(TDH_VP_CREATE, tdvpr, tdr, 0, 0);
    for (u32 i = 2; i < TDVPS_PAGES_BASE; i++)
        answer(TDH_VP_ADDCX, fuzz_page_take(), tdvpr, 0, 0);
    whole = fuzz_page_take();
    answer(TDH_VP_CREATE, whole, tdr, 0, 0);
    for (u32 i = 1; i < TDVPS_PAGES_BASE; i++)
        answer(TDH_VP_ADDCX, fuzz_page_take(), whole, 0, 0);
    assert_answer(answer(TDH_VP_ENTER, whole, 0, 0, 0), TDX_OP_STATE_INCORRECT, 0);
    assert_answer(answer(TDH_MR_FINALIZE, tdr, 0, 0, 0), TDX_SUCCESS, 0);
    assert_answer(answer(TDH_VP_ENTER, tdvpr, 0, 0, 0), TDX_TDCX_NUM_INCORRECT, 0);
    assert_answer(answer(TDH_VP_ENTER, whole, 0, 0, 0), TDX_VCPU_STATE_INCORRECT, 0);
}

static u64 vcpu_init(u64 tdr)
{
    u64 tdvpr = fuzz_page_take();
    assert_answer(answer(TDH_VP_CREATE, tdvpr, tdr, 0, 0), TDX_SUCCESS, 0);
    for (u32 i = 1; i < TDVPS_PAGES_BASE; i++)
        assert_answer(answer(TDH_VP_ADDCX, fuzz_page_take(), tdvpr, 0, 0), TDX_SUCCESS, 0);
    return answer(TDH_VP_INIT, tdvpr, 0, 0, 0);
}

static void a_vcpu_too_many_is_not_counted(void **state)
{
    (void)state;
    world(FUZZ_BUILDING);
    u64 tdr = fuzz_world.tds[0];
    const struct tdcs *tdcs = seam_page(((struct tdr *)seam_page(tdr))->tdcx[0]);
    for (u32 i = tdcs->num_vcpus; i < tdcs->max_vcpus; i++)
        assert_answer(vcpu_init(tdr), TDX_SUCCESS, 0);
    assert_answer(vcpu_init(tdr), TDX_MAX_VCPUS_EXCEEDED, 0);
    assert_int_equal(tdcs->num_vcpus, tdcs->max_vcpus);
}

static void a_disabled_vcpu_is_not_entered_again(void **state)
{
    (void)state;
    static const struct guest_exit triple_fault = {.reason = EXIT_TRIPLE_FAULT};
    struct tdx_regs regs;
    world(FUZZ_TWO);
    assert_int_equal(machine_guest_exit(&triple_fault, &regs), CALL_RETURNED);
    assert_answer(answer(TDH_VP_ENTER, fuzz_world.vcpus[0], 0, 0, 0), TDX_VCPU_STATE_INCORRECT, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sys_info_looks_at_its_buffers_one_after_the_other),
        cmocka_unit_test(page_add_looks_at_the_entry_then_the_source_then_the_page),
        cmocka_unit_test(addcx_looks_at_the_keys_then_the_number_then_the_page),
        cmocka_unit_test(init_looks_at_its_parameters_in_their_order),
        cmocka_unit_test(a_td_without_parameters_has_no_fields),
        cmocka_unit_test(entry_looks_at_the_pages_then_the_state),
        cmocka_unit_test(a_vcpu_too_many_is_not_counted),
        cmocka_unit_test(a_disabled_vcpu_is_not_entered_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
