/* SPDX-License-Identifier: MIT */
/*
 * Every operation of the mirror, at every size of page; each call that it makes to the owner of the
 * external table fails in turn, in each way; then each allocation. After each failure both tables
 * agree, pages add up, what was mapped still is or is told, and the same operation asked again
 * ends as if nothing had failed.
 */
#include "tests/mm/scenarios.h"

#include "tests/host/cmocka.h"

#include <stdio.h>
#include <string.h>

#include "tests/host/machine.h"

static void ending_check(const struct scenario *scenario)
{
    const struct mirror_stats *stats = &model.mirror.stats;
    model_calm(&model);
    model_check(&model);
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS; level++)
        if (stats->leaves[level] != scenario->ending.leaves[level])
            fail_msg("%s: %llu leaves of level %u, not %llu", scenario->name,
                     (unsigned long long)stats->leaves[level], level,
                     (unsigned long long)scenario->ending.leaves[level]);
    if (stats->tables != scenario->ending.tables)
        fail_msg("%s: %llu tables, not %llu", scenario->name, (unsigned long long)stats->tables,
                 (unsigned long long)scenario->ending.tables);
}

/* Every frame that the external table maps is found in the mirror, unless it is blocked there. */
static void mapped_check(void)
{
    for (u32 i = 0; i < MODEL_ENTRIES_MAX; i++) {
        const struct model_entry *entry = &model.entries[i];
        if (!entry->used || entry->state == EXTERNAL_TABLE)
            continue;
        hpa_t found = mirror_lookup(&model.mirror, entry->frame, NULL);
        bool blocked = entry->blocked;
        for (enum level above = entry->level + 1; above <= LEVEL_1G; above++) {
            gfn_t start = gfn(align_down(entry->frame.raw, level_pages(above)));
            const struct model_entry *table = model_entry_find(&model, start, above);
            blocked |= table && table->blocked;
        }
        if (blocked)
            assert_true(hpa_is_none(found));
        else
            assert_int_equal(found.raw, entry->page.raw);
    }
}

static void every_operation_ends_as_it_should(void **state)
{
    (void)state;
    for (u32 i = 0; i < SCENARIOS; i++) {
        scenario_begin(&scenarios[i]);
        assert_int_equal(scenarios[i].operation(), OK);
        if (model.mirror.stats.tracks != scenarios[i].tracks)
            fail_msg("%s: %llu tracks, not %u", scenarios[i].name,
                     (unsigned long long)model.mirror.stats.tracks, scenarios[i].tracks);
        ending_check(&scenarios[i]);
        mapped_check();
        /* Asked again: nothing to do. */
        assert_int_equal(scenarios[i].operation(), OK);
        ending_check(&scenarios[i]);
        model_destroy(&model);
    }
}

static bool op_is_change(enum model_op op)
{
    return op == OP_BLOCK || op == OP_TRACK || op == OP_REMOVE || op == OP_UNLINK ||
           op == OP_DEMOTE || op == OP_PROMOTE;
}

static void fail_one(const struct scenario *scenario, enum model_op op, u32 nth,
                     enum failure failure)
{
    scenario_begin(scenario);
    u64 mapped = mirror_private_pages(&model.mirror);
    scenario_fail(op, nth, failure);
    enum error error = scenario->operation();
    /* One busy answer is got over inside where a guest could not ask again. */
    enum error wanted = failure == REFUSED                         ? ERR_REFUSED
                        : failure == BUSY_ONCE && op_is_change(op) ? OK
                                                                   : ERR_BUSY;
    if (error != wanted)
        fail_msg("%s, op %u, call %u, failure %u: error %u, not %u", scenario->name, op, nth,
                 failure, error, wanted);
    model_calm(&model);
    model_check(&model);
    mapped_check();
    if (op == OP_SET || op == OP_LINK || op == OP_ADD || op == OP_DEMOTE || op == OP_PROMOTE ||
        op == OP_UNLINK || op == OP_TRACK)
        assert_true(!error || mirror_private_pages(&model.mirror) == mapped);
    assert_int_equal(scenario->operation(), OK);
    ending_check(scenario);
    mapped_check();
    model_destroy(&model);
}

