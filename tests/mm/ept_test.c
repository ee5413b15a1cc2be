/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mm/ept.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/host/cmocka.h"

#include "boot/phys.h"
#include "boot/vmx.h"
#include "tests/host/machine.h"

#define PAGES 8192
#define ALL (EPT_FEATURE_2M | EPT_FEATURE_1G | EPT_FEATURE_AD)
#define P2M 512ull
#define P1G (512ull * 512)
/* Behind the host memory: pages that are mapped but that nobody looks at, or frees. */
#define FAR (8 * GIB)

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
    assert_int_equal(ept_init(&ept, 48, ALL), OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ept_destroy(&ept);
    vcpu_caches_drain(&caches);
    for (int i = 0; i < EPT_LEAF_LEVELS; i++)
        assert_int_equal(ept.leaves[i], 0);
    assert_int_equal(ept.tables, 0);
    struct pages_stats now;
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    return 0;
}

/* The leaf's word, found the way the processor does; *shift is its level's. */
static u64 walk_to(gfn_t frame, int *shift)
{
    u64 entry = ept_pointer(&ept);
    for (*shift = 27; *shift >= 0; *shift -= 9) {
        u64 *table = phys_to_virt(hpa(entry & 0x000ffffffffff000ull));
        entry = table[frame.raw >> *shift & 511];
        if (!(entry & EPT_RWX) || (*shift && entry & EPT_LARGE))
            break;
    }
    *shift = *shift < 0 ? 0 : *shift;
    return entry;
}

static u64 walk(gfn_t frame)
{
    int shift;
    return walk_to(frame, &shift);
}

/* The 4 KiB page that the processor finds; 0: none. */
static u64 translate(gfn_t frame)
{
    int shift;
    u64 entry = walk_to(frame, &shift);
    u64 inside = frame.raw & ((1ull << shift) - 1);
    return entry & EPT_RWX ? (entry & 0x000ffffffffff000ull) + inside * PAGE_BYTES : 0;
}

/* What the processor does at an access. */
static void touch(gfn_t frame, u64 flags)
{
    u64 entry = ept_pointer(&ept);
    for (int shift = 27; shift >= 0; shift -= 9) {
        u64 *table = phys_to_virt(hpa(entry & 0x000ffffffffff000ull));
        u64 *slot = &table[frame.raw >> shift & 511];
        entry = *slot;
        *slot |= EPT_ACCESSED;
        if (shift == 0 || entry & EPT_LARGE) {
            *slot |= flags;
            return;
        }
    }
}

static void free_retired(u64 expected)
{
    u64 before = caches.direct_tables.count;
    struct pages_stats old, now;
    pages_statistics(&old);
    hpa_t tables = ept_retired(&ept);
    pages_statistics(&now);
    assert_int_equal(old.pages[PAGE_FREE], now.pages[PAGE_FREE]); /* nothing before the flush */
    ept_free_tables(&ept, tables);
    pages_statistics(&now);
    assert_int_equal(now.pages[PAGE_FREE] - old.pages[PAGE_FREE], expected);
    assert_int_equal(before, caches.direct_tables.count);
    assert_true(hpa_is_none(ept_retired(&ept)));
}

/* Takes [start, end) out, so that what is far is not freed; the pages must be in order from `page`.
 */
static void unmap_all(u64 start, u64 end, enum level level, u64 page)
{
    for (u64 frame = start; frame < end;) {
        hpa_t was;
        enum level found;
        assert_int_equal(ept_unmap(&ept, &caches, gfn(frame), level, &was, &found), OK);
        assert_true(found <= level);
        assert_int_equal(was.raw, page + (frame - start) * PAGE_BYTES);
        assert_int_equal(walk(gfn(frame)), 0);
        frame += level_pages(found);
    }
}

