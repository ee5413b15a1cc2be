/* SPDX-License-Identifier: MIT */
#include "tdx/tdmr.h"

#include <string.h>

#include "mm/pages.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"

static struct tdmr_plan plan;
static const struct tdmr_limits intel = {64, 16, {16, 16, 16}, 0};

static void convertible_set(const struct span *spans, u32 count)
{
    spans_clear(&plan.convertible);
    for (u32 i = 0; i < count; i++)
        assert_true(spans_insert(&plan.convertible, spans[i].start, spans[i].end));
}

static bool is_reserved(const struct tdmr_info *tdmr, u64 address)
{
    for (u32 i = 0; i < TDMR_RESERVED_MAX && tdmr->reserved[i].size > 0; i++) {
        u64 start = tdmr->base + tdmr->reserved[i].offset;
        if (address >= start && address < start + tdmr->reserved[i].size)
            return true;
    }
    return false;
}

static const struct tdmr_info *tdmr_of(u64 address)
{
    for (u32 i = 0; i < plan.count; i++)
        if (address >= plan.tdmrs[i].base && address < plan.tdmrs[i].base + plan.tdmrs[i].size)
            return &plan.tdmrs[i];
    return NULL;
}

/* What SYS.CONFIG checks of each TDMR by itself. */
static void shape_check(const struct tdmr_info *tdmr)
{
    u64 at = 0, pages = tdmr->size / PAGE_BYTES;
    assert_true(tdmr->size > 0);
    assert_true(is_aligned(tdmr->base | tdmr->size, GIB));
    for (u32 i = 0; i < TDMR_RESERVED_MAX && tdmr->reserved[i].size > 0; i++) {
        assert_true(is_aligned(tdmr->reserved[i].offset | tdmr->reserved[i].size, PAGE_BYTES));
        /* Ascending, and not even touching. */
        assert_true(i == 0 || tdmr->reserved[i].offset > at);
        at = tdmr->reserved[i].offset + tdmr->reserved[i].size;
        assert_true(at <= tdmr->size);
    }
    assert_true(tdmr->pamt_4k_size >= pages * 16);
    assert_true(tdmr->pamt_2m_size >= pages / 512 * 16);
    assert_true(tdmr->pamt_1g_size >= pages / 512 / 512 * 16);
    assert_true(is_aligned(tdmr->pamt_4k_size | tdmr->pamt_2m_size | tdmr->pamt_1g_size |
                               tdmr->pamt_4k_base | tdmr->pamt_2m_base | tdmr->pamt_1g_base,
                           PAGE_BYTES));
}

static bool is_convertible(u64 address)
{
    return spans_overlap(&plan.convertible, (struct span){address, address + 1});
}

static bool is_free(u64 address)
{
    const struct machine *m = machine();
    for (u32 i = 0; i < m->range_count; i++)
        if (m->ranges[i].kind == MEMORY_FREE && address >= m->ranges[i].start &&
            address < m->ranges[i].end)
            return true;
    return false;
}

/* Page by page: the plan against the memory map. */
static void plan_check(u64 end)
{
    u64 given = 0, reserved = 0, left = 0, pamt = 0;
    for (u32 i = 0; i < plan.count; i++) {
        shape_check(&plan.tdmrs[i]);
        assert_true(i == 0 ||
                    plan.tdmrs[i].base >= plan.tdmrs[i - 1].base + plan.tdmrs[i - 1].size);
    }
    for (u64 address = 0; address < end; address += PAGE_BYTES) {
        const struct tdmr_info *tdmr = tdmr_of(address);
        bool convertible = is_convertible(address);
        bool in_pamt = address >= MIB && is_free(address) && page_owner(hpa(address)) == PAGE_PAMT;
        pamt += in_pamt;
        if (tdmr && !is_reserved(tdmr, address)) {
            assert_true(convertible && !in_pamt);
            given++;
        } else if (convertible) {
            reserved += tdmr != NULL;
            left += tdmr == NULL;
            /* Whatever the allocator may hand out, the module takes. */
            assert_true(!is_free(address) || in_pamt || address < MIB);
        }
    }
    assert_int_equal(given, plan.given_pages);
    assert_int_equal(reserved, plan.reserved_pages);
    assert_int_equal(left, plan.left_pages);
    assert_int_equal(pamt, plan.pamt_pages);
    assert_int_equal(given + reserved + left, spans_bytes(&plan.convertible) / PAGE_BYTES);
}

/* As it was: all that is not free is the allocator's own bookkeeping. */
static void nothing_check(void)
{
    struct pages_stats stats;
    pages_statistics(&stats);
    assert_int_equal(stats.pages[PAGE_PAMT], 0);
    assert_int_equal(stats.pages[PAGE_FREE] + stats.pages[PAGE_VMM], stats.total_pages);
    environment_stop();
}

static void release_check(void)
{
    tdmr_plan_release(&plan);
    nothing_check();
}

static void one_small_memory(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {
        {0, 0xa0000, MEMORY_FREE},
        {MIB, 128 * MIB, MEMORY_FREE},
    };
    environment_start(1, 1, ranges, ARRAY_LENGTH(ranges));
    convertible_set((struct span[]){{MIB, 128 * MIB}}, 1);
    assert_int_equal(tdmr_plan_make(&plan, &intel), OK);
    assert_int_equal(plan.count, 1);
    assert_int_equal(plan.pamt_pages, 1024 + 2 + 1);
    plan_check(GIB);
    release_check();
}