static void every_call_fails_in_turn(void **state)
{
    (void)state;
    for (u32 i = 0; i < SCENARIOS; i++)
        scenario_failures(&scenarios[i], fail_one);
}

/* The way back fails as well: what stays blocked is told as such, and a later call takes it up. */
static void every_way_back_fails(void **state)
{
    (void)state;
    static const enum model_op ops[] = {OP_REMOVE, OP_UNLINK, OP_DEMOTE, OP_PROMOTE};
    static struct mirror_ops stubborn;
    stubborn = model_ops;
    stubborn.unblock = NULL;
    for (u32 i = 0; i < SCENARIOS; i++) {
        for (u32 k = 0; k < ARRAY_LENGTH(ops); k++) {
            scenario_begin(&scenarios[i]);
            model.mirror.ops = &stubborn;
            model_fail(&model, ops[k], 1, 1, ERR_REFUSED);
            bool failed = scenarios[i].operation() != OK;
            assert_int_equal(failed, model.calls[ops[k]] == 1);
            model_calm(&model);
            model_check(&model);
            mapped_check();
            model.mirror.ops = &model_ops;
            assert_int_equal(scenarios[i].operation(), OK);
            ending_check(&scenarios[i]);
            model_destroy(&model);
        }
    }
}

/* Memory for `left` pages more, and not one in the caches. */
static u64 exhaust(hpa_t *held, u64 left)
{
    u64 count = 0;
    vcpu_caches_drain(&model.caches);
    while (page_allocate(PAGE_VMM, &held[count]) == OK)
        count++;
    for (u64 i = 0; i < left; i++)
        page_free(held[--count]);
    return count;
}

static void every_allocation_fails_in_turn(void **state)
{
    (void)state;
    static hpa_t held[PAGES];
    for (u32 i = 0; i < SCENARIOS; i++) {
        const struct scenario *scenario = &scenarios[i];
        if (scenario_is_huge(scenario))
            continue; /* the same calls, with too much memory to take away in a short time */
        enum error error = ERR_NO_MEMORY;
        for (u64 left = 0; error; left++) {
            model_create(&model, PAGES);
            scenario->before();
            u64 mapped = mirror_private_pages(&model.mirror);
            u64 count = exhaust(held, left);
            model_calm(&model);
            error = scenario->operation();
            assert_true(error == OK || error == ERR_NO_MEMORY);
            model_calm(&model);
            model_check(&model);
            mapped_check();
            if (error)
                assert_int_equal(mirror_private_pages(&model.mirror), mapped);
            while (count)
                page_free(held[--count]);
            assert_int_equal(scenario->operation(), OK);
            ending_check(scenario);
            model_destroy(&model);
            assert_true(left < 2048);
        }
    }
}