static void the_processor_finds_what_was_mapped_and_no_more(void **state)
{
    (void)state;
    gfn_t frame = gfn(1ull << 35 | 0x4321);
    hpa_t page, found;
    enum level level;
    assert_int_equal(page_allocate(PAGE_SHARED, &page), OK);
    assert_int_equal(walk(frame), 0);
    assert_int_equal(ept_unmap(&ept, &caches, frame, LEVEL_4K, &found, &level), ERR_NOT_FOUND);
    assert_int_equal(level, LEVEL_512G);
    assert_int_equal(ept_map(&ept, &caches, frame, LEVEL_4K, page, EPT_READ | EPT_WRITE), OK);
    assert_int_equal(walk(frame), page.raw | EPT_READ | EPT_WRITE | EPT_TYPE_WB);
    assert_int_equal(walk(gfn(frame.raw + 1)), 0);
    assert_true(hpa_equal(ept_lookup(&ept, frame, &level), page));
    assert_int_equal(level, LEVEL_4K);
    assert_true(hpa_is_none(ept_lookup(&ept, gfn(frame.raw ^ 1ull << 30), &level)));
    assert_int_equal(level, LEVEL_512G);
    assert_true(hpa_is_none(ept_lookup(&ept, gfn(frame.raw + P2M), &level)));
    assert_int_equal(level, LEVEL_2M);
    assert_int_equal(ept_map(&ept, &caches, frame, LEVEL_4K, hpa(0), EPT_READ), ERR_EXISTS);
    assert_int_equal(ept_map(&ept, &caches, gfn(1ull << 36), LEVEL_4K, page, EPT_READ), ERR_RANGE);
    assert_true(hpa_is_none(ept_lookup(&ept, gfn(1ull << 36), NULL)));
    assert_int_equal(ept.tables, 3);
    assert_int_equal(ept_unmap(&ept, &caches, frame, LEVEL_4K, &found, &level), OK);
    assert_true(hpa_equal(found, page));
    assert_int_equal(walk(frame), 0);
    assert_int_equal(ept.tables, 0);
    free_retired(3);
    page_free(page);
}

static void large_leaves_are_mapped_where_nothing_is(void **state)
{
    (void)state;
    u64 base = 3 * P1G;
    enum level level;
    assert_int_equal(ept_map(&ept, &caches, gfn(base), LEVEL_1G, hpa(FAR), EPT_RWX), OK);
    assert_int_equal(walk(gfn(base + 77)), FAR | EPT_RWX | EPT_TYPE_WB | EPT_LARGE);
    assert_int_equal(ept_lookup(&ept, gfn(base + 5 * P2M + 3), &level).raw,
                     FAR + (5 * P2M + 3) * PAGE_BYTES);
    assert_int_equal(level, LEVEL_1G);
    assert_int_equal(ept_map(&ept, &caches, gfn(base + 9), LEVEL_4K, hpa(0), EPT_RWX), ERR_EXISTS);
    assert_int_equal(ept_map(&ept, &caches, gfn(base), LEVEL_2M, hpa(0), EPT_RWX), ERR_EXISTS);
    u64 next = base + P1G;
    assert_int_equal(ept_map(&ept, &caches, gfn(next + P2M), LEVEL_2M, hpa(FAR), EPT_RWX), OK);
    assert_int_equal(walk(gfn(next + P2M + 1)), FAR | EPT_RWX | EPT_TYPE_WB | EPT_LARGE);
    assert_int_equal(walk(gfn(next + P2M - 1)), 0);
    assert_int_equal(walk(gfn(next + 2 * P2M)), 0);
    assert_int_equal(ept_map(&ept, &caches, gfn(next), LEVEL_1G, hpa(FAR), EPT_RWX), ERR_EXISTS);
    assert_int_equal(ept_map(&ept, &caches, gfn(next), LEVEL_4K, hpa(FAR), EPT_RWX), OK);
    assert_int_equal(ept_map(&ept, &caches, gfn(next), LEVEL_2M, hpa(FAR), EPT_RWX), ERR_EXISTS);
    assert_int_equal(ept.leaves[LEVEL_4K], 1);
    assert_int_equal(ept.leaves[LEVEL_2M], 1);
    assert_int_equal(ept.leaves[LEVEL_1G], 1);
    unmap_all(next, next + 1, LEVEL_4K, FAR);
    unmap_all(next + P2M, next + 2 * P2M, LEVEL_2M, FAR);
    unmap_all(base, base + P1G, LEVEL_1G, FAR);
    free_retired(3);
}

