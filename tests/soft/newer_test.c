/* SPDX-License-Identifier: MIT */
/* What newer modules have beyond 1.5.01, on a platform with it and on one without. */
#include <string.h>

#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/td_model.h"

#define VP_INIT_1 (TDH_VP_INIT | 1ull << TDX_VERSION_SHIFT)
#define TDVPR_1 (MODEL_TDVPR + MODEL_VCPU_STRIDE)
#define ID_0 0x123u
#define ID_1 0x77u
#define TOPOLOGY_ENUM_CONFIGURED 0x9110000000000019ull
#define MAX_VCPUS_PER_TD 0x9900000100000008ull
#define LEAVES_OF_REDUCE_VE                     \
    {                                           \
        6, 9, 0xc, 0x16, 0x80000002, 0x80000005 \
    }

enum module {
    MODULE_1_5,
    MODULE_NEWER,
};

static void td_create(enum module module)
{
    struct soft_platform platform = model_platform();
    struct td_params params = model_params();
    platform.newer_features = module == MODULE_NEWER ? SOFT_NEWER_FEATURES : 0;
    model_install(&platform);
    model_bring_up();
    model_td_create(&params);
    model_vcpu_create(0);
    model_vcpu_create(1);
}

static void guest_start(void)
{
    u64 status;
    assert_int_equal(model_call3(TDH_MR_FINALIZE, MODEL_TDR, 0, 0), 0);
    assert_true(model_enter(&status));
}

static void guest_of_newer_module(void)
{
    td_create(MODULE_NEWER);
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, ID_0), 0);
    assert_int_equal(model_call3(VP_INIT_1, TDVPR_1, 0, ID_1), 0);
    guest_start();
}

static int finish(void **state)
{
    (void)state;
    if (machine_is_in_guest())
        (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    return 0;
}

/* CPUID in the guest: its registers, or a #VE (which is fetched). */
static bool cpuid_answers(u32 leaf, u32 subleaf, struct tdx_regs *regs)
{
    struct tdx_regs *guest = machine_guest_registers(), ignored;
    const struct guest_exit exit = {.reason = EXIT_CPUID};
    memset(guest, 0, sizeof *guest);
    guest->gpr[GPR_RAX] = leaf;
    guest->gpr[GPR_RCX] = subleaf;
    assert_int_equal(machine_guest_exit(&exit, &ignored), CALL_IN_GUEST);
    *regs = *guest;
    struct model_tdcall info = model_tdcall(TDG_VP_VEINFO_GET, 0, 0, 0);
    bool is_ve = !info.regs.gpr[GPR_RAX];
    assert_int_equal(info.regs.gpr[GPR_RCX], is_ve ? EXIT_CPUID : 0);
    return !is_ve;
}

static u64 td_ctls_write(u64 value)
{
    struct tdx_regs *guest = machine_guest_registers(), ignored;
    const struct guest_exit exit = {.reason = EXIT_TDCALL};
    memset(guest, 0, sizeof *guest);
    guest->gpr[GPR_RAX] = TDG_VM_WR;
    guest->gpr[GPR_RDX] = MD_TD_TD_CTLS;
    guest->gpr[GPR_R8] = guest->gpr[GPR_R9] = value;
    assert_int_equal(machine_guest_exit(&exit, &ignored), CALL_IN_GUEST);
    return guest->gpr[GPR_RAX];
}

static u64 td_read(u64 id, u64 *status)
{
    struct model_tdcall call = model_tdcall(TDG_VM_RD, 0, id, 0);
    *status = call.regs.gpr[GPR_RAX];
    return call.regs.gpr[GPR_R8];
}

static void vp_init_has_one_version_on_the_old_module(void **state)
{
    (void)state;
    td_create(MODULE_1_5);
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, ID_0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RAX));
    assert_int_equal(model_call3(TDH_VP_INIT, MODEL_TDVPR, 0, 0), 0);
}

