/* SPDX-License-Identifier: MIT */
#include "tdx/module.h"

#include <stdio.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/msr.h"
#include "boot/phys.h"
#include "mm/pages.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/fake_module.h"

static const struct memory_range usual[] = {
    {0, 0x9f000, MEMORY_FREE},
    {MIB, 16 * MIB, MEMORY_FREE},
    {16 * MIB, 24 * MIB, MEMORY_TAIN},
    {24 * MIB, 128 * MIB, MEMORY_FREE},
    {128 * MIB, 129 * MIB, MEMORY_FIRMWARE},
    {3 * GIB, 4 * GIB, MEMORY_DEVICE},
};
#define PAMT_PAGES (1024 + 2 + 1)

static struct pages_stats before;

static void start(u32 cpus, u32 packages)
{
    fake_reset();
    environment_start(cpus, packages, usual, ARRAY_LENGTH(usual));
    pages_statistics(&before);
}

static int stop(void **state)
{
    (void)state;
    environment_stop();
    return 0;
}

static void pages_check(u64 pamt_pages)
{
    struct pages_stats now;
    pages_statistics(&now);
    assert_int_equal(now.pages[PAGE_PAMT], pamt_pages);
    assert_int_equal(now.pages[PAGE_FREE], before.pages[PAGE_FREE] - pamt_pages);
    assert_int_equal(host_hidden_pages(), pamt_pages);
}

static void without_hardware_the_software_module_answers(void **state)
{
    (void)state;
    start(4, 2);
    fake_gpa_bits = 40;
    assert_int_equal(tdx_module_start(), OK);
    const struct tdx_module *module = tdx_module();
    assert_true(module->software);
    assert_ptr_equal(tdx_entry, soft_seamcall_entry);
    assert_int_equal(module->major, 1);
    assert_int_equal(module->minor, 5);
    assert_int_equal(module->tdcs_pages, 6);
    assert_int_equal(module->tdvps_pages, 6);
    assert_int_equal(module->gpa_bits, 40);
    assert_int_equal(module->hkid_first, 32);
    assert_int_equal(module->hkid_count, 32);
    assert_int_equal(module->hkid_shift, 46);
    assert_int_equal(module->cpuid_config_count, 2);
    assert_int_equal(module->cpuid_config[0].leaf, 1);
    assert_int_equal(module->cpuid_config[0].subleaf, 0xffffffff);
    assert_int_equal(module->cpuid_config[0].mask.ebx, 0x00ff0000);
    assert_int_equal(module->convertible_pages, 127 * MIB / PAGE_BYTES);
    assert_int_equal(module->pamt_pages, PAMT_PAGES);
    assert_non_null(strstr(host_log(), "tdx: no Intel TDX module: no KeyID partitioning"));
    assert_non_null(strstr(host_log(), "tdx: the software TDX module takes its place"));
    pages_check(PAMT_PAGES);
}

static void the_platform_is_the_machine(void **state)
{
    (void)state;
    start(4, 2);
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(fake_platform.lp_count, 4);
    assert_int_equal(fake_platform.package_count, 2);
    assert_int_equal(fake_platform.lp_package[1], 0);
    assert_int_equal(fake_platform.lp_package[2], 1);
    assert_int_equal(fake_platform.memory_address_bits, 46);
    assert_int_equal(fake_platform.gpa_bits, 46);
    assert_int_equal(fake_platform.cmr_count, 1);
    assert_int_equal(fake_platform.cmrs[0].base, MIB);
    assert_int_equal(fake_platform.cmrs[0].bytes, 127 * MIB);
    /* And Intel's, which has no such field, means 48. */
    assert_int_equal(tdx_module()->gpa_bits, 48);
}

static u32 position(u32 leaf)
{
    u32 i = 0;
    while (i < fake_call_count && fake_calls[i].leaf != leaf)
        i++;
    assert_true(i < fake_call_count);
    return i;
}

static void the_calls_come_in_order_and_where_they_must(void **state)
{
    (void)state;
    start(4, 2);
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(position(TDH_SYS_INIT), 0);
    assert_int_equal(fake_count(TDH_SYS_LP_INIT), 4);
    for (u32 i = 0; i < 4; i++)
        assert_int_equal(fake_find(TDH_SYS_LP_INIT, i)->cpu, i);
    assert_true(position(TDH_SYS_LP_INIT) < position(TDH_SYS_RD));
    assert_true(position(TDH_SYS_RD) < position(TDH_SYS_CONFIG));
    assert_int_equal(fake_find(TDH_SYS_CONFIG, 0)->in.gpr[GPR_RDX], 1);
    assert_int_equal(fake_find(TDH_SYS_CONFIG, 0)->in.gpr[GPR_R8], 32);
    assert_int_equal(fake_count(TDH_SYS_KEY_CONFIG), 2);
    assert_int_equal(cpu_at(fake_find(TDH_SYS_KEY_CONFIG, 0)->cpu)->package, 0);
    assert_int_equal(cpu_at(fake_find(TDH_SYS_KEY_CONFIG, 1)->cpu)->package, 1);
    assert_int_equal(environment_caches_written_back, 4);
    assert_true(position(TDH_SYS_KEY_CONFIG) < position(TDH_SYS_TDMR_INIT));
}

