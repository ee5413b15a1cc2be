/* SPDX-License-Identifier: MIT */
#include "mm/mirror.h"

#include <pthread.h>
#include <string.h>

#include "boot/phys.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/mm/external_model.h"

#define GPA_BITS 39
#define MEMORY_BYTES (32 * MIB)
#define TABLES_FOR_ONE 3

static struct mirror mirror;
static struct model model;
static struct vcpu_caches caches;
static struct pages_stats before;

/* The allocator is filled once; each test starts with all of it free. */
static int start(void **state)
{
    (void)state;
    pages_statistics(&before);
    vcpu_caches_init(&caches);
    model_reset(&model, &mirror);
    assert_int_equal(mirror_init(&mirror, GPA_BITS, &model_ops, &model), OK);
    host_log_clear();
    return 0;
}

static void audit_passes(void)
{
    char message[AUDIT_MESSAGE_BYTES];
    u32 fail_at = model.fail_at;
    model.fail_at = 0;
    enum error error = mirror_audit(&mirror, message);
    model.fail_at = fail_at;
    if (error)
        fail_msg("audit: %s", message);
    assert_int_equal(model_leaves(&model), mirror.stats.leaves);
    assert_int_equal(model_tables(&model), mirror.stats.tables);
}

/* Ends the mirror, with nothing left anywhere but `leaked` pages. */
static void end_with_leaks(u64 leaked)
{
    struct pages_stats after;
    model.key_free = true;
    assert_int_equal(mirror_destroy(&mirror), leaked ? ERR_REFUSED : OK);
    vcpu_caches_drain(&caches);
    pages_statistics(&after);
    assert_int_equal(after.pages[PAGE_LEAKED] - before.pages[PAGE_LEAKED], leaked);
    assert_int_equal(before.pages[PAGE_FREE] - after.pages[PAGE_FREE], leaked);
    assert_int_equal(model_leaves(&model) + model_tables(&model), leaked);
}

static void end(void)
{
    u64 leaked_before = before.pages[PAGE_LEAKED];
    end_with_leaks(0);
    assert_int_equal(host_hidden_pages(), leaked_before);
}

static void a_mapped_frame_is_in_both_tables(void **state)
{
    (void)state;
    assert_true(hpa_is_none(mirror_lookup(&mirror, gfn(5))));
    assert_int_equal(mirror_map(&mirror, &caches, gfn(5)), OK);
    hpa_t page = mirror_lookup(&mirror, gfn(5));
    assert_true(hpa_equal(page, model_find(&model, 5, LEVEL_4K)->page));
    assert_int_equal(page_owner(page), PAGE_PRIVATE);
    assert_int_equal(mirror.stats.external_taken, TABLES_FOR_ONE);
    audit_passes();
    end();
    assert_int_equal(mirror.stats.external_returned, TABLES_FOR_ONE);
}

static void a_frame_that_is_mapped_already_costs_no_call(void **state)
{
    (void)state;
    assert_int_equal(mirror_map(&mirror, &caches, gfn(5)), OK);
    hpa_t page = mirror_lookup(&mirror, gfn(5));
    assert_int_equal(mirror_map(&mirror, &caches, gfn(5)), OK);
    assert_int_equal(model.calls[MODEL_SET_LEAF], 1);
    assert_true(hpa_equal(page, mirror_lookup(&mirror, gfn(5)))); /* invariant 7 */
    end();
}

static void an_added_page_has_the_sources_content(void **state)
{
    hpa_t source;
    (void)state;
    assert_int_equal(page_allocate(PAGE_VMM, &source), OK);
    memset(phys_to_virt(source), 0x5a, PAGE_BYTES);
    assert_int_equal(mirror_add(&mirror, &caches, gfn(1000), source), OK);
    assert_int_equal(model.calls[MODEL_ADD_LEAF], 1);
    assert_int_equal(model.calls[MODEL_SET_LEAF], 0);
    assert_int_equal(mirror_add(&mirror, &caches, gfn(1000), source), ERR_EXISTS);
    page_free(source);
    audit_passes();
    end();
}

static void frames_out_of_range_are_refused(void **state)
{
    gfn_t done;
    u64 frames = 1ull << (GPA_BITS - PAGE_SHIFT);
    (void)state;
    assert_int_equal(mirror_map(&mirror, &caches, gfn(frames)), ERR_RANGE); /* invariant 9 */
    assert_int_equal(mirror_map(&mirror, &caches, gfn(frames - 1)), OK);
    assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(frames + 1), &done), ERR_RANGE);
    assert_int_equal(mirror_remove_range(&mirror, gfn(2), gfn(1), &done), ERR_RANGE);
    end();
}

static void map_some(void)
{
    /* Around borders of tables, so that ranges cross them. */
    static const u64 frames[] = {0, 1, 510, 511, 512, 513, 262143, 262144, 262145};
    for (u32 i = 0; i < ARRAY_LENGTH(frames); i++)
        assert_int_equal(mirror_map(&mirror, &caches, gfn(frames[i])), OK);
}
#define MAPPED 9

