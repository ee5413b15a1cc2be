/* SPDX-License-Identifier: MIT */
/* ACCEPT of a page of 2 MiB gives way to interrupts, and goes on where it was. */
#include <string.h>

#include "tdx/soft/sept.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"

#define ROOT_LEVEL 3
#define TABLES 0x100000ull
#define LARGE 0x40000000ull
#define GPA 0x200000ull
#define PAGES 512

static const struct soft_platform platform_modelled = {
    .lp_count = 1,
    .package_count = 1,
    .physical_address_bits = 52,
    .memory_address_bits = 46,
    .gpa_bits = 48,
    .keyid_bits = 6,
    .shared_keyids = 32,
    .private_keyids = 32,
};
static struct tdr tdr;
static struct tdcs tdcs;
static const struct td td = {.tdr = &tdr, .tdcs = &tdcs};

/* A TD with one pending page of 2 MiB, whose memory holds ones. */
static void start(void)
{
    assert_int_equal(soft_install(&platform_modelled), OK);
    machine_set_interrupt(false);
    tdcs.eptp = ROOT_LEVEL << 3;
    for (u32 i = 0; i < ARRAY_LENGTH(tdr.tdcx); i++)
        tdr.tdcx[i] = TABLES;
    for (u32 level = ROOT_LEVEL; level > LEVEL_4K; level--) {
        u64 table = TABLES + (ROOT_LEVEL - level) * PAGE_BYTES;
        u64 *entries = seam_page(table);
        sept_table_fill_free(table);
        entries[GPA >> (PAGE_SHIFT + TABLE_SHIFT * level) & (TABLE_ENTRIES - 1)] =
            level == LEVEL_2M ? sept_entry_leaf(LARGE, SEPT_PENDING)
                              : sept_entry_table(table + PAGE_BYTES, SEPT_NL_MAPPED);
    }
    for (u64 i = 0; i < PAGES; i++)
        memset(seam_page(LARGE + i * PAGE_BYTES), 0xff, PAGE_BYTES);
}

static enum sept_accept accept_page(struct sept_walk *walk)
{
    struct tdx_regs regs = {};
    struct leaf leaf;
    leaf_begin(&leaf, &regs);
    enum sept_accept accept = sept_accept(&leaf, &td, GPA, LEVEL_2M, walk);
    leaf_unlock_all(&leaf);
    return accept;
}

static bool page_is_zero(u64 index)
{
    const u8 *bytes = seam_page(LARGE + index * PAGE_BYTES);
    return !bytes[0] && !memcmp(bytes, bytes + 1, PAGE_BYTES - 1);
}

static void it_gets_on_by_a_page_an_execution(void **state)
{
    (void)state;
    struct sept_walk walk;
    start();
    machine_set_interrupt(true);
    for (u64 i = 0; i + 1 < PAGES; i++) {
        assert_int_equal(accept_page(&walk), SEPT_ACCEPT_INTERRUPTED);
        assert_true(page_is_zero(i));
        assert_false(page_is_zero(i + 1));
        /* Nobody but ACCEPT sees how far it is. */
        assert_int_equal(sept_entry_state(walk.value), SEPT_PENDING);
        assert_int_equal(sept_entry_address(walk.value), LARGE);
        assert_int_equal(sept_entry_progress(&walk), i + 1);
    }
    assert_int_equal(accept_page(&walk), SEPT_ACCEPT_DONE);
    assert_true(page_is_zero(PAGES - 1));
    assert_int_equal(*walk.entry, sept_entry_leaf(LARGE, SEPT_MAPPED));
}

/* What is zero already is not zeroed again. */
static void it_goes_on_where_it_was(void **state)
{
    (void)state;
    struct sept_walk walk;
    start();
    machine_set_interrupt(true);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(accept_page(&walk), SEPT_ACCEPT_INTERRUPTED);
    machine_set_interrupt(false);
    memset(seam_page(LARGE), 0xee, PAGE_BYTES);
    assert_int_equal(accept_page(&walk), SEPT_ACCEPT_DONE);
    assert_false(page_is_zero(0));
    for (u64 i = 1; i < PAGES; i++)
        assert_true(page_is_zero(i));
    assert_int_equal(accept_page(&walk), SEPT_ACCEPT_ALREADY);
}

/* Blocked and unblocked, or demoted: it starts anew, and no address is wrong. */
static void a_change_of_the_entry_forgets_how_far_it_was(void **state)
{
    (void)state;
    struct sept_walk walk;
    struct tdx_regs regs = {};
    struct leaf leaf;
    start();
    machine_set_interrupt(true);
    assert_int_equal(accept_page(&walk), SEPT_ACCEPT_INTERRUPTED);
    machine_set_interrupt(false);
    leaf_begin(&leaf, &regs);
    assert_true(sept_walk(&td, GPA, LEVEL_2M, &walk));
    assert_true(sept_entry_lock(&leaf, &walk));
    assert_int_equal(walk.value, sept_entry_leaf(LARGE, SEPT_PENDING));
    sept_entry_set(&walk, walk.value);
    leaf_unlock_all(&leaf);
    assert_int_equal(sept_entry_progress(&walk), 0);
    memset(seam_page(LARGE), 0xee, PAGE_BYTES);
    assert_int_equal(accept_page(&walk), SEPT_ACCEPT_DONE);
    assert_true(page_is_zero(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_gets_on_by_a_page_an_execution),
        cmocka_unit_test(it_goes_on_where_it_was),
        cmocka_unit_test(a_change_of_the_entry_forgets_how_far_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
