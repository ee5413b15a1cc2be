/* SPDX-License-Identifier: MIT */
/*
 * The driver and the mirror against the software module itself: what one side believes is read
 * back from the other. All of it twice: with static and with dynamic PAMT.
 */
#include "tdx/td.h"

#include <stdio.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/paging.h"
#include "boot/phys.h"
#include "mm/pages.h"
#include "tdx/keys.h"
#include "tdx/pamt.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/soft_module.h"

#define PAGES_ADDED 100
#define PAGES_MAPPED 20
#define VCPUS 2
#define MAPPED_START 0x40000000
#define LARGE_START 0x41000000
#define PAGES_CUT 7

static const struct memory_range plain[] = {{MIB, 128 * MIB, MEMORY_FREE}};
static const struct memory_range pieces[] = {
    {0, 0x9f000, MEMORY_FREE},
    {MIB, 8 * MIB, MEMORY_FREE},
    {8 * MIB, 12 * MIB, MEMORY_TAIN},
    {12 * MIB, 100 * MIB, MEMORY_FREE},
    {100 * MIB, 101 * MIB, MEMORY_FIRMWARE},
    {101 * MIB, 140 * MIB, MEMORY_FREE},
    {140 * MIB, 150 * MIB, MEMORY_DEVICE},
    {150 * MIB, 200 * MIB, MEMORY_FREE},
    {GIB, GIB + 64 * MIB, MEMORY_FREE},
};

static struct td td;
static struct td_vcpu vcpus[VCPUS];
static struct vcpu_caches caches;
static struct pages_stats before;
static u64 hidden_before;
static u32 pages_wanted = PAGES_ADDED;

static void start_on(u32 cpus, u32 packages, const struct memory_range *ranges, u32 count)
{
    environment_start(cpus, packages, ranges, count);
    assert_int_equal(tdx_module_start(), OK);
    soft_module_counts_clear();
    host_log_clear();
    pages_statistics(&before);
    /* In strict mode nothing but the PAMTs is the module's yet. */
    hidden_before = host_hidden_pages();
    assert_int_equal(hidden_before, before.pages[PAGE_PAMT]);
    vcpu_caches_init(&caches, pamt_is_dynamic() ? METADATA_PAGES_MINIMUM : 0);
}

static void start(u32 cpus, u32 packages)
{
    start_on(cpus, packages, plain, ARRAY_LENGTH(plain));
}

static const struct td_options options = {
    .max_vcpus = VCPUS,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static enum error pages_add(void)
{
    u8 content[PAGE_BYTES];
    for (u64 i = 0; i < pages_wanted; i++) {
        memset(content, (int)i, sizeof content);
        enum error error = td_add_page(&td, &caches, gpa(i * PAGE_BYTES), content);
        if (error)
            return error;
    }
    return OK;
}

static enum error td_build(void)
{
    enum error error = td_create(&td, &options);
    if (error)
        return error;
    for (u32 i = 0; !error && i < VCPUS; i++)
        error = td_vcpu_create(&td, &vcpus[i], 0x1000, hpa(0x200000));
    if (!error)
        error = pages_add();
    return error ? error : td_finalize(&td);
}

static enum error td_map_and_remove(void)
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

/* A large page is mapped, split, joined, and split again by the removal of its first part. */
static enum error td_split_and_join(void)
{
    gfn_t first = gpa_to_gfn(gpa(LARGE_START)), done;
    enum error error = mirror_map(&td.mirror, &caches, first, LEVEL_2M);
    if (!error)
        error = mirror_demote(&td.mirror, &caches, first, LEVEL_4K);
    if (!error)
        error = mirror_promote(&td.mirror, first, LEVEL_2M);
    return error ? error
                 : mirror_remove_range(&td.mirror, &caches, first, (gfn_t){first.raw + PAGES_CUT},
                                       &done);
}

static enum error td_live(void)
{
    enum error error = td_build();
    if (!error)
        error = td_map_and_remove();
    return error ? error : td_split_and_join();
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

static void pamt_check(void)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    enum error error = pamt_audit(message);
    assert_string_equal(message, "");
    assert_int_equal(error, OK);
}

/* Pages of pairs that could not be taken back, or serve pages that could not. */
static u64 pair_pages(void)
{
    struct pamt_stats pamt;
    pamt_statistics(&pamt);
    if (leaked_pages() == 0 && lines_with("TDH.PHYMEM.PAMT.REMOVE is made to fail") == 0)
        assert_int_equal(pamt.pairs_now, 0);
    return PAMT_PAIR_PAGES * pamt.pairs_now + pamt.pages_lost;
}

static void rules_check(void)
{
    struct broken_rules broken;
    assert_true(tdx_broken_rules(&broken));
    if (broken.sum)
        fail_msg("rules broken %llu times:\n%s", (unsigned long long)broken.sum, host_log());
}

static void end_check(void)
{
    struct pages_stats now;
    vcpu_caches_drain(&caches);
    pages_statistics(&now);
    pamt_check();
    u64 pairs = pair_pages();
    for (u32 owner = 0; owner < PAGE_OWNER_KINDS; owner++) {
        u64 expected = before.pages[owner];
        if (owner == PAGE_FREE)
            expected -= pairs + now.pages[PAGE_LEAKED];
        if (owner == PAGE_PAMT)
            expected += pairs;
        if (owner != PAGE_LEAKED)
            assert_int_equal(now.pages[owner], expected);
    }
    assert_int_equal(host_hidden_pages(), hidden_before + now.pages[PAGE_LEAKED] + pairs);
    u64 by_mirror = td.mirror.stats.private_leaked + td.mirror.stats.external_leaked;
    assert_int_equal(lines_with("is leaked") + by_mirror, now.pages[PAGE_LEAKED]);
    assert_int_equal(cpu_this()->locks_held, 0);
    rules_check();
    environment_stop();
}

static void audit_check(void)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    enum error error = mirror_audit(&td.mirror, message);
    assert_string_equal(message, "");
    assert_int_equal(error, OK);
    pamt_check();
}

