/* SPDX-License-Identifier: MIT */
/* TDCALL leaves of a TD that runs: what the traces do not reach. */
#include <string.h>

#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/soft/report.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/td_model.h"

#define REPORT 0x1000ull
#define DATA 0x2000ull
#define LIST 0x3000ull
#define MISSING 0x9000ull
#define SHARED_TABLES 0x400000ull

static int start(void **state)
{
    (void)state;
    u64 status;
    model_start();
    assert_true(model_enter(&status));
    return 0;
}

/* Leaves no coroutine behind: the guest ends in a TDVMCALL. */
static int finish(void **state)
{
    (void)state;
    if (machine_is_in_guest())
        (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    return 0;
}

static u64 answer(u64 leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct model_tdcall call = model_tdcall(leaf, rcx, rdx, r8);
    assert_true(call.is_in_guest);
    return call.regs.gpr[GPR_RAX];
}

static void a_report_of_this_run_is_genuine(void **state)
{
    (void)state;
    memset(model_page(DATA), 0x5a, REPORT_DATA_BYTES);
    assert_int_equal(answer(TDG_MR_REPORT, REPORT, DATA, 0), 0);
    const struct td_report *report = model_page(REPORT);
    assert_int_equal(report->mac_struct.data[0], 0x5a);
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT, 0, 0), 0);
}

/* Every byte counts: of what the MAC covers and of the MAC. */
static void a_report_with_one_wrong_byte_is_not(void **state)
{
    (void)state;
    assert_int_equal(answer(TDG_MR_REPORT, REPORT, DATA, 0), 0);
    u8 *bytes = model_page(REPORT);
    for (u32 i = 0; i < REPORT_MAC_STRUCT_BYTES; i++) {
        bool names_key = i >= 16 && i < 32;
        bytes[i] ^= 0x80;
        assert_int_equal(
            answer(TDG_MR_VERIFYREPORT, REPORT, 0, 0),
            completion(names_key ? TDX_INVALID_CPUSVN : TDX_INVALID_REPORTMACSTRUCT, 0));
        bytes[i] ^= 0x80;
    }
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT, 0, 0), 0);
    memset(bytes, 0, REPORT_MAC_STRUCT_BYTES);
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT, 0, 0),
                     completion(TDX_INVALID_REPORTMACSTRUCT, 0));
}

static void verifyreport_takes_an_aligned_private_address(void **state)
{
    (void)state;
    u64 refused = completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT + 128, 0, 0), refused);
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT | MODEL_SHARED_BIT, 0, 0), refused);
    assert_int_equal(answer(TDG_MR_VERIFYREPORT, REPORT | 1ull << 50, 0, 0), refused);
    struct model_tdcall call = model_tdcall(TDG_MR_VERIFYREPORT, MISSING, 0, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], EXIT_EPT_VIOLATION);
    assert_int_equal(call.regs.gpr[GPR_RCX], EPT_VIOLATION_READ);
    assert_int_equal(call.regs.gpr[GPR_R8], MISSING);
}