static bool hardware_answers(u32 leaf, struct tdx_regs *regs)
{
    static const struct tdx_cmr cmr = {MIB, 128 * MIB};
    fake_platform.cmrs[0] = cmr;
    (void)leaf;
    (void)regs;
    return false;
}

static void hardware_set(void)
{
    environment_msr_set(MSR_MKTME_KEYID_PARTITIONING, 31ull << 32 | 32);
    environment_msr_set(MSR_TME_ACTIVATE, 6ull << 32 | 3);
    environment_msr_set(MSR_SEAMRR_BASE, 0x7e000000 | 1 << 3);
    environment_msr_set(MSR_SEAMRR_MASK, 0xffffe000000 | 3 << 10);
}

static void intels_module_is_preferred(void **state)
{
    (void)state;
    start(2, 1);
    hardware_set();
    fake_answer = hardware_answers;
    assert_int_equal(tdx_module_start(), OK);
    assert_false(tdx_module()->software);
    assert_true(tdx_module()->posted_wants_notification);
    assert_ptr_equal(tdx_entry, seamcall_hardware);
    assert_int_equal(tdx_module()->hkid_first, 33);
    assert_int_equal(tdx_module()->hkid_count, 31);
    assert_int_equal(tdx_module()->hkid_shift, 40);
    assert_int_equal(fake_find(TDH_SYS_CONFIG, 0)->in.gpr[GPR_R8], 33);
}

static void software_check(const char *reason)
{
    assert_int_equal(tdx_module_start(), OK);
    assert_true(tdx_module()->software);
    assert_non_null(strstr(host_log(), reason));
    environment_stop();
}

/* An emulator may answer each MSR with 0 instead of a fault. */
static void zeros_are_no_hardware(void **state)
{
    (void)state;
    start(1, 1);
    environment_msr_set(MSR_MKTME_KEYID_PARTITIONING, 0);
    software_check("no KeyIDs are set aside for TDX");

    start(1, 1);
    environment_msr_set(MSR_MKTME_KEYID_PARTITIONING, 31ull << 32 | 32);
    environment_msr_set(MSR_TME_ACTIVATE, 0);
    software_check("memory encryption has too few KeyID bits");

    start(1, 1);
    environment_msr_set(MSR_MKTME_KEYID_PARTITIONING, 31ull << 32 | 32);
    environment_msr_set(MSR_TME_ACTIVATE, 6ull << 32);
    environment_msr_set(MSR_SEAMRR_BASE, 0);
    environment_msr_set(MSR_SEAMRR_MASK, 0);
    software_check("the firmware configured no SEAM range");

    /* A mask alone is no range. */
    start(1, 1);
    environment_msr_set(MSR_MKTME_KEYID_PARTITIONING, 31ull << 32 | 32);
    environment_msr_set(MSR_TME_ACTIVATE, 6ull << 32);
    environment_msr_set(MSR_SEAMRR_BASE, 0);
    environment_msr_set(MSR_SEAMRR_MASK, 0xffffe000000 | 3 << 10);
    software_check("the firmware configured no SEAM range");
}

static bool probe_only_fails(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_SYS_RD || tdx_entry != seamcall_hardware)
        return false;
    regs->gpr[GPR_RAX] = TDX_STATUS_SEAMCALL_GP;
    return true;
}

static void a_seamcall_that_faults_is_no_hardware(void **state)
{
    (void)state;
    start(1, 1);
    hardware_set();
    fake_answer = probe_only_fails;
    software_check("no Intel TDX module: SEAMCALL_GP");
}

static u32 failing_leaf;

static bool leaf_fails(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != failing_leaf)
        return false;
    regs->gpr[GPR_RAX] = (u64)TDX_SYS_SHUTDOWN << 32;
    return true;
}

/* Until SYS.CONFIG has succeeded, nothing is the module's. */
static void every_stage_may_fail(void **state)
{
    (void)state;
    static const struct {
        u32 leaf;
        u64 pamt_pages;
    } stages[] = {
        {TDH_SYS_INIT, 0},
        {TDH_SYS_LP_INIT, 0},
        {TDH_SYS_RD, 0},
        {TDH_SYS_CONFIG, 0},
        {TDH_SYS_KEY_CONFIG, PAMT_PAGES},
        {TDH_SYS_TDMR_INIT, PAMT_PAGES},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(stages); i++) {
        start(2, 1);
        failing_leaf = stages[i].leaf;
        fake_answer = leaf_fails;
        assert_int_equal(tdx_module_start(), ERR_REFUSED);
        char line[64];
        snprintf(line, sizeof line, "tdx: %s refused: SYS_SHUTDOWN", tdh_leaf_name(stages[i].leaf));
        assert_non_null(strstr(host_log(), line));
        pages_check(stages[i].pamt_pages);
        environment_stop();
    }
}

