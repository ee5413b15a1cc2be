/* SPDX-License-Identifier: MIT */
#include "tests/mm/scenarios.h"

#include "tests/host/cmocka.h"

#include <string.h>

#include "tests/host/machine.h"

struct model model;

/* The next map takes this very memory. */
static void put_in_cache(struct page_cache *cache, hpa_t page)
{
    while (cache->count)
        page_free_level(cache->pages[--cache->count], cache->level);
    cache->pages[cache->count++] = page;
}

void map_at(u64 frame, enum level level, hpa_t page)
{
    struct page_cache *cache =
        level == LEVEL_4K ? &model.caches.private_pages : &model.caches.private_large;
    u32 minimum = cache->minimum;
    cache->minimum = 1;
    put_in_cache(cache, page);
    assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(frame), level), OK);
    cache->minimum = minimum;
    assert_int_equal(mirror_lookup(&model.mirror, gfn(frame), NULL).raw, page.raw);
}

/* [START, START + pages) in leaves of `level` on memory in a row. */
static void map_row(u64 pages, enum level level, u64 align_pages)
{
    hpa_t first;
    assert_int_equal(pages_allocate(PAGE_PRIVATE, pages, align_pages, &first), OK);
    for (u64 i = 0; i < pages; i += level_pages(level))
        map_at(START + i, level, hpa(first.raw + i * PAGE_BYTES));
}

static void nothing(void) {}

void small_row(void)
{
    map_row(LARGE, LEVEL_4K, LARGE);
}

static void small_across(void)
{
    for (u64 i = 0; i < 6; i++)
        assert_int_equal(
            mirror_map(&model.mirror, &model.caches, gfn(START + LARGE - 3 + i), LEVEL_4K), OK);
}

static void large_three(void)
{
    map_row(3 * LARGE, LEVEL_2M, LARGE);
}

static void large_row(void)
{
    map_row(HUGE, LEVEL_2M, HUGE);
}

static void huge_one(void)
{
    large_row();
    assert_int_equal(mirror_promote(&model.mirror, gfn(START), LEVEL_1G), OK);
}

static void emptied_table(void)
{
    small_across();
    assert_int_equal(remove_frames(START, START + 3 * LARGE), OK);
}

enum error remove_frames(u64 start, u64 end)
{
    gfn_t done;
    enum error error =
        mirror_remove_range(&model.mirror, &model.caches, gfn(start), gfn(end), &done);
    assert_true(done.raw >= start && done.raw <= end);
    assert_int_equal(done.raw == end, error == OK);
    /* What is told to be gone is gone. */
    for (u64 frame = start; frame < done.raw; frame += frame % LARGE ? 1 : LARGE)
        assert_null(model_leaf_find(&model, gfn(frame)));
    return error;
}

static enum error do_map_small(void)
{
    return mirror_map(&model.mirror, &model.caches, gfn(START + 5), LEVEL_4K);
}
static enum error do_map_large(void)
{
    return mirror_map(&model.mirror, &model.caches, gfn(START + LARGE), LEVEL_2M);
}
static enum error do_add(void)
{
    enum error error =
        mirror_add(&model.mirror, &model.caches, gfn(START + 5), hpa(HOST_MEMORY_START));
    return error == ERR_EXISTS ? OK : error;
}
static enum error do_remove_small(void)
{
    return remove_frames(START + LARGE - 2, START + LARGE + 2);
}
static enum error do_remove_large(void)
{
    return remove_frames(START, START + 3 * LARGE);
}
static enum error do_cut_start(void)
{
    return remove_frames(START + 7, START + 2 * LARGE);
}
static enum error do_cut_end(void)
{
    return remove_frames(START, START + LARGE + 9);
}
static enum error do_cut_both(void)
{
    return remove_frames(START + 7, START + 2 * LARGE + 9);
}
static enum error do_cut_inside(void)
{
    return remove_frames(START + 7, START + 9);
}
static enum error do_demote(void)
{
    return mirror_demote(&model.mirror, &model.caches, gfn(START + 3), LEVEL_4K);
}
static enum error do_promote(void)
{
    return mirror_promote(&model.mirror, gfn(START + 3), LEVEL_2M);
}
static enum error do_promote_huge(void)
{
    return mirror_promote(&model.mirror, gfn(START + 3), LEVEL_1G);
}
static enum error do_demote_one(void)
{
    return mirror_demote(&model.mirror, &model.caches, gfn(START + 3), LEVEL_2M);
}