static void an_x2apic_id_is_32_bits_and_unique(void **state)
{
    (void)state;
    u64 twice = TDH_VP_INIT | 2ull << TDX_VERSION_SHIFT;
    td_create(MODULE_NEWER);
    assert_int_equal(model_call3(twice, MODEL_TDVPR, 0, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RAX));
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, 1ull << 32),
                     completion(TDX_OPERAND_INVALID, OPERAND_R8));
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, ID_0), 0);
    assert_int_equal(model_call3(VP_INIT_1, TDVPR_1, 0, ID_0),
                     completion(TDX_X2APIC_ID_NOT_UNIQUE, ID_0));
    assert_int_equal(model_call3(VP_INIT_1, TDVPR_1, 0, ID_1), 0);
    guest_start();
    /* Refused calls took no index. */
    assert_int_equal(model_tdcall(TDG_VP_INFO, 0, 0, 0).regs.gpr[GPR_R8], 4ull << 32 | 2);
}

static void vp_init_with_an_id_needs_the_td_for_itself(void **state)
{
    (void)state;
    struct tdr *tdr = seam_page(MODEL_TDR);
    td_create(MODULE_NEWER);
    struct leaf reader;
    struct tdx_regs regs = {};
    struct td td;
    leaf_begin(&reader, &regs);
    assert_int_equal(td_lock(&reader, MODEL_TDR, OPERAND_RDX, LOCK_SHARED, &td), 0);
    assert_ptr_equal(td.tdr, tdr);
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, ID_0),
                     completion(TDX_OPERAND_BUSY, OPERAND_TDR));
    assert_int_equal(model_call3(TDH_VP_INIT, MODEL_TDVPR, 0, 0), 0);
    leaf_unlock_all(&reader);
}

static void topology_is_the_vmms_until_the_guest_asks(void **state)
{
    (void)state;
    struct tdx_regs regs;
    u64 status;
    guest_of_newer_module();
    assert_false(cpuid_answers(0xb, 0, &regs));
    assert_false(cpuid_answers(0x1f, 1, &regs));
    assert_true(cpuid_answers(1, 0, &regs));
    assert_int_equal(regs.gpr[GPR_RBX] >> 24, 0);
    assert_int_equal(td_read(TOPOLOGY_ENUM_CONFIGURED, &status), 1);
    assert_int_equal(td_ctls_write(TD_CTLS_ENUM_TOPOLOGY), 0);
    assert_true(cpuid_answers(0xb, 1, &regs));
    assert_int_equal(regs.gpr[GPR_RDX], ID_0);
    assert_int_equal(regs.gpr[GPR_RCX] & 0xff, 1);
    assert_true(cpuid_answers(0x1f, 5, &regs));
    assert_int_equal(regs.gpr[GPR_RCX], 5);
    assert_true(cpuid_answers(1, 0, &regs));
    assert_int_equal(regs.gpr[GPR_RBX] >> 24, ID_0 & 0xff);
    assert_false(cpuid_answers(2, 0, &regs));
    assert_false(cpuid_answers(0x16, 0, &regs));
    assert_int_equal(td_ctls_write(TD_CTLS_VIRT_CPUID2), 0);
    assert_true(cpuid_answers(2, 0, &regs));
    assert_false(cpuid_answers(0x16, 0, &regs));
}

static void a_guest_can_be_rid_of_nearly_every_ve_of_cpuid(void **state)
{
    (void)state;
    static const u32 leaves[] = LEAVES_OF_REDUCE_VE;
    struct tdx_regs regs;
    u64 status;
    guest_of_newer_module();
    for (u32 i = 0; i < ARRAY_LENGTH(leaves); i++)
        assert_false(cpuid_answers(leaves[i], 0, &regs));
    assert_int_equal(td_ctls_write(TD_CTLS_REDUCE_VE), 0);
    assert_int_equal(td_read(MD_TD_TD_CTLS, &status) & TD_CTLS_CPUID, TD_CTLS_CPUID);
    for (u32 i = 0; i < ARRAY_LENGTH(leaves); i++)
        assert_true(cpuid_answers(leaves[i], 0, &regs));
    assert_true(cpuid_answers(2, 0, &regs));
    assert_true(cpuid_answers(0xb, 0, &regs));
    assert_false(cpuid_answers(0x40000000, 0, &regs));
}

