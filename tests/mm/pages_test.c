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

static void a_hidden_page_is_allocated_and_freed_untouched(void **state)
{
    (void)state;
    hpa_t page;
    assert_int_equal(page_allocate(PAGE_EXTERNAL, &page), OK);
    paging_hide_page(page);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_page_is_given_once_and_comes_back, setup),
        cmocka_unit_test_setup(a_hidden_page_is_allocated_and_freed_untouched, setup),
        cmocka_unit_test_setup(a_run_is_contiguous_aligned_and_free, setup),
        cmocka_unit_test_setup(a_zeroed_page_is_zeroed_though_it_was_dirty, setup),
        cmocka_unit_test_setup(a_wrong_free_panics, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
