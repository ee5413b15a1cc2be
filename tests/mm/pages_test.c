/* SPDX-License-Identifier: MIT */
#include "mm/pages.h"

#include "tests/host/cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/paging.h"
#include "boot/phys.h"
#include "tests/host/machine.h"

#define PAGES 5000ull

static hpa_t at(u64 index)
{
    return hpa(HOST_MEMORY_START + index * PAGE_BYTES);
}

static int setup(void **state)
{
    (void)state;
    host_memory_create(PAGES * PAGE_BYTES);
    pages_reset_for_test();
    /* Out of order, with a hole, and one range too small to be of use. */
    pages_add_range(at(1000), at(PAGES));
    pages_add_range(at(0), at(700));
    pages_add_range(at(800), at(801));
    return 0;
}

static struct pages_stats statistics(void)
{
    struct pages_stats stats;
    pages_statistics(&stats);
    u64 sum = 0;
    for (u32 i = 0; i < PAGE_OWNER_KINDS; i++)
        sum += stats.pages[i];
    assert_int_equal(sum, stats.total_pages);
    return stats;
}

static void every_page_is_given_once_and_comes_back(void **state)
{
    (void)state;
    static bool seen[PAGES];
    memset(seen, 0, sizeof seen);
    struct pages_stats before = statistics();
    assert_int_equal(before.total_pages, 700 + PAGES - 1000);
    hpa_t page;
    u64 given = 0;
    while (page_allocate(PAGE_PRIVATE, &page) == OK) {
        u64 index = (page.raw - HOST_MEMORY_START) / PAGE_BYTES;
        assert_true(index < 700 || (index >= 1000 && index < PAGES));
        assert_false(seen[index]);
        seen[index] = true;
        assert_true(hpa_is_none(page_partner(page)));
        page_set_partner(page, page);
        memset(phys_to_virt(page), 0xa5, PAGE_BYTES);
        given++;
    }
    assert_int_equal(given, before.pages[PAGE_FREE]);
    assert_int_equal(statistics().pages[PAGE_FREE], 0);
    for (u64 i = 0; i < PAGES; i++) {
        if (!seen[i])
            continue;
        assert_int_equal(page_owner(at(i)), PAGE_PRIVATE);
        assert_true(hpa_equal(page_partner(at(i)), at(i)));
        page_free(at(i));
    }
    struct pages_stats after = statistics();
    assert_memory_equal(&before, &after, sizeof before);
}

static void what_was_freed_into_a_full_zone_is_found_again(void **state)
{
    (void)state;
    hpa_t page, low = HPA_NONE, again;
    while (page_allocate(PAGE_PRIVATE, &page) == OK)
        if (page.raw < at(700).raw)
            low = page;
    page_free(page); /* the last one: of the zone above */
    page_free(low);
    assert_int_equal(page_allocate(PAGE_PRIVATE, &again), OK);
    assert_true(hpa_equal(again, low));
    assert_int_equal(page_allocate(PAGE_PRIVATE, &again), OK);
    assert_true(hpa_equal(again, page));
    assert_int_equal(page_allocate(PAGE_PRIVATE, &again), ERR_NO_MEMORY);
}

static void a_hidden_page_is_allocated_and_freed_untouched(void **state)
{
    (void)state;
    hpa_t page;
    assert_int_equal(page_allocate(PAGE_EXTERNAL, &page), OK);
    paging_hide_page(page, LEVEL_4K);
    page_free(page);
    hpa_t again;
    assert_int_equal(page_allocate(PAGE_EXTERNAL, &again), OK);
    assert_true(hpa_equal(page, again));
    page_free(again);
}