static void a_promotion_of_pages_that_do_not_fit_is_none(void **state)
{
    (void)state;
    model_create(&model, PAGES);
    small_row();
    /* Accepted in part. */
    model_accept(&model, gfn(START + 100));
    assert_true(mirror_can_promote(&model.mirror, gfn(START), LEVEL_2M));
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_STATE);
    model_check(&model);
    mapped_check();
    /* The same, with no way back: that is not "nothing changed". */
    model_fail(&model, OP_UNBLOCK, 1, 1, ERR_REFUSED);
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_REFUSED);
    assert_true(hpa_is_none(mirror_lookup(&model.mirror, gfn(START), NULL)));
    model_calm(&model);
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_STATE);
    assert_false(hpa_is_none(mirror_lookup(&model.mirror, gfn(START), NULL)));
    model_check(&model);
    for (u64 i = 0; i < LARGE; i++)
        model_accept(&model, gfn(START + i));
    /* One elsewhere. */
    hpa_t page = mirror_lookup(&model.mirror, gfn(START + 511), NULL);
    assert_int_equal(remove_frames(START + 511, START + 512), OK);
    assert_false(mirror_can_promote(&model.mirror, gfn(START), LEVEL_2M));
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_STATE);
    hpa_t other;
    assert_int_equal(page_allocate(PAGE_PRIVATE, &other), OK);
    if (other.raw == page.raw)
        assert_int_equal(page_allocate(PAGE_PRIVATE, &other), OK);
    map_at(START + 511, LEVEL_4K, other);
    model_accept(&model, gfn(START + 511));
    assert_false(mirror_can_promote(&model.mirror, gfn(START), LEVEL_2M));
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_STATE);
    assert_int_equal(model.mirror.stats.promoted, 0);
    model_check(&model);
    host_memory_destroy();

    /* In a row, but not where a page of 2 MiB can begin. */
    model_create(&model, PAGES);
    hpa_t first;
    assert_int_equal(pages_allocate(PAGE_PRIVATE, LARGE + 1, LARGE, &first), OK);
    for (u64 i = 0; i < LARGE; i++)
        map_at(START + i, LEVEL_4K, hpa(first.raw + (i + 1) * PAGE_BYTES));
    assert_false(mirror_can_promote(&model.mirror, gfn(START), LEVEL_2M));
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_STATE);
    host_memory_destroy();
}

static void a_large_map_gives_way_to_what_is_there(void **state)
{
    (void)state;
    model_create(&model, PAGES);
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(START + 3), LEVEL_4K), OK);
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(START), LEVEL_2M), ERR_EXISTS);
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(START + LARGE), LEVEL_2M), OK);
    /* Mapped is mapped, at whatever level. */
    enum level level;
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(START + LARGE + 1), LEVEL_4K),
                     OK);
    hpa_t page = mirror_lookup(&model.mirror, gfn(START + LARGE + 1), &level);
    assert_int_equal(level, LEVEL_2M);
    assert_int_equal(page.raw % level_bytes(LEVEL_2M), PAGE_BYTES);
    assert_int_equal(model.calls[OP_SET], 2);
    model_check(&model);
    model_destroy(&model);
}

/* Unknown to the mirror's walk, this is how a block of the whole table looks. */
static void a_table_left_blocked_refuses_maps_and_is_taken_up(void **state)
{
    (void)state;
    static struct mirror_ops stubborn;
    stubborn = model_ops;
    stubborn.unblock = NULL;
    model_create(&model, PAGES);
    small_row();
    model.mirror.ops = &stubborn;
    model_fail(&model, OP_TRACK, 1, 2, ERR_BUSY);
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_2M), ERR_BUSY);
    model_calm(&model);
    model_check(&model);
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(START + 1), LEVEL_4K),
                     ERR_REFUSED);
    /* It cannot be unblocked: the removal says so, and removes nothing. */
    gfn_t done;
    assert_int_equal(
        mirror_remove_range(&model.mirror, &model.caches, gfn(START), gfn(START + 1), &done),
        ERR_REFUSED);
    assert_int_equal(done.raw, START);
    model.mirror.ops = &model_ops;
    assert_int_equal(remove_frames(START, START + 1), OK);
    assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], LARGE - 1);
    model_check(&model);
    model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_ends_as_it_should),
        cmocka_unit_test(every_call_fails_in_turn),
        cmocka_unit_test(every_way_back_fails),
        cmocka_unit_test(every_allocation_fails_in_turn),
        cmocka_unit_test(a_promotion_of_pages_that_do_not_fit_is_none),
        cmocka_unit_test(a_large_map_gives_way_to_what_is_there),
        cmocka_unit_test(a_table_left_blocked_refuses_maps_and_is_taken_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