static void what_the_processor_cannot_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ept_map(&ept, &caches, gfn(1), LEVEL_2M, hpa(FAR), EPT_RWX), ERR_INVALID);
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_2M, hpa(FAR + 4096), EPT_RWX),
                     ERR_INVALID);
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_512G, hpa(0), EPT_RWX), ERR_UNSUPPORTED);
    assert_int_equal(ept_map(&ept, &caches, gfn(1ull << 36), LEVEL_1G, hpa(0), EPT_RWX), ERR_RANGE);
    assert_int_equal(ept_collapse(&ept, gfn(1ull << 36), LEVEL_2M), ERR_RANGE);
    assert_int_equal(ept_split(&ept, &caches, gfn(1ull << 36), LEVEL_4K), ERR_RANGE);
    assert_int_equal(ept_pointer(&ept), ept.root.raw | EPTP_WB | EPTP_LEVELS_4 | 1u << 6);
    ept.features = 0;
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_2M, hpa(FAR), EPT_RWX), ERR_UNSUPPORTED);
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_1G, hpa(FAR), EPT_RWX), ERR_UNSUPPORTED);
    assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), ERR_UNSUPPORTED);
    assert_int_equal(ept_pointer(&ept), ept.root.raw | EPTP_WB | EPTP_LEVELS_4);
    assert_int_equal(ept_test_and_clear(&ept, gfn(0), gfn(9), EPT_DIRTY, NULL), 0);
    struct ept other;
    assert_int_equal(ept_init(&other, 52, ALL), ERR_UNSUPPORTED);
    /* A space smaller than a large page. */
    ept.features = ALL;
    ept.frames = P2M - 1;
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_2M, hpa(FAR), EPT_RWX), ERR_RANGE);
}

static void unmapping_a_piece_splits_what_is_larger(void **state)
{
    (void)state;
    hpa_t was;
    enum level found, level;
    u64 odd = 5 * P2M + 7;
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_1G, hpa(FAR), EPT_RWX), OK);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(odd), LEVEL_4K, &was, &found), OK);
    assert_int_equal(found, LEVEL_4K);
    assert_int_equal(was.raw, FAR + odd * PAGE_BYTES);
    assert_int_equal(ept.leaves[LEVEL_1G], 0);
    assert_int_equal(ept.leaves[LEVEL_2M], 511);
    assert_int_equal(ept.leaves[LEVEL_4K], 511);
    assert_int_equal(ept.tables, 3);
    for (u64 frame = 0; frame < P1G; frame++)
        assert_int_equal(translate(gfn(frame)), frame == odd ? 0 : FAR + frame * PAGE_BYTES);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(odd), LEVEL_2M, &was, &found), ERR_NOT_FOUND);
    assert_int_equal(found, LEVEL_4K);
    /* A larger piece than there is: what is there. */
    assert_int_equal(ept_unmap(&ept, &caches, gfn(odd + 1), LEVEL_1G, &was, &found), OK);
    assert_int_equal(found, LEVEL_4K);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(9), LEVEL_1G, &was, &found), OK);
    assert_int_equal(found, LEVEL_2M);
    assert_int_equal(was.raw, FAR);
    (void)ept_lookup(&ept, gfn(9), &level);
    assert_int_equal(level, LEVEL_2M);
    unmap_all(P2M, odd, LEVEL_2M, FAR + P2M * PAGE_BYTES);
    unmap_all(odd + 2, P1G, LEVEL_2M, FAR + (odd + 2) * PAGE_BYTES);
    assert_int_equal(ept.tables, 0);
    free_retired(3);
}

static void tables_are_retired_in_any_order_of_removal(void **state)
{
    (void)state;
    hpa_t was;
    enum level found;
    for (u64 step = 1; step < 512; step += 102) { /* odd and even strides, wrapping */
        for (u64 i = 0; i < P2M; i++)
            assert_int_equal(
                ept_map(&ept, &caches, gfn(P1G + i), LEVEL_4K, hpa(FAR + i * PAGE_BYTES), EPT_READ),
                OK);
        u64 stride = step | 1;
        for (u64 i = 0; i < P2M; i++) {
            assert_int_equal(ept.tables, 3);
            assert_int_equal(
                ept_unmap(&ept, &caches, gfn(P1G + i * stride % P2M), LEVEL_4K, &was, &found), OK);
        }
        assert_int_equal(ept.tables, 0);
        free_retired(3);
    }
}