static void a_run_is_contiguous_aligned_and_free(void **state)
{
    (void)state;
    struct pages_stats before = statistics();
    hpa_t single, first, second;
    assert_int_equal(page_allocate(PAGE_VMM, &single), OK);
    assert_int_equal(pages_allocate(PAGE_PAMT, 100, 64, &first), OK);
    assert_int_equal(pages_allocate(PAGE_PAMT, 1000, 256, &second), OK);
    assert_true(is_aligned(first.raw, 64 * PAGE_BYTES));
    assert_true(is_aligned(second.raw, 256 * PAGE_BYTES));
    assert_true(second.raw >= first.raw + 100 * PAGE_BYTES ||
                second.raw + 1000 * PAGE_BYTES <= first.raw);
    assert_int_equal(statistics().pages[PAGE_PAMT], 1100);
    hpa_t none;
    assert_int_equal(pages_allocate(PAGE_PAMT, PAGES, 1, &none), ERR_NO_MEMORY);
    pages_free(first, 100);
    pages_free(second, 1000);
    page_free(single);
    struct pages_stats after = statistics();
    assert_memory_equal(&before, &after, sizeof before);
}

static void a_zeroed_page_is_zeroed_though_it_was_dirty(void **state)
{
    (void)state;
    hpa_t page, again;
    assert_int_equal(page_allocate(PAGE_VMM, &page), OK);
    memset(phys_to_virt(page), 0xff, PAGE_BYTES);
    page_free(page);
    assert_int_equal(page_allocate_zeroed(PAGE_VMM, &again), OK);
    assert_true(hpa_equal(page, again));
    const u8 *bytes = phys_to_virt(again);
    for (u64 i = 0; i < PAGE_BYTES; i++)
        assert_int_equal(bytes[i], 0);
}