/* One vCPU without an id is enough. */
static void without_ids_there_is_no_topology(void **state)
{
    (void)state;
    u64 invalid = completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0), status;
    td_create(MODULE_NEWER);
    assert_int_equal(model_call3(VP_INIT_1, MODEL_TDVPR, 0, ID_0), 0);
    assert_int_equal(model_call3(TDH_VP_INIT, TDVPR_1, 0, 0), 0);
    guest_start();
    assert_int_equal(td_read(TOPOLOGY_ENUM_CONFIGURED, &status), 0);
    assert_int_equal(status, 0);
    assert_int_equal(td_ctls_write(TD_CTLS_ENUM_TOPOLOGY), invalid);
    assert_int_equal(td_ctls_write(TD_CTLS_REDUCE_VE), invalid);
    assert_int_equal(td_ctls_write(TD_CTLS_VIRT_CPUID2), 0);
}

static void the_old_module_has_none_of_it(void **state)
{
    (void)state;
    struct tdx_regs regs;
    u64 status;
    td_create(MODULE_1_5);
    assert_int_equal(model_call3(TDH_VP_INIT, MODEL_TDVPR, 0, 0), 0);
    guest_start();
    assert_int_equal(td_ctls_write(TD_CTLS_REDUCE_VE),
                     completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0));
    (void)td_read(TOPOLOGY_ENUM_CONFIGURED, &status);
    assert_int_equal(status, completion(TDX_METADATA_FIELD_ID_INCORRECT, 0));
    assert_true(cpuid_answers(0xb, 0, &regs));
}

static void a_td_has_no_more_vcpus_than_ids_can_be_kept(void **state)
{
    (void)state;
    struct soft_platform platform = model_platform();
    struct td_params params = model_params();
    struct tdx_regs regs = {.gpr = {[GPR_RDX] = MAX_VCPUS_PER_TD}};
    model_install(&platform);
    model_bring_up();
    assert_int_equal(model_call(TDH_SYS_RD, &regs), completion(TDX_METADATA_FIELD_ID_INCORRECT, 0));
    params.max_vcpus = 0xffff;
    model_td_create(&params);

    platform.newer_features = SOFT_NEWER_FEATURES;
    model_install(&platform);
    model_bring_up();
    regs = (struct tdx_regs){.gpr = {[GPR_RDX] = MAX_VCPUS_PER_TD}};
    assert_int_equal(model_call(TDH_SYS_RD, &regs), 0);
    params.max_vcpus = (u16)(regs.gpr[GPR_R8] + 1);
    memcpy(seam_page(MODEL_SCRATCH), &params, sizeof params);
    assert_int_equal(model_call3(TDH_MNG_CREATE, MODEL_TDR, 33, 0), 0);
    assert_int_equal(model_call3(TDH_MNG_KEY_CONFIG, MODEL_TDR, 0, 0), 0);
    for (u64 i = 1; i <= 6; i++)
        assert_int_equal(model_call3(TDH_MNG_ADDCX, MODEL_TDR + i * PAGE_BYTES, MODEL_TDR, 0), 0);
    assert_int_equal(model_call3(TDH_MNG_INIT, MODEL_TDR, MODEL_SCRATCH, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_MAX_VCPUS));
}

#define T(name) cmocka_unit_test_teardown(name, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(vp_init_has_one_version_on_the_old_module),
        T(an_x2apic_id_is_32_bits_and_unique),
        T(vp_init_with_an_id_needs_the_td_for_itself),
        T(topology_is_the_vmms_until_the_guest_asks),
        T(a_guest_can_be_rid_of_nearly_every_ve_of_cpuid),
        T(without_ids_there_is_no_topology),
        T(the_old_module_has_none_of_it),
        T(a_td_has_no_more_vcpus_than_ids_can_be_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
