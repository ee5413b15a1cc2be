/* SPDX-License-Identifier: MIT */
#include "tdx/spans.h"

#include <stdlib.h>

#include "tests/host/cmocka.h"

#define UNIVERSE 64

static u64 bits_of(const struct span_list *list)
{
    u64 bits = 0;
    for (u32 i = 0; i < list->count; i++) {
        assert_true(list->spans[i].start < list->spans[i].end);
        /* Ascending, disjoint, not touching. */
        assert_true(i == 0 || list->spans[i].start > list->spans[i - 1].end);
        for (u64 at = list->spans[i].start; at < list->spans[i].end; at++)
            bits |= 1ull << at;
    }
    return bits;
}

static u64 random_fill(struct span_list *list)
{
    u64 bits = 0;
    spans_clear(list);
    for (int n = rand() % 12; n > 0; n--) {
        u64 start = (u64)rand() % UNIVERSE, end = start + (u64)rand() % (UNIVERSE - start);
        assert_true(spans_insert(list, start, end));
        for (u64 at = start; at < end; at++)
            bits |= 1ull << at;
    }
    return bits;
}

/* Against sets of bits, many times. */
static void lists_are_the_sets_that_they_stand_for(void **state)
{
    (void)state;
    static struct span_list a, b, out;
    srand(1);
    for (u32 round = 0; round < 5000; round++) {
        u64 in_a = random_fill(&a), in_b = random_fill(&b);
        assert_int_equal(bits_of(&a), in_a);
        assert_int_equal(spans_bytes(&a), __builtin_popcountll(in_a));
        assert_true(spans_intersect(&out, &a, &b));
        assert_int_equal(bits_of(&out), in_a & in_b);
        assert_true(spans_complement(&out, &a, (struct span){8, 56}));
        assert_int_equal(bits_of(&out), ~in_a & 0x00ffffffffffff00);
        u64 start = (u64)rand() % UNIVERSE;
        assert_int_equal(spans_overlap(&a, (struct span){start, start + 1}), in_a >> start & 1);
    }
}

static void a_full_list_says_so(void **state)
{
    (void)state;
    static struct span_list list;
    spans_clear(&list);
    for (u64 i = 0; i < SPANS_MAX; i++)
        assert_true(spans_append(&list, 4 * i, 4 * i + 1));
    assert_false(spans_append(&list, 4 * SPANS_MAX, 4 * SPANS_MAX + 1));
    assert_false(spans_insert(&list, 2, 3));
    assert_int_equal(list.count, SPANS_MAX);
    assert_true(spans_insert(&list, 1, 4));
    assert_int_equal(list.count, SPANS_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_the_sets_that_they_stand_for),
        cmocka_unit_test(a_full_list_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
