/* SPDX-License-Identifier: MIT */
#include "mm/ept.h"

#include "tests/host/cmocka.h"

#include "boot/phys.h"
#include "boot/vmx.h"
#include "tests/host/machine.h"

#define PAGES 1024

static struct ept ept;
static struct vcpu_caches caches;
static struct pages_stats at_start;

static int setup(void **state)
{
    (void)state;
    host_memory_create(PAGES * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + PAGES * PAGE_BYTES));
    pages_statistics(&at_start);
    vcpu_caches_init(&caches, 0);
    assert_int_equal(ept_init(&ept, 48), OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ept_destroy(&ept);
    vcpu_caches_drain(&caches);
    assert_int_equal(ept.leaves, 0);
    assert_int_equal(ept.tables, 0);
    struct pages_stats now;
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    return 0;
}

/* The leaf's word, found the way the processor does. */
static u64 walk(gfn_t frame)
{
    u64 entry = ept_pointer(&ept);
    for (int shift = 27; shift >= 0; shift -= 9) {
        const u64 *table = phys_to_virt(hpa(entry & 0x000ffffffffff000ull));
        entry = table[frame.raw >> shift & 511];
        if (!(entry & EPT_RWX))
            break;
    }
    return entry;
}

static void the_processor_finds_what_was_mapped_and_no_more(void **state)
{
    (void)state;
    gfn_t frame = gfn(1ull << 35 | 0x4321);
    hpa_t page, found;
    assert_int_equal(page_allocate(PAGE_SHARED, &page), OK);
    assert_int_equal(walk(frame), 0);
    assert_int_equal(ept_unmap(&ept, frame, &found), ERR_NOT_FOUND);
    assert_int_equal(ept_map(&ept, &caches, frame, page, EPT_READ | EPT_WRITE), OK);
    assert_int_equal(walk(frame), page.raw | EPT_READ | EPT_WRITE | EPT_TYPE_WB);
    assert_int_equal(walk(gfn(frame.raw + 1)), 0);
    assert_true(hpa_equal(ept_lookup(&ept, frame), page));
    assert_true(hpa_is_none(ept_lookup(&ept, gfn(frame.raw ^ 1ull << 30))));
    assert_int_equal(ept_map(&ept, &caches, frame, hpa(0), EPT_READ), ERR_EXISTS);
    assert_int_equal(ept_map(&ept, &caches, gfn(1ull << 36), page, EPT_READ), ERR_RANGE);
    assert_int_equal(ept_unmap(&ept, frame, &found), OK);
    assert_true(hpa_equal(found, page));
    assert_int_equal(walk(frame), 0);
    assert_int_equal(ept.tables, 3);
    page_free(page);
}

static void destroying_frees_mapped_pages_and_tables(void **state)
{
    (void)state;
    for (u64 i = 0; i < 20; i++) {
        hpa_t page;
        assert_int_equal(page_allocate(PAGE_SHARED, &page), OK);
        assert_int_equal(ept_map(&ept, &caches, gfn(i << 18), page, EPT_RWX), OK);
    }
    assert_int_equal(ept.leaves, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_processor_finds_what_was_mapped_and_no_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(destroying_frees_mapped_pages_and_tables, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
