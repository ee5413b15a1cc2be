/* SPDX-License-Identifier: MIT */
/*
 * The software module's checker: each rule is broken by SEAMCALLs of the test's own, and that one
 * counter and one line tell. Beside it the same done right, which moves none.
 */
#include "tdx/td.h"

#include <stdio.h>
#include <string.h>

#include "boot/cpu.h"
#include "mm/pages.h"
#include "tdx/handover.h"
#include "tdx/module.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/soft_module.h"

#define FRAME 0x40000ull
#define LARGE_FRAME 0x40200ull
#define CPUS 2
#define LINE_BYTES 128

static const struct memory_range memory[] = {{MIB, 64 * MIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpu;
static struct vcpu_caches caches;
static char expected[LINE_BYTES]; /* what the line has to name */

static const struct td_options options = {
    .max_vcpus = 1,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static int start(void **state)
{
    (void)state;
    environment_start(CPUS, CPUS, memory, ARRAY_LENGTH(memory));
    assert_int_equal(tdx_module_start(), OK);
    vcpu_caches_init(&caches, 0);
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpu, 0, hpa(0x200000)), OK);
    assert_int_equal(td_finalize(&td), OK);
    assert_int_equal(mirror_map(&td.mirror, &caches, gfn(FRAME), LEVEL_4K), OK);
    assert_int_equal(mirror_map(&td.mirror, &caches, gfn(LARGE_FRAME), LEVEL_2M), OK);
    host_log_clear();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    soft_module_guest = NULL;
    host_cpu_set(0);
    environment_stop();
    return 0;
}

static u64 call(enum tdh_leaf leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = rdx;
    regs.gpr[GPR_R8] = r8;
    return seamcall(leaf, &regs).raw >> 32;
}

static u64 entry(u64 frame, enum level level)
{
    return frame << PAGE_SHIFT | level;
}

static hpa_t page_at(u64 frame)
{
    return mirror_lookup(&td.mirror, gfn(frame), NULL);
}

static void block_and_track(u64 frame, enum level level)
{
    assert_int_equal(call(TDH_MEM_RANGE_BLOCK, entry(frame, level), td.tdr.raw, 0), 0);
    assert_int_equal(call(TDH_MEM_TRACK, td.tdr.raw, 0, 0), 0);
}

static hpa_t page_remove(u64 frame, enum level level)
{
    hpa_t page = page_at(frame);
    block_and_track(frame, level);
    assert_int_equal(call(TDH_MEM_PAGE_REMOVE, entry(frame, level), td.tdr.raw, 0), 0);
    return page;
}

static u64 page_aug(u64 frame, enum level level, hpa_t page)
{
    return call(TDH_MEM_PAGE_AUG, entry(frame, level), td.tdr.raw, page.raw);
}

static u64 page_flush(hpa_t page, u64 keyid)
{
    return call(TDH_PHYMEM_PAGE_WBINVD, page.raw | keyid << tdx_module()->hkid_shift, 0, 0);
}

static void expect_page(hpa_t page, u32 keyid)
{
    snprintf(expected, sizeof expected, "page 0x%llx, KeyID %u:", (unsigned long long)page.raw,
             keyid);
}

static void expect_entry(u64 frame, enum level level)
{
    snprintf(expected, sizeof expected,
             "GPA 0x%llx, level %u, of TD 0x%llx:", (unsigned long long)frame << PAGE_SHIFT, level,
             (unsigned long long)td.tdr.raw);
}

static void page_given_again(void)
{
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    assert_int_equal(page_aug(FRAME, LEVEL_4K, page), 0);
    expect_page(page, td.hkid);
}

static void page_flushed_under_another_key(void)
{
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    assert_int_equal(page_flush(page, 0), 0);
    assert_int_equal(page_aug(FRAME, LEVEL_4K, page), 0);
    expect_page(page, td.hkid);
}

/* All but one of its small pages. */
static void large_page_given_again(void)
{
    hpa_t page = page_remove(LARGE_FRAME, LEVEL_2M);
    for (u64 i = 0; i < level_pages(LEVEL_2M); i++)
        if (i != 77)
            assert_int_equal(page_flush(hpa(page.raw + i * PAGE_BYTES), td.hkid), 0);
    assert_int_equal(page_aug(LARGE_FRAME, LEVEL_2M, page), 0);
    expect_page(hpa(page.raw + 77 * PAGE_BYTES), td.hkid);
}

static void table_given_again(void)
{
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = entry(FRAME, LEVEL_2M);
    regs.gpr[GPR_RDX] = td.tdr.raw;
    assert_int_equal(page_flush(page, td.hkid), 0);
    block_and_track(FRAME, LEVEL_2M);
    assert_int_equal(seamcall(TDH_MEM_SEPT_REMOVE, &regs).raw, 0);
    hpa_t table = hpa(regs.gpr[GPR_RCX]);
    assert_int_equal(call(TDH_MEM_SEPT_ADD, entry(FRAME, LEVEL_2M), td.tdr.raw, table.raw), 0);
    expect_page(table, td.hkid);
}

/* The first two steps of a TD, and its end but for the key. */
static hpa_t tdr_create(u16 *keyid)
{
    hpa_t page;
    assert_int_equal(tdx_key_allocate(keyid), OK);
    assert_int_equal(page_allocate(PAGE_TD_CONTROL, &page), OK);
    assert_int_equal(call(TDH_MNG_CREATE, page.raw, *keyid, 0), 0);
    return page;
}

static void key_give_up(hpa_t tdr, u32 packages)
{
    assert_int_equal(call(TDH_MNG_VPFLUSHDONE, tdr.raw, 0, 0), 0);
    for (u32 cpu = 0; cpu < packages; cpu++) {
        host_cpu_set(cpu);
        assert_int_equal(call(TDH_PHYMEM_CACHE_WB, 0, 0, 0), 0);
    }
    host_cpu_set(0);
}

static hpa_t tdr_reclaim(u16 *keyid)
{
    hpa_t page = tdr_create(keyid);
    key_give_up(page, CPUS);
    assert_int_equal(call(TDH_MNG_KEY_FREEID, page.raw, 0, 0), 0);
    assert_int_equal(call(TDH_PHYMEM_PAGE_RECLAIM, page.raw, 0, 0), 0);
    return page;
}

/* A TDR is the module's own: its lines are under the global KeyID. */
static void tdr_given_again(void)
{
    u16 keyid;
    hpa_t page = tdr_reclaim(&keyid);
    assert_int_equal(page_flush(page, keyid), 0);
    assert_int_equal(call(TDH_MNG_CREATE, page.raw, keyid, 0), 0);
    expect_page(page, tdx_module()->hkid_first);
}

static void page_written_too_early(void)
{
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    ((u8 *)host_memory_at(page.raw))[PAGE_BYTES - 64] ^= 1;
    assert_int_equal(page_flush(page, td.hkid), 0);
    expect_page(page, td.hkid);
}

/* The end of the key writes back all; who wrote before that was too early. */
static void page_written_before_the_key_was_free(void)
{
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    memset(host_memory_at(page.raw), 0xa5, PAGE_BYTES);
    /* The mirror knows nothing of what we did. */
    (void)td_destroy(&td);
    expect_page(page, td.hkid);
}

static void vcpu_on_two_processors(void)
{
    assert_int_equal(call(TDH_VP_RD, vcpu.tdvpr.raw, MD_VP_STATE_DETAILS, 0), 0);
    host_cpu_set(1);
    assert_int_equal(call(TDH_VP_RD, vcpu.tdvpr.raw, MD_VP_STATE_DETAILS, 0), TDX_VCPU_ASSOCIATED);
    snprintf(expected, sizeof expected,
             "vCPU 0 of TD 0x%llx, processor 0 to 1:", (unsigned long long)td.tdr.raw);
}

static void removal_without_block(void)
{
    assert_int_equal(call(TDH_MEM_PAGE_REMOVE, entry(FRAME, LEVEL_4K), td.tdr.raw, 0),
                     TDX_GPA_RANGE_NOT_BLOCKED);
    expect_entry(FRAME, LEVEL_4K);
}

static void removal_without_track(void)
{
    assert_int_equal(call(TDH_MEM_RANGE_BLOCK, entry(FRAME, LEVEL_4K), td.tdr.raw, 0), 0);
    assert_int_equal(call(TDH_MEM_PAGE_REMOVE, entry(FRAME, LEVEL_4K), td.tdr.raw, 0),
                     TDX_TLB_TRACKING_NOT_DONE);
    expect_entry(FRAME, LEVEL_4K);
}

static void unblock_without_track(void)
{
    assert_int_equal(call(TDH_MEM_RANGE_BLOCK, entry(LARGE_FRAME, LEVEL_2M), td.tdr.raw, 0), 0);
    assert_int_equal(call(TDH_MEM_RANGE_UNBLOCK, entry(LARGE_FRAME, LEVEL_2M), td.tdr.raw, 0),
                     TDX_TLB_TRACKING_NOT_DONE);
    expect_entry(LARGE_FRAME, LEVEL_2M);
}

/* Another processor, while the vCPU is in the guest. */
static void guest_is_not_kicked(struct tdvps *tdvps, struct guest_exit *exit)
{
    (void)tdvps;
    host_cpu_set(1);
    block_and_track(FRAME, LEVEL_4K);
    assert_int_equal(call(TDH_MEM_PAGE_REMOVE, entry(FRAME, LEVEL_4K), td.tdr.raw, 0),
                     TDX_TLB_TRACKING_NOT_DONE);
    host_cpu_set(0);
    guest_interrupted(exit);
}

static void removal_without_kick(void)
{
    struct td_exit exit;
    soft_module_guest = guest_is_not_kicked;
    td_vcpu_enter(&vcpu, &exit);
    assert_int_equal(exit.kind, TD_EXIT_INTERRUPT);
    expect_entry(FRAME, LEVEL_4K);
}

static void key_not_flushed_on_a_package(void)
{
    u16 keyid;
    hpa_t tdr = tdr_create(&keyid);
    key_give_up(tdr, CPUS - 1);
    assert_int_equal(call(TDH_MNG_KEY_FREEID, tdr.raw, 0, 0), TDX_WBCACHE_NOT_COMPLETE);
    snprintf(expected, sizeof expected, "KeyID %u, packages 0x2:", keyid);
}

static void key_of_two_tds(void)
{
    hpa_t page;
    assert_int_equal(page_allocate(PAGE_TD_CONTROL, &page), OK);
    assert_int_equal(call(TDH_MNG_CREATE, page.raw, td.hkid, 0), TDX_HKID_NOT_FREE);
    snprintf(expected, sizeof expected, "KeyID %u:", td.hkid);
}

static const struct {
    enum soft_rule rule;
    void (*breach)(void);
} breaches[] = {
    {SOFT_RULE_PAGE_REUSED, page_given_again},
    {SOFT_RULE_PAGE_REUSED, page_flushed_under_another_key},
    {SOFT_RULE_PAGE_REUSED, large_page_given_again},
    {SOFT_RULE_PAGE_REUSED, table_given_again},
    {SOFT_RULE_PAGE_REUSED, tdr_given_again},
    {SOFT_RULE_PAGE_WRITTEN, page_written_too_early},
    {SOFT_RULE_PAGE_WRITTEN, page_written_before_the_key_was_free},
    {SOFT_RULE_VCPU_MOVED, vcpu_on_two_processors},
    {SOFT_RULE_BLOCK_MISSING, removal_without_block},
    {SOFT_RULE_TRACK_MISSING, removal_without_track},
    {SOFT_RULE_TRACK_MISSING, unblock_without_track},
    {SOFT_RULE_KICK_MISSING, removal_without_kick},
    {SOFT_RULE_KEY_UNFLUSHED, key_not_flushed_on_a_package},
    {SOFT_RULE_KEY_REUSED, key_of_two_tds},
};

static void rules_check(u64 sum, enum soft_rule only)
{
    struct broken_rules broken;
    assert_true(tdx_broken_rules(&broken));
    assert_int_equal(broken.sum, sum);
    for (u32 i = 0; i < SOFT_RULES; i++)
        assert_int_equal(broken.counts[i], i == only ? sum : 0);
}

static void each_breach_moves_its_counter_and_is_named(void **state)
{
    bool is_broken[SOFT_RULES] = {};
    char line[2 * LINE_BYTES];
    for (u32 i = 0; i < ARRAY_LENGTH(breaches); i++) {
        if (i > 0)
            start(state);
        rules_check(0, 0);
        breaches[i].breach();
        rules_check(1, breaches[i].rule);
        snprintf(line, sizeof line, "soft: checker: %s: %s", tdx_rule_name(breaches[i].rule),
                 expected);
        const char *found = strstr(host_log(), line);
        if (!found)
            fail_msg("no line '%s' in:\n%s", line, host_log());
        assert_null(strstr(found + 1, "soft: checker:"));
        is_broken[breaches[i].rule] = true;
        stop(state);
    }
    for (u32 i = 0; i < SOFT_RULES; i++)
        assert_true(is_broken[i]);
    start(state);
}

/* The same steps with what was missing. */
static void right_behaviour_moves_none(void **state)
{
    (void)state;
    u16 keyid;
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    assert_int_equal(page_flush(page, td.hkid), 0);
    memset(host_memory_at(page.raw), 0xa5, PAGE_BYTES);
    assert_int_equal(page_aug(FRAME, LEVEL_4K, page), 0);
    page = page_remove(LARGE_FRAME, LEVEL_2M);
    for (u64 i = 0; i < level_pages(LEVEL_2M); i++)
        assert_int_equal(page_flush(hpa(page.raw + i * PAGE_BYTES), td.hkid), 0);
    assert_int_equal(page_aug(LARGE_FRAME, LEVEL_2M, page), 0);
    page = tdr_reclaim(&keyid);
    assert_int_equal(page_flush(page, tdx_module()->hkid_first), 0);
    assert_int_equal(call(TDH_MNG_CREATE, page.raw, keyid, 0), 0);
    assert_int_equal(call(TDH_VP_RD, vcpu.tdvpr.raw, MD_VP_STATE_DETAILS, 0), 0);
    assert_int_equal(call(TDH_VP_FLUSH, vcpu.tdvpr.raw, 0, 0), 0);
    host_cpu_set(1);
    assert_int_equal(call(TDH_VP_RD, vcpu.tdvpr.raw, MD_VP_STATE_DETAILS, 0), 0);
    rules_check(0, 0);
    assert_string_equal(host_log(), "");
}

/* A page that was never written back, but whose key was on every package, may be used. */
static void the_end_of_a_key_writes_all_back(void **state)
{
    (void)state;
    hpa_t page = page_remove(FRAME, LEVEL_4K);
    /* The mirror knows nothing of what we did. */
    (void)td_destroy(&td);
    memset(host_memory_at(page.raw), 0xa5, PAGE_BYTES);
    assert_int_equal(call(TDH_MNG_CREATE, page.raw, td.hkid, 0), 0);
    rules_check(0, 0);
}

static void many_breaches_are_counted_and_few_are_told(void **state)
{
    (void)state;
    for (u32 i = 0; i < 100; i++)
        (void)call(TDH_MEM_PAGE_REMOVE, entry(FRAME, LEVEL_4K), td.tdr.raw, 0);
    rules_check(100, SOFT_RULE_BLOCK_MISSING);
    u32 lines = 0;
    for (const char *at = host_log(); (at = strstr(at, "soft: checker:")) != NULL; at++)
        lines++;
    assert_in_range(lines, 1, 10);
}

static void switched_off_it_says_nothing(void **state)
{
    struct broken_rules broken;
    stop(state);
    environment_checker_off = true;
    start(state);
    environment_checker_off = false;
    page_given_again();
    assert_false(tdx_broken_rules(&broken));
    assert_string_equal(host_log(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_breach_moves_its_counter_and_is_named, start, stop),
        cmocka_unit_test_setup_teardown(right_behaviour_moves_none, start, stop),
        cmocka_unit_test_setup_teardown(the_end_of_a_key_writes_all_back, start, stop),
        cmocka_unit_test_setup_teardown(many_breaches_are_counted_and_few_are_told, start, stop),
        cmocka_unit_test_setup_teardown(switched_off_it_says_nothing, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