/* The buffer is looked at last, and for both rights. */
static void a_report_checks_its_operands_in_order(void **state)
{
    (void)state;
    assert_int_equal(answer(TDG_MR_REPORT, 1, 1, 1), completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    assert_int_equal(answer(TDG_MR_REPORT, 1ull << 50, 1, 1),
                     completion(TDX_OPERAND_INVALID, OPERAND_RDX));
    assert_int_equal(answer(TDG_MR_REPORT, 1ull << 50, 1ull << 50, 1),
                     completion(TDX_OPERAND_INVALID, OPERAND_RDX));
    assert_int_equal(answer(TDG_MR_REPORT, 1ull << 50, DATA, 1),
                     completion(TDX_OPERAND_INVALID, OPERAND_R8));
    assert_int_equal(answer(TDG_MR_REPORT, 1ull << 50, DATA, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    struct model_tdcall call = model_tdcall(TDG_MR_REPORT, MISSING & ~0x3ffull, DATA, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RCX], EPT_VIOLATION_READ | EPT_VIOLATION_WRITE);
}

static void an_interrupt_comes_before_a_report_is_written(void **state)
{
    (void)state;
    machine_set_interrupt(true);
    struct model_tdcall call = model_tdcall(TDG_MR_REPORT, REPORT, DATA, 0);
    machine_set_interrupt(false);
    assert_true(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], TDG_MR_REPORT);
    const struct td_report *report = model_page(REPORT);
    assert_int_equal(report->mac_struct.type, 0);
}

/* The VMM's shared EPT: missing with and without "suppress #VE", read-only, and wrong. */
static void shared_operands_follow_the_shared_ept(void **state)
{
    (void)state;
    u64 *root = seam_page(SHARED_TABLES), status;
    (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    struct tdx_regs regs = {.gpr = {[GPR_RCX] = MODEL_TDVPR,
                                    [GPR_RDX] = MD_VP_SHARED_EPTP,
                                    [GPR_R8] = SHARED_TABLES,
                                    [GPR_R9] = ~0ull}};
    assert_int_equal(model_call(TDH_VP_WR, &regs), 0);
    assert_true(model_enter(&status));
    u64 data = MODEL_SHARED_BIT | 0x40, *entry = &root[256];

    *entry = 0;
    struct model_tdcall call = model_tdcall(TDG_MR_REPORT, REPORT, data, 0);
    assert_true(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], TDG_MR_REPORT);
    call = model_tdcall(TDG_VP_VEINFO_GET, 0, 0, 0);
    assert_int_equal(call.regs.gpr[GPR_RAX], 0);
    assert_int_equal(call.regs.gpr[GPR_RCX], EXIT_EPT_VIOLATION);
    assert_int_equal(call.regs.gpr[GPR_RDX], EPT_VIOLATION_READ);
    assert_int_equal(call.regs.gpr[GPR_R9], data);

    *entry = EPT_SUPPRESS_VE;
    call = model_tdcall(TDG_MR_REPORT, REPORT, data, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], EXIT_EPT_VIOLATION);
    assert_true(model_enter(&status));

    *entry = EPT_WRITE;
    call = model_tdcall(TDG_MR_REPORT, REPORT, data, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], EXIT_EPT_MISCONFIGURATION);
    assert_true(model_enter(&status));

    for (u32 i = 1; i < 4; i++) {
        *entry = (SHARED_TABLES + i * PAGE_BYTES) | EPT_RWX;
        entry = seam_page(SHARED_TABLES + i * PAGE_BYTES);
    }
    *entry = MODEL_SCRATCH | EPT_READ | EPT_TYPE_WB | EPT_SUPPRESS_VE;
    memset(seam_page(MODEL_SCRATCH), 0x77, PAGE_BYTES);
    assert_int_equal(answer(TDG_MR_REPORT, REPORT, data, 0), 0);
    const struct td_report *report = model_page(REPORT);
    assert_int_equal(report->mac_struct.data[0], 0x77);
    call = model_tdcall(TDG_MR_REPORT, MODEL_SHARED_BIT, DATA, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RCX], EPT_VIOLATION_WRITE | EPT_READ << 3);
}

/* What SYS.RD finds, one field after the other, is what the list says. */
static void sys_rdall_lists_what_sys_rd_walks(void **state)
{
    (void)state;
    const u64 *list = model_page(LIST);
    struct model_tdcall call = model_tdcall(TDG_SYS_RDALL, 0, LIST, ~0ull);
    assert_int_equal(call.regs.gpr[GPR_RAX], 0);
    assert_int_equal(call.regs.gpr[GPR_R8], ~0ull);
    u64 sequences = list[0] >> 16 & 0xffff, at = 1, elements = 0;
    u64 id = model_tdcall(TDG_SYS_RD, 0, ~0ull, 0).regs.gpr[GPR_RDX];
    for (; sequences; sequences--) {
        u64 count = (list[at++] >> 38 & 0x1ff) + 1;
        for (; count; count--, elements++) {
            call = model_tdcall(TDG_SYS_RD, 0, id, 0);
            assert_int_equal(call.regs.gpr[GPR_RAX], 0);
            assert_int_equal(call.regs.gpr[GPR_R8], list[at++]);
            id = call.regs.gpr[GPR_RDX];
        }
    }
    assert_int_equal(id, ~0ull);
    assert_int_equal((u16)list[0], at * sizeof(u64));
    assert_true(elements > 4);
}