static void life_check(void)
{
    assert_int_equal(td_build(), OK);
    assert_int_equal(pamt_is_dynamic(), environment_newer_module);
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_ADD) > 0, environment_newer_module);
    audit_check();
    assert_int_equal(td.measured_pages, PAGES_ADDED);
    assert_int_equal(td.mirror.stats.leaves[LEVEL_4K], PAGES_ADDED);
    assert_int_equal(td_map_and_remove(), OK);
    audit_check();
    assert_int_equal(td.mirror.stats.leaves[LEVEL_4K], PAGES_ADDED + PAGES_MAPPED / 2);
    assert_int_equal(td_split_and_join(), OK);
    audit_check();
    assert_int_equal(td.mirror.stats.leaves[LEVEL_4K],
                     PAGES_ADDED + PAGES_MAPPED / 2 + 512 - PAGES_CUT);
    assert_int_equal(td.mirror.stats.promoted, 1);
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(td.mirror.stats.external_taken, td.mirror.stats.external_returned);
    assert_int_equal(leaked_pages(), 0);
    assert_int_equal(keys_in_use(), 0);
    assert_string_equal(host_log(), "");
    end_check();
}

static void a_life_on_one_processor(void **state)
{
    (void)state;
    start(1, 1);
    life_check();
}

static void a_life_on_two_packages(void **state)
{
    (void)state;
    start(4, 2);
    life_check();
}

static void a_life_in_memory_of_many_pieces(void **state)
{
    (void)state;
    start_on(2, 1, pieces, ARRAY_LENGTH(pieces));
    life_check();
}

/* More lives than there are KeyIDs. */
static void keys_come_back(void **state)
{
    (void)state;
    start(1, 1);
    pages_wanted = 1;
    for (u32 i = 0; i < 40; i++) {
        assert_int_equal(td_build(), OK);
        assert_int_equal(td_destroy(&td), OK);
    }
    pages_wanted = PAGES_ADDED;
    end_check();
}

/* Of the content alone: the same pages, one byte apart. */
static void the_measurement_is_of_the_content(void **state)
{
    (void)state;
    u8 first[TD_MEASUREMENT_BYTES], second[TD_MEASUREMENT_BYTES];
    start(1, 1);
    assert_int_equal(td_build(), OK);
    assert_int_equal(td_measurement(&td, first), OK);
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(td_build(), OK);
    assert_int_equal(td_measurement(&td, second), OK);
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(td_destroy(&td), OK);

    u8 content[PAGE_BYTES] = {};
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpus[0], 0, hpa(0x200000)), OK);
    assert_int_equal(td_measurement(&td, second), ERR_STATE);
    content[PAGE_BYTES - 1] = 1;
    assert_int_equal(td_add_page(&td, &caches, gpa(0), content), OK);
    assert_int_equal(td_finalize(&td), OK);
    assert_int_equal(td_measurement(&td, second), OK);
    assert_memory_not_equal(first, second, sizeof first);
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

/* What the guest has not accepted is pending, what the build added is mapped: as the module says.
 */
static void entries_read_as_the_module_has_them(void **state)
{
    (void)state;
    static const struct {
        u64 address;
        enum level level;
        enum external_state entry;
    } rows[] = {
        {0, LEVEL_4K, EXTERNAL_MAPPED},
        {0, LEVEL_2M, EXTERNAL_TABLE},
        {PAGES_ADDED * PAGE_BYTES, LEVEL_4K, EXTERNAL_FREE},
        {MAPPED_START + (PAGES_MAPPED - 1) * PAGE_BYTES, LEVEL_4K, EXTERNAL_PENDING},
        {MAPPED_START, LEVEL_4K, EXTERNAL_FREE},
        {2 * GIB, LEVEL_1G, EXTERNAL_FREE},
    };
    start(1, 1);
    assert_int_equal(td_live(), OK);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct external_entry entry;
        gfn_t frame = gpa_to_gfn(gpa(rows[i].address));
        assert_int_equal(td.mirror.ops->read_entry(&td, frame, rows[i].level, &entry), OK);
        assert_int_equal(entry.state, rows[i].entry);
        if (rows[i].level == LEVEL_4K)
            assert_int_equal(entry.page.raw, mirror_lookup(&td.mirror, frame, NULL).raw);
    }
    gfn_t pending = {gpa_to_gfn(gpa(MAPPED_START)).raw + PAGES_MAPPED - 1};
    struct external_entry entry;
    struct entry_row row = {.frame = pending, .level = LEVEL_4K, .count = 1, .page = HPA_NONE};
    assert_int_equal(td.mirror.ops->block(&td, &row), OK);
    assert_int_equal(td.mirror.ops->read_entry(&td, pending, LEVEL_4K, &entry), OK);
    assert_int_equal(entry.state, EXTERNAL_BLOCKED);
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

