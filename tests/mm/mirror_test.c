/* SPDX-License-Identifier: MIT */
/* Numbers are those of the mirror's invariants, in LOCKS.md. */
#include "tests/mm/external_model.h"

#include "tests/host/cmocka.h"

#include <string.h>

#include "tests/host/machine.h"

#define PAGES 4096

static struct model model;
static const gfn_t frame = {0x12345};

static int setup(void **state)
{
    (void)state;
    model_create(&model, PAGES);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_destroy(&model);
    return 0;
}

static void a_map_links_tables_from_the_top_then_the_leaf(void **state)
{
    (void)state;
    assert_int_equal(mirror_map(&model.mirror, &model.caches, frame, LEVEL_4K), OK);
    const enum model_op wanted[] = {OP_LINK, OP_LINK, OP_LINK, OP_SET};
    assert_int_equal(model.history_len, 4);
    assert_memory_equal(model.history, wanted, sizeof wanted);
    hpa_t page = model_entry_find(&model, frame, LEVEL_4K)->page;
    assert_true(hpa_equal(mirror_lookup(&model.mirror, frame, NULL), page));
    model_check(&model);
    /* Invariant 7: mapped already is not mapped again. */
    assert_int_equal(mirror_map(&model.mirror, &model.caches, frame, LEVEL_4K), OK);
    assert_int_equal(model.history_len, 4);
    assert_true(hpa_equal(mirror_lookup(&model.mirror, frame, NULL), page));
}

static void an_add_of_a_mapped_frame_is_refused_invariant_7(void **state)
{
    (void)state;
    hpa_t source = hpa(HOST_MEMORY_START);
    assert_int_equal(mirror_add(&model.mirror, &model.caches, frame, source), OK);
    assert_int_equal(mirror_add(&model.mirror, &model.caches, frame, source), ERR_EXISTS);
    assert_int_equal(model.calls[OP_ADD], 1);
    model_check(&model);
}

static void a_frame_with_the_shared_bit_is_out_of_range_invariant_9(void **state)
{
    (void)state;
    gfn_t done, shared = gfn(1ull << (MODEL_GPA_BITS - PAGE_SHIFT));
    assert_int_equal(mirror_map(&model.mirror, &model.caches, shared, LEVEL_4K), ERR_RANGE);
    assert_int_equal(
        mirror_remove_range(&model.mirror, &model.caches, gfn(0), gfn(shared.raw + 1), &done),
        ERR_RANGE);
    assert_true(hpa_is_none(mirror_lookup(&model.mirror, shared, NULL)));
    assert_int_equal(model.history_len, 0);
}

static u32 looks;

/* Another processor that faults on the frame while its entry is frozen. */
static void fault_inside(struct model *inner, gfn_t at)
{
    struct vcpu_caches others;
    vcpu_caches_init(&others, 0);
    u32 len = inner->history_len;
    host_cpu_set(1);
    assert_int_equal(mirror_map(&inner->mirror, &others, at, LEVEL_4K), ERR_BUSY);
    host_cpu_set(0);
    assert_int_equal(inner->history_len, len);
    vcpu_caches_drain(&others);
    looks++;
}

static void a_walker_meets_frozen_entries_and_goes_invariants_1_2_4(void **state)
{
    (void)state;
    host_cpu_count_set(2, 1);
    looks = 0;
    model.inside = fault_inside;
    assert_int_equal(mirror_map(&model.mirror, &model.caches, frame, LEVEL_4K), OK);
    model.inside = NULL;
    assert_int_equal(looks, 4);
    assert_int_equal(model.mirror.stats.races_lost, 4);
    model_check(&model);
}

static void map_range(u64 start, u64 count)
{
    for (u64 i = 0; i < count; i++)
        assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(start + i), LEVEL_4K), OK);
}

static void a_removal_blocks_all_tracks_once_removes_all_invariant_17(void **state)
{
    (void)state;
    map_range(510, 4); /* across two tables */
    map_range(1ull << 20, 1);
    model_calm(&model);
    gfn_t done;
    assert_int_equal(
        mirror_remove_range(&model.mirror, &model.caches, gfn(511), gfn(513 + (1 << 19)), &done),
        OK);
    assert_int_equal(done.raw, 513 + (1 << 19));
    const enum model_op wanted[] = {OP_BLOCK,  OP_BLOCK,  OP_BLOCK, OP_TRACK,
                                    OP_REMOVE, OP_REMOVE, OP_REMOVE};
    assert_int_equal(model.history_len, 7);
    assert_memory_equal(model.history, wanted, sizeof wanted);
    assert_true(hpa_is_none(mirror_lookup(&model.mirror, gfn(512), NULL)));
    assert_false(hpa_is_none(mirror_lookup(&model.mirror, gfn(510), NULL)));
    assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], 2);
    model_check(&model);
    map_range(511, 3);
    model_check(&model);
}

/* 512 frames that lie in two tables, on `first` and what is above it, or below it. */
static void map_on(u64 start, hpa_t first, bool descending)
{
    struct page_cache *cache = &model.caches.private_pages;
    cache->minimum = 1;
    for (u64 i = 0; i < 512; i++) {
        assert_int_equal(cache->count, 0);
        cache->pages[cache->count++] = hpa(first.raw + (descending ? 511 - i : i) * PAGE_BYTES);
        map_range(start + i, 1);
    }
    cache->minimum = PAGE_CACHE_MINIMUM;
}