static void sys_rdall_refuses_wrong_operands(void **state)
{
    (void)state;
    u64 refused = completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    assert_int_equal(answer(TDG_SYS_RDALL, 0, LIST + 8, ~0ull), refused);
    assert_int_equal(answer(TDG_SYS_RDALL, 0, LIST | MODEL_SHARED_BIT, ~0ull), refused);
    struct model_tdcall call = model_tdcall(TDG_SYS_RDALL, 0, LIST, 1ull << 62);
    assert_int_equal(call.regs.gpr[GPR_RAX] >> 32, TDX_METADATA_FIELD_ID_INCORRECT);
    assert_int_equal(call.regs.gpr[GPR_R8], ~0ull);
}

static void leaves_have_the_versions_that_they_have(void **state)
{
    (void)state;
    u64 refused = completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    for (u64 leaf = 0; leaf < 32; leaf++)
        if (leaf != TDG_VM_RD)
            assert_int_equal(answer(leaf | 1 << 16, 0, 0, 0), refused);
    struct model_tdcall call = model_tdcall(TDG_VM_RD | 2 << 16, 0, 5, 6);
    assert_int_equal(call.regs.gpr[GPR_RAX], refused);
    assert_int_equal(call.regs.gpr[GPR_RDX], ~0ull);
    assert_int_equal(call.regs.gpr[GPR_R8], 0);
    assert_int_equal(answer(TDG_SERVTD_RD, 0, 0, 0), refused);
}

