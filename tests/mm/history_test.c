/* SPDX-License-Identifier: MIT */
/*
 * Every operation of the mirror, looked at store by store (history.h): as it should be, and with
 * each call to the owner of the external table refused or busy. Without leaves of 1 GiB: what is
 * done for them is the same a level below, and a walk after each store would be too long.
 */
#include "tests/mm/history.h"

#include "tests/host/cmocka.h"

#include <stdio.h>

#include "tests/mm/scenarios.h"

static u64 stores;

static void watched_begin(const struct scenario *scenario)
{
    scenario_begin(scenario);
    history_begin(&model, PAGES, scenario->name);
}

static void watched_end(void)
{
    history_end();
    stores += history_stores();
    model_calm(&model);
    model_check(&model);
    model_destroy(&model);
}

static void every_step_of_every_operation_can_be_walked(void **state)
{
    (void)state;
    for (u32 i = 0; i < SCENARIOS; i++) {
        if (scenario_is_huge(&scenarios[i]))
            continue;
        watched_begin(&scenarios[i]);
        assert_int_equal(scenarios[i].operation(), OK);
        /* At the least one that freezes and one that publishes; if none, nothing is looked at. */
        assert_true(history_stores() >= 2);
        watched_end();
    }
}

static void fail_one(const struct scenario *scenario, enum model_op op, u32 nth,
                     enum failure failure)
{
    watched_begin(scenario);
    scenario_fail(op, nth, failure);
    (void)!scenario->operation();
    model_calm(&model);
    assert_int_equal(scenario->operation(), OK);
    watched_end();
}

static void so_can_every_step_where_a_call_fails(void **state)
{
    (void)state;
    for (u32 i = 0; i < SCENARIOS; i++)
        if (!scenario_is_huge(&scenarios[i]))
            scenario_failures(&scenarios[i], fail_one);
    printf("%llu stores\n", (unsigned long long)stores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_every_operation_can_be_walked),
        cmocka_unit_test(so_can_every_step_where_a_call_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