/* True if `call` ends in a panic. */
static bool panics(void (*call)(hpa_t page), hpa_t page)
{
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        signal(SIGABRT, SIG_DFL);
        call(page);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

static void leak(hpa_t page)
{
    page_set_owner(page, PAGE_LEAKED);
}

static void a_wrong_free_panics(void **state)
{
    (void)state;
    hpa_t page;
    assert_int_equal(page_allocate(PAGE_VMM, &page), OK);
    assert_false(panics(page_free, page));
    assert_false(panics(leak, page));
    assert_true(panics(page_free, at(900)));
    leak(page);
    assert_true(panics(page_free, page));
    assert_int_equal(page_allocate(PAGE_VMM, &page), OK);
    page_free(page);
    assert_true(panics(page_free, page));
    assert_true(panics(leak, page));
}

/* --- Against a list of owners -------------------------------------------------------------------
 */

#define OPERATIONS 100000
#define LARGE (2 * MIB / PAGE_BYTES)
#define GIVEN_MAX 4096

static u8 owners[PAGES]; /* what the allocator should think; PAGE_FREE where it has none */
static struct {
    u64 index, count;
} given[GIVEN_MAX];
static u32 given_count;
static u64 seed;

static u64 any(u64 below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static void take(hpa_t page, u64 count, enum page_owner owner)
{
    u64 index = (page.raw - HOST_MEMORY_START) / PAGE_BYTES;
    for (u64 i = 0; i < count; i++) {
        assert_int_equal(owners[index + i], PAGE_FREE);
        owners[index + i] = (u8)owner;
    }
    assert_true(given_count < GIVEN_MAX);
    given[given_count].index = index;
    given[given_count++].count = count;
}

static bool free_run_exists(u64 count, u64 align)
{
    for (u64 i = 0; i + count <= PAGES; i++) {
        u64 len = 0;
        if (at(i).raw / PAGE_BYTES % align)
            continue;
        while (len < count && owners[i + len] == PAGE_FREE)
            len++;
        if (len == count)
            return true;
    }
    return false;
}

static void allocate_any(void)
{
    enum page_owner owner = PAGE_VMM + (enum page_owner)any(PAGE_LEAKED - PAGE_VMM);
    hpa_t page, some[8];
    u64 count = 1 + any(8);
    switch (any(4)) {
    case 0:
        if (page_allocate(owner, &page) == OK)
            take(page, 1, owner);
        else
            assert_false(free_run_exists(1, 1));
        break;
    case 1:
        if (page_allocate_level(owner, LEVEL_2M, &page) == OK)
            take(page, LARGE, owner);
        else
            assert_false(free_run_exists(LARGE, LARGE));
        break;
    case 2:
        if (any(8) == 0)
            count += any(LARGE); /* into the next block */
        if (pages_allocate(owner, count, 4, &page) == OK)
            take(page, count, owner);
        else
            assert_false(free_run_exists(count, 4));
        break;
    default:
        count = pages_allocate_some(owner, some, (u32)count);
        for (u64 i = 0; i < count; i++)
            take(some[i], 1, owner);
    }
}

static void free_any(void)
{
    if (!given_count)
        return;
    u32 which = (u32)any(given_count);
    u64 index = given[which].index, count = given[which].count;
    enum page_owner owner = owners[index];
    if (count == LARGE) {
        assert_true(page_is_owned(at(index), LEVEL_2M, owner));
        if (any(2)) {
            page_set_owner_level(at(index), LEVEL_2M, PAGE_SHARED);
            assert_true(page_is_owned(at(index), LEVEL_2M, PAGE_SHARED));
            page_set_owner(at(index + any(LARGE)), PAGE_EXTERNAL);
            assert_false(page_is_owned(at(index), LEVEL_2M, PAGE_SHARED));
        }
        page_free_level(at(index), LEVEL_2M);
    } else {
        for (u64 i = 0; i < count; i++)
            assert_int_equal(page_owner(at(index + i)), owner);
        if (any(2))
            pages_free(at(index), count);
        else
            for (u64 i = 0; i < count; i++)
                pages_free_some((hpa_t[]){at(index + i)}, 1);
    }
    memset(&owners[index], PAGE_FREE, count);
    given[which] = given[--given_count];
}

static void any_order_of_calls_agrees_with_a_list_of_owners(void **state)
{
    (void)state;
    struct pages_stats before = statistics();
    seed = 20240229;
    given_count = 0;
    hpa_t page;
    /* Learn which pages are there, and leave the rest out of the list. */
    memset(owners, 0xff, sizeof owners);
    while (page_allocate(PAGE_VMM, &page) == OK)
        owners[(page.raw - HOST_MEMORY_START) / PAGE_BYTES] = PAGE_FREE;
    for (u64 i = 0; i < PAGES; i++)
        if (owners[i] == PAGE_FREE)
            page_free(at(i));
    for (u32 i = 0; i < OPERATIONS; i++) {
        /* Now fuller, now emptier. */
        if (any(100) < (i / 2000 % 2 ? 35 : 60) && given_count + 8 < GIVEN_MAX)
            allocate_any();
        else
            free_any();
    }
    while (given_count)
        free_any();
    struct pages_stats after = statistics();
    assert_memory_equal(&before, &after, sizeof before);
}

static void single_pages_leave_whole_blocks_alone(void **state)
{
    (void)state;
    hpa_t large[16], page, small[LARGE];
    u32 count = 0, again = 0;
    while (page_allocate_level(PAGE_PRIVATE, LEVEL_2M, &large[count]) == OK)
        count++;
    assert_true(count >= 7);
    for (u32 i = 0; i < count; i++)
        page_free_level(large[i], LEVEL_2M);
    /* One is broken, and all single pages come from it and from the ends. */
    for (u32 i = 0; i < LARGE; i++)
        assert_int_equal(page_allocate(PAGE_PRIVATE, &small[i]), OK);
    while (page_allocate_level(PAGE_PRIVATE, LEVEL_2M, &page) == OK)
        large[again++] = page;
    assert_true(again >= count - 1);
    for (u32 i = 0; i < LARGE; i++)
        page_free(small[i]);
    while (again)
        page_free_level(large[--again], LEVEL_2M);
    while (page_allocate_level(PAGE_PRIVATE, LEVEL_2M, &page) == OK)
        large[again++] = page;
    assert_int_equal(again, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_page_is_given_once_and_comes_back, setup),
        cmocka_unit_test_setup(what_was_freed_into_a_full_zone_is_found_again, setup),
        cmocka_unit_test_setup(a_hidden_page_is_allocated_and_freed_untouched, setup),
        cmocka_unit_test_setup(a_run_is_contiguous_aligned_and_free, setup),
        cmocka_unit_test_setup(a_zeroed_page_is_zeroed_though_it_was_dirty, setup),
        cmocka_unit_test_setup(a_wrong_free_panics, setup),
        cmocka_unit_test_setup(any_order_of_calls_agrees_with_a_list_of_owners, setup),
        cmocka_unit_test_setup(single_pages_leave_whole_blocks_alone, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