static void a_split_keeps_translations_permissions_and_flags(void **state)
{
    (void)state;
    u64 rights = EPT_READ | EPT_EXECUTE;
    assert_int_equal(ept_split(&ept, &caches, gfn(0), LEVEL_4K), OK); /* absent */
    assert_int_equal(ept_map(&ept, &caches, gfn(P1G), LEVEL_1G, hpa(FAR), rights), OK);
    touch(gfn(P1G + 12345), EPT_DIRTY);
    assert_int_equal(ept_split(&ept, &caches, gfn(P1G + 3), LEVEL_2M), OK);
    assert_int_equal(ept.leaves[LEVEL_2M], 512);
    assert_int_equal(ept_split(&ept, &caches, gfn(P1G + 3), LEVEL_1G), OK);
    assert_int_equal(ept.leaves[LEVEL_2M], 512);
    assert_int_equal(ept_split(&ept, &caches, gfn(P1G + 3), LEVEL_4K), OK);
    assert_int_equal(ept.leaves[LEVEL_2M], 511);
    for (u64 i = 0; i < P1G; i += 37) {
        u64 want = (FAR + i * PAGE_BYTES) | rights | EPT_TYPE_WB | EPT_DIRTY | EPT_ACCESSED;
        if (i >= P2M)
            want = align_down(want, 2 * MIB) | EPT_LARGE | (want & 0xfff);
        assert_int_equal(walk(gfn(P1G + i)), want);
    }
    unmap_all(P1G, 2 * P1G, LEVEL_1G, FAR);
}

static void a_collapse_is_the_inverse_of_a_split(void **state)
{
    (void)state;
    assert_int_equal(ept_map(&ept, &caches, gfn(P1G), LEVEL_1G, hpa(FAR), EPT_RWX), OK);
    for (u64 i = 0; i < P1G; i += P2M)
        assert_int_equal(ept_split(&ept, &caches, gfn(P1G + i), LEVEL_4K), OK);
    touch(gfn(P1G + 3 * P2M + 511), EPT_DIRTY);
    assert_int_equal(ept.tables, 514);
    assert_int_equal(ept_collapse(&ept, gfn(P1G), LEVEL_1G), ERR_STATE);
    for (u64 i = 0; i < P1G; i += P2M)
        assert_int_equal(ept_collapse(&ept, gfn(P1G + i + 9), LEVEL_2M), OK);
    assert_int_equal(walk(gfn(P1G + 2 * P2M)) & (EPT_DIRTY | EPT_ACCESSED), 0);
    assert_int_equal(walk(gfn(P1G + 3 * P2M)) & (EPT_DIRTY | EPT_ACCESSED),
                     EPT_DIRTY | EPT_ACCESSED);
    assert_int_equal(ept_collapse(&ept, gfn(P1G + 1), LEVEL_1G), OK);
    assert_int_equal(walk(gfn(P1G)),
                     FAR | EPT_RWX | EPT_TYPE_WB | EPT_LARGE | EPT_DIRTY | EPT_ACCESSED);
    assert_int_equal(ept_collapse(&ept, gfn(P1G + 1), LEVEL_1G), OK);
    assert_int_equal(ept_collapse(&ept, gfn(P1G + 1), LEVEL_2M), OK);
    assert_int_equal(ept.tables, 1);
    assert_int_equal(ept.leaves[LEVEL_1G], 1);
    free_retired(513);
    unmap_all(P1G, 2 * P1G, LEVEL_1G, FAR);
}

static void map_block(u64 base, u64 page)
{
    for (u64 i = 0; i < P2M; i++)
        assert_int_equal(
            ept_map(&ept, &caches, gfn(base + i), LEVEL_4K, hpa(page + i * PAGE_BYTES), EPT_RWX),
            OK);
}

static void exchange(u64 frame, u64 page, u64 rights)
{
    hpa_t was;
    enum level found;
    assert_int_equal(ept_unmap(&ept, &caches, gfn(frame), LEVEL_4K, &was, &found), OK);
    assert_int_equal(ept_map(&ept, &caches, gfn(frame), LEVEL_4K, hpa(page), rights), OK);
}