const struct scenario scenarios[SCENARIOS] = {
    {"map 4 KiB", nothing, do_map_small, {{1, 0, 0}, 3}, 0},
    {"map 2 MiB", nothing, do_map_large, {{0, 1, 0}, 2}, 0},
    {"map 2 MiB beside small ones", small_row, do_map_large, {{LARGE, 1, 0}, 3}, 0},
    {"add", nothing, do_add, {{1, 0, 0}, 3}, 0},
    {"remove small", small_across, do_remove_small, {{2, 0, 0}, 4}, 1},
    {"remove large", large_three, do_remove_large, {{0, 0, 0}, 2}, 1},
    {"cut at the start", large_three, do_cut_start, {{7, 1, 0}, 3}, 2},
    {"cut at the end", large_three, do_cut_end, {{LARGE - 9, 1, 0}, 3}, 2},
    {"cut at both", large_three, do_cut_both, {{7 + LARGE - 9, 0, 0}, 4}, 2},
    {"cut inside", large_three, do_cut_inside, {{LARGE - 2, 2, 0}, 3}, 2},
    {"cut inside 1 GiB", huge_one, do_cut_inside, {{LARGE - 2, 511, 0}, 3}, 3},
    {"demote", large_three, do_demote, {{LARGE, 2, 0}, 3}, 1},
    {"demote 1 GiB by one", huge_one, do_demote_one, {{0, 512, 0}, 2}, 1},
    {"demote 1 GiB by two", huge_one, do_demote, {{LARGE, 511, 0}, 3}, 2},
    {"promote", small_row, do_promote, {{0, 1, 0}, 2}, 1},
    {"promote to 1 GiB", large_row, do_promote_huge, {{0, 0, 1}, 1}, 1},
    {"unlink an empty table", emptied_table, do_promote, {{0, 0, 0}, 3}, 1},
};

bool scenario_is_huge(const struct scenario *scenario)
{
    return scenario->before == large_row || scenario->before == huge_one;
}

void scenario_begin(const struct scenario *scenario)
{
    model_create(&model, scenario_is_huge(scenario) ? HUGE_PAGES : PAGES);
    scenario->before();
    model_calm(&model);
    model.mirror.stats.tracks = 0;
}

/* Of many alike: the first ones, some, and the last. */
static u32 call_after(u32 nth, u32 calls)
{
    if (nth < 3 || nth == calls)
        return nth + 1;
    return nth + 200 < calls ? nth + 200 : calls;
}

void scenario_failures(const struct scenario *scenario,
                       void (*fail_one)(const struct scenario *scenario, enum model_op op, u32 nth,
                                        enum failure failure))
{
    u32 calls[OP_KINDS];
    scenario_begin(scenario);
    assert_int_equal(scenario->operation(), OK);
    memcpy(calls, model.calls, sizeof calls);
    model_destroy(&model);
    for (enum model_op op = 0; op < OP_KINDS; op++) {
        if (op == OP_HOLD || op == OP_RELEASE || op == OP_READ)
            continue;
        for (u32 nth = 1; nth <= calls[op]; nth = call_after(nth, calls[op]))
            for (enum failure failure = 0; failure < FAILURES; failure++)
                fail_one(scenario, op, nth, failure);
    }
}

void scenario_fail(enum model_op op, u32 nth, enum failure failure)
{
    model_fail(&model, op, nth, failure == BUSY_TWICE ? nth + 1 : nth,
               failure == REFUSED ? ERR_REFUSED : ERR_BUSY);
}