static void a_range_is_removed_with_one_track(void **state)
{
    gfn_t done;
    struct pages_stats stats, after;
    (void)state;
    map_some();
    pages_statistics(&stats);
    assert_int_equal(mirror_remove_range(&mirror, gfn(1), gfn(262144), &done), OK);
    pages_statistics(&after);
    assert_int_equal(done.raw, 262144);
    assert_int_equal(model.calls[MODEL_TRACK], 1);
    assert_int_equal(model.calls[MODEL_BLOCK], 6);
    assert_int_equal(model.calls[MODEL_REMOVE_LEAF], 6);
    assert_int_equal(after.pages[PAGE_FREE] - stats.pages[PAGE_FREE], 6);
    assert_int_equal(mirror.stats.leaves, 3);
    assert_false(hpa_is_none(mirror_lookup(&mirror, gfn(0))));
    assert_true(hpa_is_none(mirror_lookup(&mirror, gfn(511))));
    audit_passes();
    assert_int_equal(mirror_map(&mirror, &caches, gfn(511)), OK);
    audit_passes();
    end();
}

static void an_empty_range_costs_no_call(void **state)
{
    gfn_t done;
    (void)state;
    assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(1 << 20), &done), OK);
    assert_int_equal(model.calls[MODEL_TRACK], 0);
    end();
}

/* Invariants 3, 10, 22: every call of a map, failed in turn, leaves all as it was. */
static void every_failing_call_of_a_map_is_undone(void **state)
{
    static const enum error errors[] = {ERR_BUSY, ERR_REFUSED};
    (void)state;
    for (u32 e = 0; e < ARRAY_LENGTH(errors); e++) {
        for (u32 nth = 1; nth <= TABLES_FOR_ONE + 1; nth++) {
            bool leaf = nth > TABLES_FOR_ONE;
            start(NULL);
            model_fail(&model, leaf ? MODEL_SET_LEAF : MODEL_LINK_TABLE, leaf ? 1 : nth, 1,
                       errors[e]);
            assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), errors[e]);
            assert_int_equal(mirror.stats.tables, nth - 1);
            assert_true(hpa_is_none(mirror_lookup(&mirror, gfn(7))));
            audit_passes();
            assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), OK);
            audit_passes();
            end();
        }
    }
    start(NULL);
    end();
}

/* Every call of a removal, refused in turn: what is not removed is mapped as before. */
static void every_refused_call_of_a_removal_is_undone(void **state)
{
    static const struct {
        enum model_call call;
        u32 calls;
    } kinds[] = {{MODEL_BLOCK, MAPPED}, {MODEL_TRACK, 1}, {MODEL_REMOVE_LEAF, MAPPED}};
    (void)state;
    end();
    for (u32 k = 0; k < ARRAY_LENGTH(kinds); k++) {
        for (u32 nth = 1; nth <= kinds[k].calls; nth++) {
            gfn_t done;
            start(NULL);
            map_some();
            model_fail(&model, kinds[k].call, nth, 1, ERR_REFUSED);
            assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(1 << 20), &done),
                             ERR_REFUSED);
            u64 removed = kinds[k].call == MODEL_TRACK ? 0 : nth - 1;
            assert_int_equal(mirror.stats.leaves, MAPPED - removed);
            if (removed < MAPPED && kinds[k].call != MODEL_TRACK)
                assert_false(hpa_is_none(mirror_lookup(&mirror, done)));
            audit_passes();
            model.fail_at = 0;
            assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(1 << 20), &done), OK);
            assert_int_equal(mirror.stats.leaves, 0);
            audit_passes();
            end();
        }
    }
    start(NULL);
    end();
}

/* Invariant 11. */
static void busy_in_a_removal_is_tried_once_more_with_vcpus_held(void **state)
{
    static const enum model_call calls[] = {MODEL_BLOCK, MODEL_TRACK, MODEL_REMOVE_LEAF};
    gfn_t done;
    (void)state;
    end();
    for (u32 i = 0; i < ARRAY_LENGTH(calls); i++) {
        start(NULL);
        map_some();
        model_fail(&model, calls[i], 1, 1, ERR_BUSY);
        assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(1 << 20), &done), OK);
        assert_int_equal(model.holds, 1);
        assert_int_equal(model.releases, 1);
        audit_passes();
        end();

        start(NULL);
        map_some();
        model_fail(&model, calls[i], 1, 2, ERR_BUSY);
        assert_int_equal(mirror_remove_range(&mirror, gfn(0), gfn(1 << 20), &done), ERR_BUSY);
        assert_int_equal(model.holds, 1);
        assert_false(model.held);
        assert_int_equal(mirror.stats.leaves, MAPPED);
        audit_passes();
        end();
    }
    start(NULL);
    end();
}

/* Invariant 21. */
static void a_page_that_is_not_given_back_is_leaked_and_named(void **state)
{
    (void)state;
    end();
    for (u32 nth = 1; nth <= TABLES_FOR_ONE + 1; nth++) {
        start(NULL);
        assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), OK);
        model_fail(&model, MODEL_RECLAIM, nth, 1, ERR_REFUSED);
        end_with_leaks(1);
        assert_int_equal(mirror.stats.private_leaked + mirror.stats.external_leaked, 1);
        assert_non_null(strstr(host_log(), "is leaked"));
    }
    start(NULL);
    end();
}

