/* SPDX-License-Identifier: MIT */
/*
 * Random walks of the driver and the mirror, the software module behind them, against a simple
 * reference. A walk that fails is made as short as it gets and printed.
 *
 *    walks [--seed N] [--operations N]    other walks, or more of them
 *    walks --replay FILE                  the operations in the file, as they are printed
 */
#include <stdlib.h>
#include <string.h>

#include "boot/error.h"
#include "tests/host/cmocka.h"
#include "tests/tdx/walk.h"

#define SHRINK_S 120

static u64 seed = 1;
static u32 operations = 1000000;
static const char *replay_path;
static struct walk_progress met;

static void walk_report(struct walk_op *ops, u32 count)
{
    struct walk_progress progress;
    fprintf(stderr, "walks: the walk fails at operation %u; looking for a shorter one\n", count);
    count = walk_shrink(ops, count, SHRINK_S);
    fprintf(stderr, "walks: %u operations are left (walks --replay FILE takes these lines):\n",
            count);
    for (u32 i = 0; i < count; i++)
        walk_op_print(stderr, &ops[i]);
    if (walk_survives(ops, count, true, &progress))
        fprintf(stderr, "walks: it does not fail every time\n");
}

static void progress_add(const struct walk_progress *progress)
{
    for (u32 kind = 0; kind < WALK_KINDS; kind++)
        for (u32 error = 0; error < WALK_ERRORS_LIMIT; error++)
            met.ends[kind][error] += progress->ends[kind][error];
    met.accepted_large += progress->accepted_large;
    met.refusals += progress->refusals;
}

static bool chapter_run(u64 number)
{
    static struct walk_op ops[WALK_CHAPTER];
    struct walk_random random = {.state = seed * 0x100000001b3 + number};
    struct walk_progress progress;
    u64 first = number * WALK_CHAPTER;
    u32 count = operations - first < WALK_CHAPTER ? (u32)(operations - first) : WALK_CHAPTER;
    walk_pamt_is_dynamic = number % 2;
    for (u32 i = 0; i < count; i++)
        walk_op_generate(&random, &ops[i]);
    if (walk_survives(ops, count, true, &progress)) {
        progress_add(&progress);
        return true;
    }
    fprintf(stderr, "walks: seed %llu, chapter %llu, %s PAMT\n", (unsigned long long)seed,
            (unsigned long long)number, walk_pamt_is_dynamic ? "dynamic" : "static");
    walk_report(ops, progress.begun);
    return false;
}

static void met_print(void)
{
    for (u32 kind = 0; kind < WALK_KINDS; kind++) {
        u32 failed = 0;
        for (u32 error = 1; error < WALK_ERRORS_LIMIT; error++)
            failed += met.ends[kind][error];
        if (met.ends[kind][OK] + failed)
            print_message("walks: %8s: %u went well, %u without memory, %u others not\n",
                          walk_kind_name((enum walk_kind)kind), met.ends[kind][OK],
                          met.ends[kind][ERR_NO_MEMORY], failed - met.ends[kind][ERR_NO_MEMORY]);
    }
    print_message("walks: %u large pages accepted, %u calls refused\n", met.accepted_large,
                  met.refusals);
}

static void every_operation_does_what_the_reference_allows(void **state)
{
    (void)state;
    print_message("walks: seed %llu, %u operations\n", (unsigned long long)seed, operations);
    for (u64 i = 0; i * WALK_CHAPTER < operations; i++)
        assert_true(chapter_run(i));
    met_print();
    /* A walk that never meets what it is for shows nothing. */
    if (operations >= 20 * WALK_CHAPTER) {
        assert_true(met.accepted_large > 0 && met.refusals > 0);
        assert_true(met.ends[WALK_PROMOTE][OK] > 0 && met.ends[WALK_DEMOTE][OK] > 0);
        assert_true(met.ends[WALK_MAP][ERR_NO_MEMORY] > 0);
    }
}

static void the_walk_in_the_file_does_what_the_reference_allows(void **state)
{
    (void)state;
    static struct walk_op ops[WALK_CHAPTER];
    char line[128];
    struct walk_progress progress;
    u32 count = 0;
    FILE *file = fopen(replay_path, "r");
    assert_non_null(file);
    while (count < WALK_CHAPTER && fgets(line, sizeof line, file))
        if (walk_op_parse(line, &ops[count]))
            count++;
    fclose(file);
    assert_true(walk_survives(ops, count, true, &progress));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest walks[] = {
        cmocka_unit_test(every_operation_does_what_the_reference_allows),
    };
    const struct CMUnitTest replay[] = {
        cmocka_unit_test(the_walk_in_the_file_does_what_the_reference_allows),
    };
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--operations") == 0)
            operations = (u32)strtoul(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--dynamic-pamt") == 0)
            walk_pamt_is_dynamic = strcmp(argv[i + 1], "yes") == 0;
        else if (strcmp(argv[i], "--replay") == 0)
            replay_path = argv[i + 1];
    }
    return replay_path ? cmocka_run_group_tests(replay, NULL, NULL)
                       : cmocka_run_group_tests(walks, NULL, NULL);
}