static enum external_state state_of(u64 address)
{
    struct external_entry entry;
    assert_int_equal(td.mirror.ops->read_entry(&td, gpa_to_gfn(gpa(address)), LEVEL_4K, &entry),
                     OK);
    return entry.state;
}

/* What a removal blocked and did not remove is the guest's again. */
static void a_removal_that_stops_unblocks_the_rest(void **state)
{
    (void)state;
    struct inject_config injection = {"TDH.MEM.PAGE.REMOVE", 4, "OPERAND_INVALID", 1};
    start(1, 1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(td_live(), ERR_REFUSED);
    assert_int_equal(state_of(MAPPED_START + 2 * PAGE_BYTES), EXTERNAL_FREE);
    for (u64 i = 3; i < PAGES_MAPPED; i++)
        assert_int_equal(state_of(MAPPED_START + i * PAGE_BYTES), EXTERNAL_PENDING);
    audit_check();
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

/* Before finalize no vCPU can have seen a page: there is nothing to block or to track. */
static void a_page_of_the_build_is_removed_at_once(void **state)
{
    (void)state;
    gfn_t done;
    start(1, 1);
    pages_wanted = 8;
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(pages_add(), OK);
    pages_wanted = PAGES_ADDED;
    assert_int_equal(mirror_remove_range(&td.mirror, &caches, (gfn_t){2}, (gfn_t){4}, &done), OK);
    assert_int_equal(soft_module_count(TDH_MEM_RANGE_BLOCK), 0);
    assert_int_equal(soft_module_count(TDH_MEM_TRACK), 0);
    assert_int_equal(state_of(3 * PAGE_BYTES), EXTERNAL_FREE);
    assert_int_equal(td.mirror.stats.leaves[LEVEL_4K], 6);
    audit_check();
    assert_int_equal(td_destroy(&td), OK);
    end_check();
}

/* As after a VP.ENTER that was refused before it came to associate the vCPU. */
static void a_vcpu_that_is_nowhere_needs_no_flush(void **state)
{
    (void)state;
    start(1, 1);
    assert_int_equal(td_build(), OK);
    vcpus[1].cpu = 0;
    assert_int_equal(td_destroy(&td), OK);
    assert_string_equal(host_log(), "");
    end_check();
}

static void a_corrupted_mirror_fails_its_audit(void **state)
{
    (void)state;
    char message[AUDIT_MESSAGE_BYTES] = "";
    start(1, 1);
    assert_int_equal(td_build(), OK);
    assert_int_equal(mirror_corrupt_for_test(&td.mirror, (gfn_t){7}), OK);
    assert_int_equal(mirror_audit(&td.mirror, message), ERR_STATE);
    assert_true(strlen(message) > 0);
    /* The other page was never given: what it hid is the module's to keep. */
    (void)td_destroy(&td);
    environment_stop();
}

static void interrupted_cache_write_backs_are_resumed(void **state)
{
    (void)state;
    start(2, 2);
    assert_int_equal(td_build(), OK);
    soft_module_interrupts = 3;
    assert_int_equal(td_destroy(&td), OK);
    assert_int_equal(soft_module_count(TDH_PHYMEM_CACHE_WB), 2 + 3);
    assert_int_equal(leaked_pages(), 0);
    end_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_on_one_processor),
        cmocka_unit_test(a_life_on_two_packages),
        cmocka_unit_test(a_life_in_memory_of_many_pieces),
        cmocka_unit_test(keys_come_back),
        cmocka_unit_test(the_measurement_is_of_the_content),
        cmocka_unit_test(entries_read_as_the_module_has_them),
        cmocka_unit_test(a_removal_that_stops_unblocks_the_rest),
        cmocka_unit_test(a_page_of_the_build_is_removed_at_once),
        cmocka_unit_test(a_vcpu_that_is_nowhere_needs_no_flush),
        cmocka_unit_test(a_corrupted_mirror_fails_its_audit),
        cmocka_unit_test(interrupted_cache_write_backs_are_resumed),
    };
    int failed = cmocka_run_group_tests_name("static PAMT", tests, NULL, NULL);
    environment_newer_module = true;
    return failed + cmocka_run_group_tests_name("dynamic PAMT", tests, NULL, NULL);
}
