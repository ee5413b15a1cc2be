/* SPDX-License-Identifier: MIT */
#include "tests/soft/td_model.h"

#include <string.h>

#include "boot/vmx.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"

#define TDMR_BASE GIB
#define PAMT_BASE 0x10000000ull
#define KEYID_GLOBAL 32
#define KEYID_TD 33
#define TDCX_PAGES 6
#define VCPU_PAGES 6
#define TABLES 0x40100000ull
#define CONTENT 0x40200000ull

struct soft_platform model_platform(void)
{
    return (struct soft_platform){
        .lp_count = 2,
        .package_count = 1,
        .physical_address_bits = 52,
        .memory_address_bits = 46,
        .gpa_bits = 52,
        .keyid_bits = 6,
        .shared_keyids = 32,
        .private_keyids = 32,
        .cmrs = {{MIB, 4 * GIB}},
        .cmr_count = 1,
        .tsc_hz = 2000000000,
        .xfam = ~0ull,
        .family_model_stepping = 0x806f8,
        .wbinvd_blocks = 1,
    };
}

u64 model_call(u64 leaf, struct tdx_regs *regs)
{
    regs->gpr[GPR_RAX] = leaf;
    assert_int_equal(machine_seamcall(regs), CALL_RETURNED);
    return regs->gpr[GPR_RAX];
}

u64 model_call3(u64 leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct tdx_regs regs = {.gpr = {[GPR_RCX] = rcx, [GPR_RDX] = rdx, [GPR_R8] = r8}};
    return model_call(leaf, &regs);
}

static void succeeds(u64 leaf, u64 rcx, u64 rdx, u64 r8)
{
    assert_int_equal(model_call3(leaf, rcx, rdx, r8), 0);
}

static void *bytes_at(u64 address)
{
    return (u8 *)seam_page(address & ~PAGE_MASK) + (address & PAGE_MASK);
}

void model_install(const struct soft_platform *platform)
{
    assert_int_equal(soft_install(platform), OK);
    for (u32 lp = 0; lp < 2; lp++) {
        machine_select_lp(lp);
        machine_set_interrupt(false);
    }
    machine_select_lp(0);
    machine_set_msrs(0, 0);
}

void model_bring_up(void)
{
    struct tdmr_info *info = bytes_at(MODEL_SCRATCH + PAGE_BYTES);
    *(u64 *)bytes_at(MODEL_SCRATCH) = MODEL_SCRATCH + PAGE_BYTES;
    *info = (struct tdmr_info){
        .base = TDMR_BASE,
        .size = GIB,
        .pamt_1g_base = PAMT_BASE,
        .pamt_1g_size = PAGE_BYTES,
        .pamt_2m_base = PAMT_BASE + 16 * PAGE_BYTES,
        .pamt_2m_size = 2 * PAGE_BYTES,
        .pamt_4k_base = PAMT_BASE + MIB,
        .pamt_4k_size = 4 * MIB,
    };
    succeeds(TDH_SYS_INIT, 0, 0, 0);
    for (u32 lp = 0; lp < 2; lp++) {
        machine_select_lp(lp);
        succeeds(TDH_SYS_LP_INIT, 0, 0, 0);
    }
    machine_select_lp(0);
    succeeds(TDH_SYS_CONFIG, MODEL_SCRATCH, 1, KEYID_GLOBAL);
    succeeds(TDH_SYS_KEY_CONFIG, 0, 0, 0);
    for (u64 at = 0; at < GIB; at += 4 * MIB)
        succeeds(TDH_SYS_TDMR_INIT, TDMR_BASE, 0, 0);
}

struct td_params model_params(void)
{
    return (struct td_params){
        .xfam = 3, .max_vcpus = 4, .eptp_controls = 6 | 3 << 3, .tsc_frequency = 40};
}

void model_vcpu_create(u32 lp)
{
    u64 tdvpr = MODEL_TDVPR + lp * MODEL_VCPU_STRIDE;
    succeeds(TDH_VP_CREATE, tdvpr, MODEL_TDR, 0);
    for (u32 i = 1; i < VCPU_PAGES; i++)
        succeeds(TDH_VP_ADDCX, tdvpr + i * PAGE_BYTES, tdvpr, 0);
}

void model_td_create(const struct td_params *params)
{
    memcpy(bytes_at(MODEL_SCRATCH), params, sizeof *params);
    succeeds(TDH_MNG_CREATE, MODEL_TDR, KEYID_TD, 0);
    succeeds(TDH_MNG_KEY_CONFIG, MODEL_TDR, 0, 0);
    for (u32 i = 1; i <= TDCX_PAGES; i++)
        succeeds(TDH_MNG_ADDCX, MODEL_TDR + i * PAGE_BYTES, MODEL_TDR, 0);
    succeeds(TDH_MNG_INIT, MODEL_TDR, MODEL_SCRATCH, 0);
    for (u64 level = LEVEL_512G; level > LEVEL_4K; level--)
        succeeds(TDH_MEM_SEPT_ADD, level, MODEL_TDR, TABLES + level * PAGE_BYTES);
    for (u64 at = 0; at < MODEL_MAPPED; at += PAGE_BYTES) {
        struct tdx_regs regs = {.gpr = {[GPR_RCX] = at,
                                        [GPR_RDX] = MODEL_TDR,
                                        [GPR_R8] = CONTENT + at,
                                        [GPR_R9] = MODEL_SCRATCH}};
        assert_int_equal(model_call(TDH_MEM_PAGE_ADD, &regs), 0);
    }
}

void model_td_build(const struct td_params *params)
{
    model_td_create(params);
    for (u32 lp = 0; lp < 2; lp++) {
        machine_select_lp(lp);
        model_vcpu_create(lp);
        succeeds(TDH_VP_INIT, MODEL_TDVPR + lp * MODEL_VCPU_STRIDE, 0, 0);
    }
    machine_select_lp(0);
    succeeds(TDH_MR_FINALIZE, MODEL_TDR, 0, 0);
}

void model_start(void)
{
    struct soft_platform platform = model_platform();
    struct td_params params = model_params();
    model_install(&platform);
    model_bring_up();
    model_td_build(&params);
}

void *model_page(u64 address)
{
    return bytes_at(CONTENT + address);
}

bool model_enter(u64 *status)
{
    struct tdx_regs regs = {
        .gpr = {[GPR_RAX] = TDH_VP_ENTER, [GPR_RCX] = MODEL_TDVPR + seam_lp() * MODEL_VCPU_STRIDE}};
    bool is_in_guest = machine_seamcall(&regs) == CALL_IN_GUEST;
    *status = regs.gpr[GPR_RAX];
    return is_in_guest;
}

struct model_tdcall model_tdcall(u64 leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct tdx_regs *guest = machine_guest_registers();
    struct guest_exit exit = {.reason = EXIT_TDCALL};
    struct model_tdcall call;

    memset(guest, 0, sizeof *guest);
    guest->gpr[GPR_RAX] = leaf;
    guest->gpr[GPR_RCX] = rcx;
    guest->gpr[GPR_RDX] = rdx;
    guest->gpr[GPR_R8] = r8;
    call.is_in_guest = machine_guest_exit(&exit, &call.regs) == CALL_IN_GUEST;
    if (call.is_in_guest)
        call.regs = *guest;
    return call;
}
