/* SPDX-License-Identifier: MIT */
#include "tdx/soft/td.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void sharers_keep_an_excluder_out_until_the_last_one_leaves(void **state)
{
    (void)state;
    trylock_t lock = 0;
    assert_true(trylock_share(&lock));
    assert_true(trylock_share(&lock));
    trylock_unshare(&lock);
    assert_false(trylock_exclude(&lock));
    trylock_unshare(&lock);
    assert_true(trylock_exclude(&lock));
}

static void an_excluder_keeps_everybody_out(void **state)
{
    (void)state;
    trylock_t lock = 0;
    assert_true(trylock_exclude(&lock));
    assert_false(trylock_share(&lock));
    assert_false(trylock_exclude(&lock));
    trylock_unexclude(&lock);
    assert_true(trylock_share(&lock));
}

static void a_refusal_changes_nothing(void **state)
{
    (void)state;
    trylock_t lock = 0;
    assert_true(trylock_share(&lock));
    assert_false(trylock_exclude(&lock));
    trylock_unshare(&lock);
    assert_int_equal(lock, 0);
    assert_true(trylock_exclude(&lock));
    assert_false(trylock_share(&lock));
    trylock_unexclude(&lock);
    assert_int_equal(lock, 0);
}

static void sharers_are_refused_before_their_number_looks_exclusive(void **state)
{
    (void)state;
    trylock_t lock = 0x7fff;
    assert_false(trylock_share(&lock));
    assert_int_equal(lock, 0x7fff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharers_keep_an_excluder_out_until_the_last_one_leaves),
        cmocka_unit_test(an_excluder_keeps_everybody_out),
        cmocka_unit_test(a_refusal_changes_nothing),
        cmocka_unit_test(sharers_are_refused_before_their_number_looks_exclusive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
