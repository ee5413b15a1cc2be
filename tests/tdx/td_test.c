/* SPDX-License-Identifier: MIT */
/*
 * The life of a TD, and each of its SEAMCALLs made to fail in turn. Whatever happens, every page
 * is back at the end, or is leaked and named.
 */
#include "tdx/td.h"

#include <stdio.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/paging.h"
#include "boot/phys.h"
#include "boot/x86.h"
#include "mm/pages.h"
#include "tdx/keys.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/fake_module.h"

#define PAGES_ADDED 20
#define PAGES_MAPPED 10
#define VCPUS 2
#define MAPPED_START 0x200000

static const struct memory_range ranges[] = {{MIB, 128 * MIB, MEMORY_FREE}};

static struct td td;
static struct td_vcpu vcpus[VCPUS];
static struct vcpu_caches caches;
static struct pages_stats before;
static u64 hidden_before;

static void start(u32 cpus, u32 packages)
{
    fake_reset();
    environment_start(cpus, packages, ranges, ARRAY_LENGTH(ranges));
    assert_int_equal(tdx_module_start(), OK);
    fake_call_count = 0;
    host_log_clear();
    pages_statistics(&before);
    hidden_before = host_hidden_pages();
    vcpu_caches_init(&caches, 0);
}

static struct cpuid_values everything(u32 leaf, u32 subleaf, struct cpuid_values mask)
{
    (void)leaf;
    (void)subleaf;
    (void)mask;
    return (struct cpuid_values){~0u, ~0u, ~0u, ~0u};
}

static const struct td_options options = {
    .max_vcpus = VCPUS,
    .tsc_hz = 1000000000,
    .cpuid = everything,
};

static enum error pages_add(void)
{
    u8 content[PAGE_BYTES];
    memset(content, 0x5a, sizeof content);
    for (u64 i = 0; i < PAGES_ADDED; i++) {
        enum error error = td_add_page(&td, &caches, gpa(i * PAGE_BYTES), content);
        if (error)
            return error;
    }
    return OK;
}

static enum error pages_map_and_remove(void)
{
    gfn_t first = gpa_to_gfn(gpa(MAPPED_START)), done;
    for (u64 i = 0; i < PAGES_MAPPED; i++) {
        enum error error = mirror_map(&td.mirror, &caches, (gfn_t){first.raw + i}, LEVEL_4K);
        if (error)
            return error;
    }
    return mirror_remove_range(&td.mirror, &caches, first, (gfn_t){first.raw + PAGES_MAPPED / 2},
                               &done);
}

/* The whole life but its end. */
static enum error td_live(void)
{
    enum error error = td_create(&td, &options);
    if (error)
        return error;
    for (u32 i = 0; !error && i < VCPUS; i++)
        error = td_vcpu_create(&td, &vcpus[i], 0x1000, hpa(0x2000));
    if (!error)
        error = pages_add();
    if (!error)
        error = td_finalize(&td);
    return error ? error : pages_map_and_remove();
}

static u64 leaked_pages(void)
{
    struct pages_stats now;
    pages_statistics(&now);
    return now.pages[PAGE_LEAKED];
}

static u32 lines_with(const char *text)
{
    u32 sum = 0;
    for (const char *at = host_log(); (at = strstr(at, text)) != NULL; at++)
        sum++;
    return sum;
}

/* Every page is where it was, but for leaked ones, and each of those has its line. */
static void end_check(void)
{
    struct pages_stats now;
    vcpu_caches_drain(&caches);
    pages_statistics(&now);
    for (u32 owner = 0; owner < PAGE_OWNER_KINDS; owner++) {
        if (owner == PAGE_FREE)
            assert_int_equal(now.pages[owner] + now.pages[PAGE_LEAKED], before.pages[owner]);
        else if (owner != PAGE_LEAKED)
            assert_int_equal(now.pages[owner], before.pages[owner]);
    }
    assert_int_equal(host_hidden_pages(), hidden_before + now.pages[PAGE_LEAKED]);
    u64 by_mirror = td.mirror.stats.private_leaked + td.mirror.stats.external_leaked;
    assert_int_equal(lines_with("is leaked") + by_mirror, now.pages[PAGE_LEAKED]);
    assert_int_equal(lines_with("mirror: leaked"), by_mirror > 0);
    assert_int_equal(cpu_this()->locks_held, 0);
    environment_stop();
}