static void what_is_not_alike_is_not_collapsed(void **state)
{
    (void)state;
    hpa_t was;
    enum level found;
    assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), OK); /* absent already */
    map_block(0, FAR + PAGE_BYTES);                             /* in order, but not aligned */
    assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), ERR_STATE);
    unmap_all(0, P2M, LEVEL_4K, FAR + PAGE_BYTES);
    map_block(0, FAR);
    const u64 places[] = {0, 1, 255, 511};
    for (u32 i = 0; i < ARRAY_LENGTH(places); i++) {
        u64 at = places[i], right = FAR + at * PAGE_BYTES;
        exchange(at, right, EPT_READ);
        assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), ERR_STATE);
        exchange(at, FAR + 600 * PAGE_BYTES, EPT_RWX);
        assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), ERR_STATE);
        assert_int_equal(ept_unmap(&ept, &caches, gfn(at), LEVEL_4K, &was, &found), OK);
        assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), ERR_STATE);
        assert_int_equal(ept_map(&ept, &caches, gfn(at), LEVEL_4K, hpa(right), EPT_RWX), OK);
    }
    assert_int_equal(ept.leaves[LEVEL_4K], 512);
    assert_int_equal(ept_collapse(&ept, gfn(0), LEVEL_2M), OK);
    unmap_all(0, P2M, LEVEL_2M, FAR);
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    hpa_t was, rest = HPA_NONE, page;
    enum level found;
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_1G, hpa(FAR), EPT_RWX), OK);
    assert_int_equal(ept_map(&ept, &caches, gfn(P1G), LEVEL_2M, hpa(FAR), EPT_RWX), OK);
    vcpu_caches_drain(&caches);
    while (!page_allocate(PAGE_VMM, &page)) {
        page_set_partner(page, rest);
        rest = page;
    }
    assert_int_equal(ept_split(&ept, &caches, gfn(0), LEVEL_4K), ERR_NO_MEMORY);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(5), LEVEL_4K, &was, &found), ERR_NO_MEMORY);
    assert_int_equal(ept_map(&ept, &caches, gfn(2 * P1G), LEVEL_4K, hpa(FAR), EPT_RWX),
                     ERR_NO_MEMORY);
    /* One page is not enough for two splits. */
    page = rest;
    rest = page_partner(rest);
    page_free(page);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(5), LEVEL_4K, &was, &found), ERR_NO_MEMORY);
    assert_int_equal(walk(gfn(5)), FAR | EPT_RWX | EPT_TYPE_WB | EPT_LARGE);
    unmap_all(0, P2M, LEVEL_2M, FAR); /* but for one */
    unmap_all(P1G, P1G + P2M, LEVEL_2M, FAR);
    while (!hpa_is_none(rest)) {
        page = rest;
        rest = page_partner(rest);
        page_free(page);
    }
    unmap_all(P2M, P1G, LEVEL_2M, FAR + P2M * PAGE_BYTES);
}

static void flags_are_told_once_and_for_whole_leaves(void **state)
{
    (void)state;
    u8 map[P1G / 8 + 1] = {0};
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_2M, hpa(FAR), EPT_RWX), OK);
    map_block(P2M, FAR);
    touch(gfn(3), 0);
    touch(gfn(P2M + 8), EPT_DIRTY);
    assert_int_equal(ept_test_and_clear(&ept, gfn(1), gfn(2 * P2M), EPT_DIRTY, map), 1);
    assert_int_equal(map[(P2M + 7) / 8], 1 << (P2M + 7) % 8);
    assert_int_equal(ept_test_and_clear(&ept, gfn(1), gfn(2 * P2M), EPT_DIRTY, NULL), 0);
    /* The large leaf reaches out of the range: told, kept. */
    assert_int_equal(ept_test_and_clear(&ept, gfn(1), gfn(P2M), EPT_ACCESSED, NULL), 511);
    assert_int_equal(ept_test_and_clear(&ept, gfn(0), gfn(9), EPT_ACCESSED, NULL), 9);
    memset(map, 0, sizeof map);
    assert_int_equal(ept_test_and_clear(&ept, gfn(0), gfn(~0ull), EPT_ACCESSED, map), 513);
    for (u64 i = 0; i < P2M; i++)
        assert_true(map[i / 8] & 1 << i % 8);
    assert_int_equal(ept_test_and_clear(&ept, gfn(0), gfn(P2M), EPT_ACCESSED, NULL), 0);
    unmap_all(0, P2M, LEVEL_2M, FAR);
    unmap_all(P2M, 2 * P2M, LEVEL_4K, FAR);
}