/* The same with each single SYS.RD, which no stage may take for granted. */
static void every_field_may_be_missing(void **state)
{
    (void)state;
    start(1, 1);
    assert_int_equal(tdx_module_start(), OK);
    u32 fields = fake_count(TDH_SYS_RD), refused = 0;
    environment_stop();
    for (u32 nth = 1; nth <= fields; nth++) {
        struct inject_config injection = {"TDH.SYS.RD", nth, "METADATA_FIELD_NOT_READABLE", 1};
        start(1, 1);
        assert_int_equal(seamcall_inject(&injection), OK);
        bool failed = tdx_module_start() != OK;
        refused += failed;
        pages_check(failed ? 0 : PAMT_PAGES);
        environment_stop();
    }
    /* All but the one that Intel's module does not have. */
    assert_int_equal(refused, fields - 1);
}

static u32 generation_failures;

static bool key_generation_fails(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_SYS_KEY_CONFIG || generation_failures == 0)
        return false;
    generation_failures--;
    regs->gpr[GPR_RAX] = (u64)TDX_KEY_GENERATION_FAILED << 32;
    return true;
}

static void key_generation_is_tried_again(void **state)
{
    (void)state;
    start(1, 1);
    generation_failures = 3;
    fake_answer = key_generation_fails;
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(fake_count(TDH_SYS_KEY_CONFIG), 4);
}

static bool stuck(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_SYS_TDMR_INIT)
        return false;
    regs->gpr[GPR_RAX] = 0;
    regs->gpr[GPR_RDX] = 0;
    return true;
}

static void a_tdmr_that_never_ends_is_told(void **state)
{
    (void)state;
    start(1, 1);
    fake_answer = stuck;
    assert_int_equal(tdx_module_start(), ERR_REFUSED);
    assert_non_null(strstr(host_log(), "TDH.SYS.TDMR.INIT makes no progress at the TDMR at 0x0"));
}

static void keyids_run_out_and_come_back(void **state)
{
    (void)state;
    u16 hkid;
    bool seen[64] = {};
    start(1, 1);
    assert_int_equal(tdx_module_start(), OK);
    for (u32 i = 0; i < 31; i++) {
        assert_int_equal(tdx_key_allocate(&hkid), OK);
        /* Private, not the module's own, not given twice. */
        assert_in_range(hkid, 33, 63);
        assert_false(seen[hkid]);
        seen[hkid] = true;
    }
    assert_int_equal(tdx_key_allocate(&hkid), ERR_NO_MEMORY);
    assert_non_null(strstr(host_log(), "tdx: all 31 KeyIDs are in use"));
    tdx_key_free(40);
    assert_int_equal(tdx_key_allocate(&hkid), OK);
    assert_int_equal(hkid, 40);
}

static void firmware_islands_join_when_cmrs_run_out(void **state)
{
    (void)state;
    struct memory_range ranges[128];
    u32 count = 0;
    for (u64 i = 0; i < 40; i++) {
        u64 start_ = MIB + i * 2 * MIB;
        ranges[count++] = (struct memory_range){start_, start_ + MIB, MEMORY_FREE};
        ranges[count++] = (struct memory_range){start_ + MIB, start_ + 2 * MIB, MEMORY_FIRMWARE};
    }
    /* Room for the PAMT. */
    ranges[count++] = (struct memory_range){81 * MIB, 96 * MIB, MEMORY_FREE};
    fake_reset();
    environment_start(1, 1, ranges, count);
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(fake_platform.cmr_count, 1);
    assert_int_equal(fake_platform.cmrs[0].bytes, 95 * MIB);
    environment_stop();

    /* Gaps with nothing behind them cannot be joined. */
    for (u32 i = 0; i < count; i++)
        if (ranges[i].kind == MEMORY_FIRMWARE)
            ranges[i].kind = MEMORY_DEVICE;
    fake_reset();
    environment_start(1, 1, ranges, count);
    assert_int_equal(tdx_module_start(), ERR_UNSUPPORTED);
    assert_non_null(strstr(host_log(), "memory is in more than 32 pieces"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_hardware_the_software_module_answers, stop),
        cmocka_unit_test_teardown(the_platform_is_the_machine, stop),
        cmocka_unit_test_teardown(the_calls_come_in_order_and_where_they_must, stop),
        cmocka_unit_test_teardown(intels_module_is_preferred, stop),
        cmocka_unit_test(zeros_are_no_hardware),
        cmocka_unit_test(a_seamcall_that_faults_is_no_hardware),
        cmocka_unit_test(every_stage_may_fail),
        cmocka_unit_test(every_field_may_be_missing),
        cmocka_unit_test_teardown(key_generation_is_tried_again, stop),
        cmocka_unit_test_teardown(a_tdmr_that_never_ends_is_told, stop),
        cmocka_unit_test_teardown(keyids_run_out_and_come_back, stop),
        cmocka_unit_test_teardown(firmware_islands_join_when_cmrs_run_out, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
