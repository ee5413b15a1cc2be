/* SPDX-License-Identifier: MIT */
#include "boot/log.h"

#include <stdio.h>
#include <string.h>

#include "tests/host/cmocka.h"

/* Each format must give what the C library gives. */
#define SAME(...)                                                     \
    do {                                                              \
        char ours[128], theirs[128];                                  \
        int our_len = format_string(ours, sizeof ours, __VA_ARGS__);  \
        int their_len = snprintf(theirs, sizeof theirs, __VA_ARGS__); \
        assert_string_equal(ours, theirs);                            \
        assert_int_equal(our_len, their_len);                         \
    } while (0)

static void formats_like_the_c_library(void **state)
{
    (void)state;
    SAME("plain 100%%");
    SAME("%s and %s", "one", "");
    SAME("%-8s|", "ab");
    SAME("%.*s|", 3, "abcdef");
    SAME("%c%c", 'x', 'y');
    SAME("%d %d %d", 0, -1, 2147483647);
    SAME("%d", (int)0x80000000);
    SAME("%lld", (long long)0x8000000000000000);
    SAME("%u %u", 0u, 4294967295u);
    SAME("%llu", 18446744073709551615ull);
    SAME("%x %08x %8x|", 0xabcu, 0xabcu, 0xabcu);
    SAME("%llx %016llx", 0x123456789abcdefull, 0xffull);
    SAME("%#x %#llx %#x %#10x|%#010x", 0x1fu, 0x123456789aull, 0u, 0xabu, 0xabu);
    SAME("%lx %lu", 5ul, 6ul);
    SAME("%5d|%05d|%5u", -42, -42, 7u);
    SAME("%p", (void *)0x1234);
}

static void output_is_cut_at_the_limit_and_its_length_is_told(void **state)
{
    char out[6] = "zzzzz";
    (void)state;
    assert_int_equal(format_string(out, 5, "%s", "abcdefgh"), 8);
    assert_string_equal(out, "abcd");
    assert_int_equal(out[5], 0);
    assert_int_equal(format_string(out, 1, "abc"), 3);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_like_the_c_library),
        cmocka_unit_test(output_is_cut_at_the_limit_and_its_length_is_told),
    };
    return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