static void a_td_without_l2_vms_enters_none(void **state)
{
    (void)state;
    assert_int_equal(answer(TDG_VP_ENTER, 0, 8, 0), completion(TDX_OPERAND_INVALID, OPERAND_RDX));
    assert_int_equal(answer(TDG_VP_ENTER, 1ull << 52, 0, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    assert_int_equal(answer(TDG_VP_INVEPT, 0, 0, 0), 0);
    assert_int_equal(answer(TDG_VP_INVEPT, 2, 0, 0), completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    assert_int_equal(answer(TDG_VP_INVVPID, 1ull << 52, 0, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RCX));
}

static void attributes_are_checked_before_the_page(void **state)
{
    (void)state;
    assert_int_equal(answer(TDG_MEM_PAGE_ATTR_WR, 7, 1ull << 16, 1),
                     completion(TDX_OPERAND_INVALID, OPERAND_R8));
    assert_int_equal(answer(TDG_MEM_PAGE_ATTR_WR, 7, 1, 1),
                     completion(TDX_OPERAND_INVALID, OPERAND_RDX));
    assert_int_equal(answer(TDG_MEM_PAGE_ATTR_WR, 7, 0, 0),
                     completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    assert_int_equal(answer(TDG_MEM_PAGE_ATTR_WR, 1, 0, 0), completion(TDX_PAGE_SIZE_MISMATCH, 1));
    struct model_tdcall call = model_tdcall(TDG_MEM_PAGE_ATTR_WR, MISSING, 0, 0);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RCX], EPT_VIOLATION_WRITE);
    assert_int_equal(call.regs.gpr[GPR_RDX], TD_EXIT_DETAIL_ATTR_WR);
}

#define PENDING 0xa000ull
#define TIMEOUT_US 10000ull

/* Another LP holds the lock of the entry of PENDING, or lets it go. */
static void entry_hold(bool is_held)
{
    struct tdr *tdr = seam_page(MODEL_TDR);
    struct td td = {.tdr = tdr, .tdcs = seam_page(tdr->tdcx[0])};
    struct sept_walk walk;
    assert_true(sept_walk(&td, PENDING, LEVEL_4K, &walk));
    if (is_held)
        atomic_fetch_or(walk.entry, SEPT_ENTRY_LOCK);
    else
        atomic_fetch_and(walk.entry, ~SEPT_ENTRY_LOCK);
}

static u64 host_reads_entry(void)
{
    machine_select_lp(1);
    u64 status = model_call3(TDH_MEM_SEPT_RD, PENDING, MODEL_TDR, 0);
    machine_select_lp(0);
    return status;
}

static void pending_page_add(void)
{
    machine_select_lp(1);
    assert_int_equal(model_call3(TDH_MEM_PAGE_AUG, PENDING, MODEL_TDR, MODEL_FREE_PAGE), 0);
    machine_select_lp(0);
}

static void a_guest_gives_way_to_a_host_that_found_it_busy(void **state)
{
    (void)state;
    u64 busy = completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    pending_page_add();
    entry_hold(true);
    assert_int_equal(answer(TDG_MEM_PAGE_ACCEPT, PENDING, 0, 0), busy);
    entry_hold(false);
    assert_int_equal(host_reads_entry(), 0);
    entry_hold(true);
    assert_int_equal(host_reads_entry(), busy);
    entry_hold(false);
    assert_int_equal(answer(TDG_MEM_PAGE_ACCEPT, PENDING, 0, 0), busy);
    assert_int_equal(answer(TDG_MEM_PAGE_ATTR_RD, PENDING, 0, 0), busy);
    assert_int_equal(host_reads_entry(), 0);
    assert_int_equal(answer(TDG_MEM_PAGE_ACCEPT, PENDING, 0, 0), 0);
}

/* The host that never comes back hears of it once; its hint reaches the guest. */
static void a_host_that_does_not_come_hears_of_the_guest_that_waits(void **state)
{
    (void)state;
    u64 busy = completion(TDX_OPERAND_BUSY, OPERAND_RCX), start_tsc = seam_tsc(), status;
    struct tdx_regs regs = {.gpr = {[GPR_RCX] = MODEL_TDR,
                                    [GPR_RDX] = MD_TD_HP_LOCK_TIMEOUT,
                                    [GPR_R8] = TIMEOUT_US,
                                    [GPR_R9] = ~0ull}};
    struct model_tdcall call;
    pending_page_add();
    entry_hold(true);
    assert_int_equal(host_reads_entry(), busy);
    machine_select_lp(1);
    assert_int_equal(model_call(TDH_MNG_WR, &regs), 0);
    machine_select_lp(0);
    entry_hold(false);
    do
        call = model_tdcall(TDG_MEM_PAGE_ACCEPT, PENDING, 0, 0);
    while (call.is_in_guest && call.regs.gpr[GPR_RAX] == busy);
    assert_false(call.is_in_guest);
    assert_int_equal(call.regs.gpr[GPR_RAX], 0x9000020500000000ull);
    assert_true(seam_tsc() - start_tsc >= TIMEOUT_US * 2000);

    regs =
        (struct tdx_regs){.gpr = {[GPR_RAX] = TDH_VP_ENTER, [GPR_RCX] = MODEL_TDVPR | 1ull << 52}};
    assert_int_equal(machine_seamcall(&regs), CALL_IN_GUEST);
    const struct tdvps *vcpu = seam_page(MODEL_TDVPR);
    assert_int_equal(vcpu->gpr[GPR_RAX], busy | 1ull << 60);
    (void)model_tdcall(TDG_VP_VMCALL, 0, 0, 0);
    regs =
        (struct tdx_regs){.gpr = {[GPR_RAX] = TDH_VP_ENTER, [GPR_RCX] = MODEL_TDVPR | 1ull << 52}};
    assert_int_equal(machine_seamcall(&regs), CALL_RETURNED);
    assert_int_equal(regs.gpr[GPR_RAX], completion(TDX_OPERAND_INVALID, OPERAND_RCX));
    assert_true(model_enter(&status));
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_report_of_this_run_is_genuine),
        T(a_report_with_one_wrong_byte_is_not),
        T(verifyreport_takes_an_aligned_private_address),
        T(a_report_checks_its_operands_in_order),
        T(an_interrupt_comes_before_a_report_is_written),
        T(shared_operands_follow_the_shared_ept),
        T(sys_rdall_lists_what_sys_rd_walks),
        T(sys_rdall_refuses_wrong_operands),
        T(leaves_have_the_versions_that_they_have),
        T(a_td_without_l2_vms_enters_none),
        T(attributes_are_checked_before_the_page),
        T(a_guest_gives_way_to_a_host_that_found_it_busy),
        T(a_host_that_does_not_come_hears_of_the_guest_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
