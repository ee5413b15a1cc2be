/* SPDX-License-Identifier: MIT */
#include "mm/caches.h"

#include "tests/host/cmocka.h"

#include "tests/host/machine.h"

static struct vcpu_caches caches;
static struct pages_stats at_start;

static void start(u64 pages)
{
    host_memory_create(pages * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + pages * PAGE_BYTES));
    pages_statistics(&at_start);
    vcpu_caches_init(&caches, 0);
}

static void end(void)
{
    vcpu_caches_drain(&caches);
    struct pages_stats now;
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
}

static void a_cache_under_its_minimum_is_filled_and_no_other(void **state)
{
    (void)state;
    start(512);
    assert_int_equal(vcpu_caches_fill(&caches), OK);
    assert_int_equal(caches.private_pages.count, PAGE_CACHE_CAPACITY);
    /* Three kinds of table and private pages; nothing large, and no metadata. */
    struct caches_stats stats = vcpu_caches_statistics(&caches);
    assert_int_equal(stats.pages, 4 * PAGE_CACHE_CAPACITY);
    assert_int_equal(stats.refills, 4);
    for (u32 i = PAGE_CACHE_CAPACITY; i > PAGE_CACHE_MINIMUM; i--)
        page_free(page_cache_take(&caches.private_pages));
    assert_int_equal(vcpu_caches_fill(&caches), OK);
    assert_int_equal(caches.private_pages.count, PAGE_CACHE_MINIMUM);
    hpa_t page = page_cache_take(&caches.private_pages);
    assert_int_equal(page_owner(page), PAGE_PRIVATE);
    assert_int_equal(vcpu_caches_fill(&caches), OK);
    assert_int_equal(caches.private_pages.count, PAGE_CACHE_CAPACITY);
    assert_int_equal(vcpu_caches_statistics(&caches).refills, 5);
    /* No room: it goes to the allocator. */
    page_cache_return(&caches.private_pages, page);
    assert_int_equal(page_owner(page), PAGE_FREE);
    end();
}

static void pages_are_taken_in_ascending_order(void **state)
{
    (void)state;
    start(512);
    assert_int_equal(page_cache_fill(&caches.private_pages), OK);
    hpa_t first = page_cache_take(&caches.private_pages);
    page_free(first);
    for (u32 i = 1; i < PAGE_CACHE_CAPACITY; i++) {
        hpa_t page = page_cache_take(&caches.private_pages);
        assert_int_equal(page.raw, first.raw + i * PAGE_BYTES);
        page_free(page);
    }
    end();
}

static void without_memory_what_was_there_stays(void **state)
{
    (void)state;
    start(PAGE_CACHE_CAPACITY + 4);
    assert_int_equal(vcpu_caches_fill(&caches), ERR_NO_MEMORY);
    assert_int_equal(caches.mirror_tables.count, PAGE_CACHE_CAPACITY);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_under_its_minimum_is_filled_and_no_other),
        cmocka_unit_test(pages_are_taken_in_ascending_order),
        cmocka_unit_test(without_memory_what_was_there_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