static void a_life_leaves_no_trace(void **state)
{
    (void)state;
    start(4, 2);
    assert_int_equal(td_live(), OK);
    assert_int_equal(td.measured_pages, PAGES_ADDED);
    /* The page to add from is not kept. */
    struct pages_stats now;
    pages_statistics(&now);
    assert_int_equal(now.pages[PAGE_VMM], before.pages[PAGE_VMM]);
    assert_int_equal(fake_count(TDH_MR_EXTEND), PAGES_ADDED * 16);
    assert_int_equal(fake_count(TDH_MNG_KEY_CONFIG), 2);
    assert_int_equal(fake_count(TDH_MNG_ADDCX), 6);
    assert_int_equal(fake_count(TDH_VP_ADDCX), 5 * VCPUS);
    /* None stays with the processor that made it. */
    assert_int_equal(fake_count(TDH_VP_FLUSH), VCPUS);
    assert_int_equal(keys_in_use(), 1);
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(fake_count(TDH_PHYMEM_CACHE_WB), 2);
    assert_int_equal(keys_in_use(), 0);
    assert_int_equal(leaked_pages(), 0);
    assert_string_equal(host_log(), "");
    end_check();
}

static u32 position(u32 leaf, u32 nth)
{
    const struct fake_call *call = fake_find(leaf, nth);
    assert_non_null(call);
    return (u32)(call - fake_calls);
}

static void the_order_of_the_end_is_the_abis(void **state)
{
    (void)state;
    start(2, 2);
    assert_int_equal(td_live(), OK);
    u64 tdr = td.tdr.raw;
    fake_call_count = 0;
    vcpus[1].cpu = 1;
    assert_int_equal(td_destroy(&td), OK);
    /* The one vCPU that is somewhere is flushed there. */
    assert_int_equal(fake_count(TDH_VP_FLUSH), 1);
    assert_int_equal(fake_find(TDH_VP_FLUSH, 0)->cpu, 1);
    assert_true(position(TDH_VP_FLUSH, 0) < position(TDH_MNG_VPFLUSHDONE, 0));
    assert_true(position(TDH_MNG_VPFLUSHDONE, 0) < position(TDH_PHYMEM_CACHE_WB, 0));
    assert_true(position(TDH_PHYMEM_CACHE_WB, 1) < position(TDH_MNG_KEY_FREEID, 0));
    assert_true(position(TDH_MNG_KEY_FREEID, 0) < position(TDH_PHYMEM_PAGE_RECLAIM, 0));
    u32 reclaimed = fake_count(TDH_PHYMEM_PAGE_RECLAIM);
    assert_int_equal(fake_find(TDH_PHYMEM_PAGE_RECLAIM, reclaimed - 1)->in.gpr[GPR_RCX], tdr);
    /* The TDR was written under the module's own key. */
    const struct fake_call *last = &fake_calls[fake_call_count - 1];
    assert_int_equal(last->leaf, TDH_PHYMEM_PAGE_WBINVD);
    assert_int_equal(last->in.gpr[GPR_RCX], tdr | 32ull << 46);
    end_check();
}