static void neighbours_on_memory_in_a_row_are_one_call(void **state)
{
    (void)state;
    hpa_t first;
    gfn_t done;
    for (u32 descending = 0; descending < 2; descending++) {
        assert_int_equal(pages_allocate(PAGE_PRIVATE, 512, 1, &first), OK);
        map_on(512 + 100, first, descending);
        /* It was left blocked: it is asked for no more, and parts its row. */
        model_fail(&model, OP_TRACK, 1, 2, ERR_BUSY);
        assert_int_equal(
            mirror_remove_range(&model.mirror, &model.caches, gfn(700), gfn(701), &done), ERR_BUSY);
        model_calm(&model);
        assert_int_equal(
            mirror_remove_range(&model.mirror, &model.caches, gfn(512), gfn(2048), &done), OK);
        assert_int_equal(model.calls[OP_BLOCK], 511);
        assert_int_equal(model.calls[OP_REMOVE], 512);
        assert_int_equal(model.rows[OP_BLOCK], descending ? 511 : 3);
        assert_int_equal(model.rows[OP_REMOVE], descending ? 512 : 4);
        assert_int_equal(model.calls[OP_TRACK], 1);
        model_check(&model);
    }
}

static void a_removal_of_nothing_calls_nobody(void **state)
{
    (void)state;
    gfn_t done;
    assert_int_equal(mirror_remove_range(&model.mirror, &model.caches, gfn(0), gfn(1 << 22), &done),
                     OK);
    assert_int_equal(done.raw, 1 << 22);
    assert_int_equal(model.history_len, 0);
}

static void the_audit_names_the_first_difference_invariant_6(void **state)
{
    (void)state;
    char message[AUDIT_MESSAGE_BYTES];
    map_range(16, 4);
    assert_int_equal(mirror_corrupt_for_test(&model.mirror, gfn(99)), ERR_NOT_FOUND);
    assert_int_equal(mirror_corrupt_for_test(&model.mirror, gfn(17)), OK);
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_string_equal(message, "GPA 0x11000, level 0: the mirror's entry is blocked, "
                                 "the external one is pending");
    assert_int_equal(mirror_corrupt_for_test(&model.mirror, gfn(17)), OK);
    model_check(&model);
    assert_int_equal(mirror_audit(&model.mirror, message), OK);
    assert_int_equal(model.mirror.stats.audited_pending, 4);
    assert_int_equal(model.mirror.stats.audited_mapped, 0);

    struct model_entry *entry = model_entry_find(&model, gfn(18), LEVEL_4K);
    entry->page.raw ^= 1ull << 40;
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "GPA 0x12000, level 0: the mirror maps page"));
    entry->page.raw ^= 1ull << 40;
    entry->frame.raw = 77;
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "GPA 0x12000, level 0: the mirror's entry is mapped, "
                                    "the external one is free"));
    entry->frame.raw = 18;
    hpa_t extra;
    assert_int_equal(page_allocate(PAGE_PRIVATE, &extra), OK);
    assert_int_equal(model_ops.set_leaf(&model, &model.caches, gfn(20), LEVEL_4K, extra), OK);
    model_accept(&model, gfn(20));
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_string_equal(message, "GPA 0x14000, level 0: the mirror's entry is absent, "
                                 "the external one is mapped");
    struct entry_row row = {.frame = gfn(20), .level = LEVEL_4K, .count = 1, .page = extra};
    struct entry_row same = row;
    assert_int_equal(model_ops.block(&model, &row), OK);
    assert_int_equal(model_ops.track(&model), OK);
    assert_int_equal(model_ops.remove(&model, &same), OK);
    page_free(extra);
    page_set_owner(entry->page, PAGE_SHARED);
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "GPA 0x12000: page 0x"));
    assert_non_null(strstr(message, "is not owned as 'private'"));
    page_set_owner(entry->page, PAGE_PRIVATE);
    model_fail(&model, OP_READ, 3, 3, ERR_REFUSED);
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "cannot be read"));
    model_calm(&model);
    model.mirror.stats.leaves[LEVEL_4K]++;
    assert_int_equal(mirror_audit(&model.mirror, message), ERR_STATE);
    assert_string_equal(message, "counted 5 leaves of 4 KiB, found 4");
    model.mirror.stats.leaves[LEVEL_4K]--;
}

int main(void)
{
#define MIRROR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(a_map_links_tables_from_the_top_then_the_leaf),
        MIRROR_TEST(an_add_of_a_mapped_frame_is_refused_invariant_7),
        MIRROR_TEST(a_frame_with_the_shared_bit_is_out_of_range_invariant_9),
        MIRROR_TEST(a_walker_meets_frozen_entries_and_goes_invariants_1_2_4),
        MIRROR_TEST(a_removal_blocks_all_tracks_once_removes_all_invariant_17),
        MIRROR_TEST(neighbours_on_memory_in_a_row_are_one_call),
        MIRROR_TEST(a_removal_of_nothing_calls_nobody),
        MIRROR_TEST(the_audit_names_the_first_difference_invariant_6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