/* Invariant 15: without memory nothing is asked of the module. */
static void without_memory_nothing_changes(void **state)
{
    hpa_t all[MEMORY_BYTES / PAGE_BYTES];
    u64 taken = 0;
    (void)state;
    while (page_allocate(PAGE_VMM, &all[taken]) == OK)
        taken++;
    for (u64 keep = 0; keep < 20; keep++) {
        assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), ERR_NO_MEMORY);
        assert_int_equal(model.calls[MODEL_LINK_TABLE], 0);
        vcpu_caches_drain(&caches);
        page_free(all[--taken]);
    }
    while (taken)
        page_free(all[--taken]);
    assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), OK);
    end();
}

static struct vcpu_caches other_caches;
static u32 inside_busy, inside_calls;

/* Another vCPU that faults while the module is being asked. */
static void fault_inside(struct model *m, u64 frame)
{
    void (*inside)(struct model *, u64) = m->inside;
    m->inside = NULL;
    host_cpu_set(1);
    inside_calls++;
    inside_busy += mirror_map(m->mirror, &other_caches, gfn(frame)) == ERR_BUSY;
    assert_true(hpa_is_none(mirror_lookup(m->mirror, gfn(frame))));
    host_cpu_set(0);
    m->inside = inside;
}

/* Invariant 4. */
static void a_walker_that_meets_a_frozen_entry_goes_away(void **state)
{
    (void)state;
    vcpu_caches_init(&other_caches);
    inside_busy = inside_calls = 0;
    model.inside = fault_inside;
    assert_int_equal(mirror_map(&mirror, &caches, gfn(7)), OK);
    assert_int_equal(inside_calls, TABLES_FOR_ONE + 1);
    assert_int_equal(inside_busy, inside_calls);
    assert_int_equal(mirror.stats.races_lost, inside_calls);
    assert_int_equal(model.calls[MODEL_LINK_TABLE], TABLES_FOR_ONE);
    assert_int_equal(model.calls[MODEL_SET_LEAF], 1);
    audit_passes();
    vcpu_caches_drain(&other_caches);
    end();
}

static void the_audit_names_a_corrupted_entry(void **state)
{
    char message[AUDIT_MESSAGE_BYTES];
    (void)state;
    map_some();
    audit_passes();
    assert_int_equal(mirror_corrupt_for_test(&mirror, gfn(3)), ERR_NOT_FOUND);
    assert_int_equal(mirror_corrupt_for_test(&mirror, gfn(511)), OK);
    assert_int_equal(mirror_audit(&mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "GPA 0x1ff000, level 0: the mirror has page"));
    assert_int_equal(mirror_corrupt_for_test(&mirror, gfn(511)), OK);
    audit_passes();
    end();
}

static void the_audit_sees_what_only_the_module_has(void **state)
{
    char message[AUDIT_MESSAGE_BYTES];
    (void)state;
    map_some();
    model_find(&model, 512, LEVEL_4K)->state = EXTERNAL_BLOCKED;
    assert_int_equal(mirror_audit(&mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "GPA 0x200000, level 0"));
    assert_non_null(strstr(message, "the external table has blocked"));
    model_find(&model, 512, LEVEL_4K)->state = EXTERNAL_PENDING;
    model_find(&model, 512, LEVEL_4K)->frame = 514;
    assert_int_equal(mirror_audit(&mirror, message), ERR_STATE);
    model_find(&model, 514, LEVEL_4K)->frame = 512;
    model_fail(&model, MODEL_READ, 1, 1, ERR_REFUSED);
    assert_int_equal(mirror_audit(&mirror, message), ERR_STATE);
    assert_non_null(strstr(message, "cannot be read"));
    audit_passes();
    end();
}

static int memory_make(void **state)
{
    (void)state;
    host_memory_create(MEMORY_BYTES);
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + MEMORY_BYTES));
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mapped_frame_is_in_both_tables),
        TEST(a_frame_that_is_mapped_already_costs_no_call),
        TEST(an_added_page_has_the_sources_content),
        TEST(frames_out_of_range_are_refused),
        TEST(a_range_is_removed_with_one_track),
        TEST(an_empty_range_costs_no_call),
        TEST(every_refused_call_of_a_removal_is_undone),
        TEST(busy_in_a_removal_is_tried_once_more_with_vcpus_held),
        TEST(a_page_that_is_not_given_back_is_leaked_and_named),
        TEST(without_memory_nothing_changes),
        TEST(a_walker_that_meets_a_frozen_entry_goes_away),
        TEST(the_audit_names_a_corrupted_entry),
        TEST(the_audit_sees_what_only_the_module_has),
        cmocka_unit_test(every_failing_call_of_a_map_is_undone),
    };
    return cmocka_run_group_tests_name("mirror", tests, memory_make, NULL);
}