static void removed_pages_are_written_back_under_the_tds_key(void **state)
{
    (void)state;
    gfn_t done, first = gpa_to_gfn(gpa(MAPPED_START));
    start(1, 1);
    assert_int_equal(td_live(), OK);
    gfn_t frame = {first.raw + PAGES_MAPPED - 1};
    hpa_t page = mirror_lookup(&td.mirror, frame, NULL);
    assert_true(paging_page_is_hidden(page));
    fake_call_count = 0;
    assert_int_equal(mirror_remove_range(&td.mirror, &caches, frame, (gfn_t){frame.raw + 1}, &done),
                     OK);
    static const u32 order[] = {TDH_MEM_RANGE_BLOCK, TDH_MEM_TRACK, TDH_MEM_PAGE_REMOVE,
                                TDH_PHYMEM_PAGE_WBINVD};
    assert_int_equal(fake_call_count, ARRAY_LENGTH(order));
    for (u32 i = 0; i < ARRAY_LENGTH(order); i++)
        assert_int_equal(fake_calls[i].leaf, order[i]);
    assert_int_equal(fake_calls[3].in.gpr[GPR_RCX], page.raw | (u64)td.hkid << 46);
    assert_false(paging_page_is_hidden(page));
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

static struct td_params params_seen;

static bool params_copy(u32 leaf, struct tdx_regs *regs)
{
    if (leaf == TDH_MNG_INIT)
        memcpy(&params_seen, phys_to_virt(hpa(regs->gpr[GPR_RDX])), sizeof params_seen);
    return false;
}

static void the_params_are_what_module_and_options_agree_on(void **state)
{
    (void)state;
    start(1, 1);
    fake_answer = params_copy;
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(params_seen.attributes, TD_ATTRIBUTE_SEPT_VE_DISABLE);
    assert_int_equal(params_seen.xfam & 3, 3);
    assert_int_equal(params_seen.xfam & ~7ull, 0);
    assert_int_equal(params_seen.max_vcpus, VCPUS);
    assert_int_equal(params_seen.eptp_controls, 0x1e);
    assert_int_equal(params_seen.config_flags, TD_CONFIG_NO_RBP_MOD);
    assert_int_equal(params_seen.tsc_frequency, 40);
    assert_int_equal(params_seen.cpuid[0].eax, 0xffffffff);
    assert_int_equal(params_seen.cpuid[0].ebx, 0x00ff0000);
    assert_int_equal(params_seen.cpuid[0].ecx, 0);
    /* The guest's address width is not for CPUID to say. */
    assert_int_equal(params_seen.cpuid[1].eax, 0x0000ffff);
    assert_int_equal(params_seen.cpuid[2].eax, 0);
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

static void an_attribute_that_the_module_has_not_is_refused(void **state)
{
    (void)state;
    struct td_options wishes = options;
    wishes.attributes = TD_ATTRIBUTE_PERFMON;
    start(1, 1);
    assert_int_equal(td_create(&td, &wishes), ERR_UNSUPPORTED);
    assert_non_null(strstr(host_log(), "ATTRIBUTES 0x8000000010000000 wanted"));
    end_check();
}

static void a_td_has_vcpus_but_not_too_many(void **state)
{
    (void)state;
    struct td_options none = {.max_vcpus = 0}, many = {.max_vcpus = TD_VCPUS_MAX + 1};
    start(1, 1);
    assert_int_equal(td_create(&td, &none), ERR_INVALID);
    assert_int_equal(td_create(&td, &many), ERR_INVALID);
    assert_non_null(strstr(host_log(), "a TD of 65 vCPUs; 1 to 64 are possible"));
    end_check();
}

static void what_comes_too_late_is_refused(void **state)
{
    (void)state;
    u8 content[PAGE_BYTES] = {};
    struct td_vcpu late;
    start(1, 1);
    assert_int_equal(td_live(), OK);
    u32 calls = fake_call_count;
    assert_int_equal(td_finalize(&td), ERR_STATE);
    assert_int_equal(td_vcpu_create(&td, &late, 0, hpa(0x2000)), ERR_STATE);
    assert_int_equal(td_add_page(&td, &caches, gpa(0x100000), content), ERR_STATE);
    assert_int_equal(fake_call_count, calls);
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

static void a_vcpu_is_told_its_page_tables_and_its_descriptor(void **state)
{
    (void)state;
    static const u64 order[] = {MD_VP_SHARED_EPTP, MD_VP_POSTED_INTR_NV, MD_VP_POSTED_INTR_DESC,
                                MD_VP_PIN_CONTROLS};
    start(1, 1);
    assert_int_equal(td_live(), OK);
    for (u32 i = 0; i < ARRAY_LENGTH(order); i++)
        assert_int_equal(fake_find(TDH_VP_WR, i)->in.gpr[GPR_RDX], order[i]);
    assert_int_equal(fake_find(TDH_VP_WR, 0)->in.gpr[GPR_R8], 0x2000);
    assert_int_equal(fake_find(TDH_VP_WR, 1)->in.gpr[GPR_R8], VECTOR_POSTED);
    assert_int_equal(fake_find(TDH_VP_WR, 2)->in.gpr[GPR_R8], vcpus[0].descriptor.raw);
    assert_int_equal(fake_find(TDH_VP_WR, 3)->in.gpr[GPR_R8], 1 << 7);
    assert_int_equal(fake_find(TDH_VP_WR, 3)->in.gpr[GPR_R9], 1 << 7);
    assert_int_equal(fake_find(TDH_VP_INIT, 1)->version, 1);
    assert_int_equal(fake_find(TDH_VP_INIT, 1)->in.gpr[GPR_R8], 1);
    assert_int_equal(vcpus[1].descriptor.raw - vcpus[0].descriptor.raw, 64);
    assert_int_equal(page_owner(hpa(align_down(vcpus[1].descriptor.raw, PAGE_BYTES))), PAGE_SHARED);
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

static void guest_time_converts_to_host_time(void **state)
{
    (void)state;
    struct td clock = {.tsc_offset = (u64)-5000, .tsc_multiplier = 3ull << 47};
    for (u64 host = 10000; host < 20000; host += 777) {
        u64 guest = (u64)((unsigned __int128)host * clock.tsc_multiplier >> 48) + clock.tsc_offset;
        u64 back = td_tsc_to_host(&clock, guest);
        assert_in_range(back, host - 1, host);
    }
    assert_int_equal(td_tsc_to_host(&clock, 1ull << 63), 0x5555555555555555 + 3334);
    clock.tsc_multiplier = 1;
    assert_int_equal(td_tsc_to_host(&clock, 1ull << 62), ~0ull);
}

/* Which way a refusal of a leaf may leave pages behind. */
static bool leaf_may_leak(u32 leaf)
{
    switch (leaf) {
    case TDH_VP_FLUSH:
    case TDH_MNG_VPFLUSHDONE:
    case TDH_PHYMEM_CACHE_WB:
    case TDH_MNG_KEY_FREEID:
    case TDH_PHYMEM_PAGE_RECLAIM:
    case TDH_PHYMEM_PAGE_WBINVD:
        return true;
    default:
        return false;
    }
}

static void nth_call_fails(u32 leaf, u32 nth, const char *status)
{
    struct inject_config injection = {.nth = nth};
    snprintf(injection.leaf, sizeof injection.leaf, "%s", tdh_leaf_name(leaf));
    snprintf(injection.status, sizeof injection.status, "%s", status);
    start(4, 2);
    assert_int_equal(seamcall_inject(&injection), OK);
    enum error lived = td_live();
    enum error ended = td_destroy(&td);
    if (lived && lived != ERR_BUSY && !leaf_may_leak(leaf))
        assert_non_null(strstr(host_log(), "refused: "));
    if (!leaf_may_leak(leaf)) {
        assert_int_equal(ended, OK);
        assert_int_equal(leaked_pages(), 0);
        assert_int_equal(keys_in_use(), 0);
    }
    /* Nothing fails in silence. */
    assert_true(lived || ended || strcmp(status, "OPERAND_BUSY") == 0);
    /* td_destroy has no second chance to tell: what leaked it returned, or td_create did. */
    assert_true(leaked_pages() == 0 || ended || lived);
    end_check();
}

static void every_call_is_made_to_fail(const char *status)
{
    u32 counts[TDH_LEAF_LIMIT];
    start(4, 2);
    assert_int_equal(td_live(), OK);
    assert_int_equal(td_destroy(&td), OK);
    for (u32 leaf = 0; leaf < TDH_LEAF_LIMIT; leaf++)
        counts[leaf] = fake_count(leaf);
    end_check();
    for (u32 leaf = 0; leaf < TDH_LEAF_LIMIT; leaf++) {
        /* Of the many alike, the first ones, a middle one and the last. */
        for (u32 nth = 1; nth <= counts[leaf]; nth++)
            if (nth <= 24 || nth == counts[leaf] / 2 || nth == counts[leaf])
                nth_call_fails(leaf, nth, status);
    }
}

/* The module would refuse each page of a TD whose key is not free: one line says it for all. */
static void a_key_that_stays_costs_every_page_and_no_question(void **state)
{
    (void)state;
    struct inject_config injection = {"TDH.MNG.KEY.FREEID", 1, "WBCACHE_NOT_COMPLETE", 1};
    start(1, 1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(td_live(), OK);
    u32 reclaimed = fake_count(TDH_PHYMEM_PAGE_RECLAIM);
    assert_int_equal(td_destroy(&td), ERR_REFUSED);
    assert_int_equal(fake_count(TDH_PHYMEM_PAGE_RECLAIM), reclaimed);
    assert_non_null(strstr(host_log(), "KeyID 33 stays in use"));
    assert_int_equal(keys_in_use(), 1);
    assert_true(leaked_pages() > PAGES_ADDED);
    end_check();
}

static u32 interruptions;

static bool write_back_is_interrupted(u32 leaf, struct tdx_regs *regs)
{
    if (leaf != TDH_PHYMEM_CACHE_WB)
        return false;
    /* Started once, resumed from then on. */
    assert_int_equal(regs->gpr[GPR_RCX], interruptions > 0);
    regs->gpr[GPR_RAX] = interruptions++ < 3 ? (u64)TDX_INTERRUPTED_RESUMABLE << 32 : 0;
    return true;
}

static void a_write_back_of_all_caches_is_resumed(void **state)
{
    (void)state;
    start(1, 1);
    assert_int_equal(td_live(), OK);
    interruptions = 0;
    fake_answer = write_back_is_interrupted;
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(interruptions, 4);
    end_check();
}

static void a_vcpu_that_fails_halfway_is_flushed_all_the_same(void **state)
{
    (void)state;
    struct inject_config injection = {"TDH.VP.WR", 1, "METADATA_FIELD_NOT_WRITABLE", 1};
    start(1, 1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpus[0], 0, hpa(0x2000)), ERR_REFUSED);
    assert_int_equal(fake_count(TDH_VP_FLUSH), 0);
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(fake_count(TDH_VP_FLUSH), 1);
    end_check();
}

static void a_page_that_is_not_written_back_ends_the_td(void **state)
{
    (void)state;
    struct td_exit exit;
    struct inject_config injection = {"TDH.PHYMEM.PAGE.WBINVD", 1, "OPERAND_INVALID", 1};
    start(1, 1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(td_live(), ERR_REFUSED);
    td_vcpu_enter(&vcpus[0], &exit);
    assert_int_equal(exit.kind, TD_EXIT_DEAD);
    assert_int_equal(fake_count(TDH_VP_ENTER), 0);
    assert_non_null(strstr(host_log(), "GPA 0x200000 is removed, its page is not written back"));
    (void)td_destroy(&td);
    end_check();
}

/* One row: what is before it is free, what is behind it is lost with it, and nothing is asked. */
static void nor_is_what_its_row_removed_behind_it(void **state)
{
    (void)state;
    struct inject_config injection = {"TDH.PHYMEM.PAGE.WBINVD", 2, "OPERAND_INVALID", 1};
    gfn_t first = gpa_to_gfn(gpa(MAPPED_START));
    start(1, 1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(td_live(), ERR_REFUSED);
    assert_non_null(strstr(host_log(), "GPA 0x201000 is removed, its page is not written back"));
    assert_int_equal(fake_count(TDH_MEM_RANGE_UNBLOCK), 0);
    assert_int_equal(fake_count(TDH_PHYMEM_PAGE_WBINVD), 1);
    assert_int_equal(td.mirror.stats.leaves[LEVEL_4K], PAGES_ADDED + PAGES_MAPPED - 1);
    for (u64 i = 0; i < PAGES_MAPPED; i++)
        assert_int_equal(hpa_is_none(mirror_lookup(&td.mirror, gfn(first.raw + i), NULL)),
                         i < PAGES_MAPPED / 2);
    (void)td_destroy(&td);
    end_check();
}

static void every_call_is_refused_in_turn(void **state)
{
    (void)state;
    every_call_is_made_to_fail("OPERAND_INVALID");
}

static void every_call_is_busy_in_turn(void **state)
{
    (void)state;
    every_call_is_made_to_fail("OPERAND_BUSY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_leaves_no_trace),
        cmocka_unit_test(the_order_of_the_end_is_the_abis),
        cmocka_unit_test(removed_pages_are_written_back_under_the_tds_key),
        cmocka_unit_test(the_params_are_what_module_and_options_agree_on),
        cmocka_unit_test(an_attribute_that_the_module_has_not_is_refused),
        cmocka_unit_test(a_td_has_vcpus_but_not_too_many),
        cmocka_unit_test(what_comes_too_late_is_refused),
        cmocka_unit_test(a_vcpu_is_told_its_page_tables_and_its_descriptor),
        cmocka_unit_test(guest_time_converts_to_host_time),
        cmocka_unit_test(a_key_that_stays_costs_every_page_and_no_question),
        cmocka_unit_test(a_write_back_of_all_caches_is_resumed),
        cmocka_unit_test(a_vcpu_that_fails_halfway_is_flushed_all_the_same),
        cmocka_unit_test(a_page_that_is_not_written_back_ends_the_td),
        cmocka_unit_test(nor_is_what_its_row_removed_behind_it),
        cmocka_unit_test(every_call_is_refused_in_turn),
        cmocka_unit_test(every_call_is_busy_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