static void islands_of_firmware_and_a_gap_at_the_top(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {
        {0, 0x9f000, MEMORY_FREE},
        {MIB, 20 * MIB, MEMORY_FREE},
        {20 * MIB, 30 * MIB, MEMORY_TAIN},
        {30 * MIB, 900 * MIB, MEMORY_FREE},
        {900 * MIB, 901 * MIB, MEMORY_FIRMWARE},
        {901 * MIB, 1300 * MIB, MEMORY_FREE},
        {1302 * MIB, 1400 * MIB, MEMORY_FREE},
    };
    environment_start(1, 1, ranges, ARRAY_LENGTH(ranges));
    convertible_set(
        (struct span[]){{MIB, 900 * MIB}, {901 * MIB, 1300 * MIB}, {1302 * MIB, 1400 * MIB}}, 3);
    assert_int_equal(tdmr_plan_make(&plan, &intel), OK);
    assert_int_equal(plan.count, 2);
    plan_check(2 * GIB);
    release_check();
}

/* Tain's own memory is convertible: it need not be reserved where there is no room for it. */
static void islands_check(u64 free_bytes, u64 island_bytes)
{
    struct memory_range ranges[64];
    u32 count = 0;
    u64 at = MIB;
    for (u64 i = 0; i < 25; i++) {
        ranges[count++] = (struct memory_range){at, at + free_bytes, MEMORY_FREE};
        at += free_bytes;
        ranges[count++] = (struct memory_range){at, at + island_bytes, MEMORY_TAIN};
        at += island_bytes;
    }
    environment_start(1, 1, ranges, count);
    convertible_set((struct span[]){{MIB, at}}, 1);
    assert_int_equal(tdmr_plan_make(&plan, &intel), OK);
    plan_check(GIB);
    release_check();
}

static void more_islands_than_reserved_areas(void **state)
{
    (void)state;
    islands_check(7 * MIB, MIB);
    /* Here the smallest area is the PAMT, which must stay reserved. */
    islands_check(8 * MIB, 8 * MIB);
}

static void more_gaps_than_reserved_areas_is_an_error_that_leaves_nothing(void **state)
{
    (void)state;
    struct memory_range ranges[64];
    struct span spans[64];
    u32 count = 0;
    for (u64 i = 0; i < 25; i++) {
        u64 start = MIB + i * 8 * MIB;
        spans[count] = (struct span){start, start + 7 * MIB};
        ranges[count++] = (struct memory_range){start, start + 7 * MIB, MEMORY_FREE};
    }
    environment_start(1, 1, ranges, count);
    convertible_set(spans, count);
    assert_int_equal(tdmr_plan_make(&plan, &intel), ERR_UNSUPPORTED);
    assert_non_null(strstr(host_log(), "reserved areas, the module takes 16"));
    nothing_check();
}

static void fewer_tdmrs_than_gibs_are_made_larger(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {{MIB, 5 * GIB + 512 * MIB, MEMORY_FREE}};
    const struct tdmr_limits two = {2, 16, {16, 16, 16}, 0};
    environment_start(1, 1, ranges, 1);
    convertible_set((struct span[]){{MIB, 5 * GIB + 512 * MIB}}, 1);
    assert_int_equal(tdmr_plan_make(&plan, &two), OK);
    assert_int_equal(plan.count, 2);
    assert_int_equal(plan.tdmrs[0].size, 4 * GIB);
    plan_check(6 * GIB);
    release_check();
}

static void islands_that_need_more_tdmrs_than_there_are(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {
        {MIB, 64 * MIB, MEMORY_FREE},
        {2 * GIB, 2 * GIB + 64 * MIB, MEMORY_FREE},
    };
    const struct tdmr_limits one = {1, 16, {16, 16, 16}, 0};
    environment_start(1, 1, ranges, 2);
    convertible_set((struct span[]){{MIB, 64 * MIB}, {2 * GIB, 2 * GIB + 64 * MIB}}, 2);
    assert_int_equal(tdmr_plan_make(&plan, &one), ERR_UNSUPPORTED);
    assert_non_null(strstr(host_log(), "memory does not fit into 1 TDMRs"));
    nothing_check();
}

static void free_memory_that_is_not_convertible_is_told(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {{MIB, 128 * MIB, MEMORY_FREE}};
    environment_start(1, 1, ranges, 1);
    convertible_set((struct span[]){{MIB, 100 * MIB}}, 1);
    assert_int_equal(tdmr_plan_make(&plan, &intel), ERR_UNSUPPORTED);
    assert_non_null(strstr(host_log(), "28 MiB of free memory are not convertible"));
    nothing_check();
}

static void too_little_memory_for_a_pamt(void **state)
{
    (void)state;
    const struct memory_range ranges[] = {{MIB, 4 * MIB, MEMORY_FREE}};
    environment_start(1, 1, ranges, 1);
    convertible_set((struct span[]){{MIB, 4 * MIB}}, 1);
    assert_int_equal(tdmr_plan_make(&plan, &intel), ERR_NO_MEMORY);
    assert_non_null(strstr(host_log(), "no 4108 KiB in one piece for the PAMT"));
    nothing_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_small_memory),
        cmocka_unit_test(islands_of_firmware_and_a_gap_at_the_top),
        cmocka_unit_test(more_islands_than_reserved_areas),
        cmocka_unit_test(more_gaps_than_reserved_areas_is_an_error_that_leaves_nothing),
        cmocka_unit_test(fewer_tdmrs_than_gibs_are_made_larger),
        cmocka_unit_test(islands_that_need_more_tdmrs_than_there_are),
        cmocka_unit_test(free_memory_that_is_not_convertible_is_told),
        cmocka_unit_test(too_little_memory_for_a_pamt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