static void destroying_frees_mapped_pages_and_tables(void **state)
{
    (void)state;
    hpa_t page;
    for (u64 i = 0; i < 20; i++) {
        assert_int_equal(page_allocate(PAGE_SHARED, &page), OK);
        assert_int_equal(ept_map(&ept, &caches, gfn(i << 18), LEVEL_4K, page, EPT_RWX), OK);
    }
    assert_int_equal(pages_allocate(PAGE_SHARED, P2M, P2M, &page), OK);
    assert_int_equal(ept_map(&ept, &caches, gfn(P2M), LEVEL_2M, page, EPT_RWX), OK);
    assert_int_equal(ept_unmap(&ept, &caches, gfn(0), LEVEL_4K, &page, &(enum level){0}), OK);
    page_free(page); /* its tables stay retired */
    assert_int_equal(ept.leaves[LEVEL_4K], 19);
}

/*
 * The history: physical memory is read-only; each store to it is let through alone, and after it a
 * processor walks. Within [0, watched) every frame must be found where it always was.
 */
static struct {
    bool on;
    u64 watched, stores, wrong;
} history;
static u8 *memory;

static void memory_protect(int protection)
{
    if (mprotect(memory, PAGES * PAGE_BYTES, protection))
        abort();
}

static void on_fault(int number, siginfo_t *information, void *context)
{
    (void)number;
    u8 *address = information->si_addr;
    if (!history.on || address < memory || address >= memory + PAGES * PAGE_BYTES)
        abort();
    memory_protect(PROT_READ | PROT_WRITE);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= 0x100; /* TF: one instruction */
}

static void on_step(int number, siginfo_t *information, void *context)
{
    (void)number;
    (void)information;
    history.stores++;
    for (u64 frame = 0; frame < history.watched; frame += 61)
        history.wrong += translate(gfn(frame)) != FAR + frame * PAGE_BYTES;
    memory_protect(PROT_READ);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
}

static void history_begin(u64 watched)
{
    memory = host_memory_at(HOST_MEMORY_START);
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGSEGV, &fault, NULL), 0);
    assert_int_equal(sigaction(SIGTRAP, &step, NULL), 0);
    history.on = true;
    history.watched = watched;
    history.stores = history.wrong = 0;
    memory_protect(PROT_READ);
}

static u64 history_end(void)
{
    memory_protect(PROT_READ | PROT_WRITE);
    history.on = false;
    assert_int_equal(history.wrong, 0);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGTRAP, SIG_DFL);
    return history.stores;
}

static void no_walk_meets_a_part_of_a_split_or_collapse(void **state)
{
    (void)state;
    hpa_t was;
    enum level found;
    assert_int_equal(ept_map(&ept, &caches, gfn(0), LEVEL_1G, hpa(FAR), EPT_RWX), OK);
    history_begin(P1G);
    enum error split = ept_split(&ept, &caches, gfn(77), LEVEL_4K);
    enum error collapse_2m = ept_collapse(&ept, gfn(77), LEVEL_2M);
    enum error collapse_1g = ept_collapse(&ept, gfn(77), LEVEL_1G);
    assert_in_range(history_end(), 1024 + 4, 1024 + 200);
    assert_int_equal(split, OK);
    assert_int_equal(collapse_2m, OK);
    assert_int_equal(collapse_1g, OK);
    assert_int_equal(ept.leaves[LEVEL_1G], 1);
    /* The neighbours of what is unmapped. */
    history_begin(P1G - P2M);
    enum error unmapped = ept_unmap(&ept, &caches, gfn(P1G - 1), LEVEL_4K, &was, &found);
    assert_in_range(history_end(), 1024 + 3, 1024 + 400);
    assert_int_equal(unmapped, OK);
    unmap_all(0, P1G - 1, LEVEL_1G, FAR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_processor_finds_what_was_mapped_and_no_more),
        TEST(large_leaves_are_mapped_where_nothing_is),
        TEST(what_the_processor_cannot_is_refused),
        TEST(unmapping_a_piece_splits_what_is_larger),
        TEST(tables_are_retired_in_any_order_of_removal),
        TEST(a_split_keeps_translations_permissions_and_flags),
        TEST(a_collapse_is_the_inverse_of_a_split),
        TEST(what_is_not_alike_is_not_collapsed),
        TEST(without_memory_nothing_changes),
        TEST(flags_are_told_once_and_for_whole_leaves),
        TEST(destroying_frees_mapped_pages_and_tables),
        TEST(no_walk_meets_a_part_of_a_split_or_collapse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
