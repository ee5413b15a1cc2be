/* SPDX-License-Identifier: MIT */
/* SHA-384 against the example values that NIST publishes, whole and in pieces. */
#include "tdx/soft/sha384.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void digest_is(const void *message, size_t len_bytes, const char *expected)
{
    struct sha384 sha;
    u8 digest[SHA384_BYTES];
    char text[2 * SHA384_BYTES + 1];
    sha384_start(&sha);
    sha384_update(&sha, message, len_bytes);
    sha384_finish(&sha, digest);
    for (size_t i = 0; i < SHA384_BYTES; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    text[sizeof text - 1] = 0;
    assert_string_equal(text, expected);
}

static void the_empty_message_has_its_digest(void **state)
{
    (void)state;
    digest_is("", 0,
              "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da"
              "274edebfe76f65fbd51ad2f14898b95b");
}

static void a_short_message_has_its_digest(void **state)
{
    (void)state;
    digest_is("abc", 3,
              "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
              "8086072ba1e7cc2358baeca134c825a7");
}

static void padding_that_needs_a_block_of_its_own_is_right(void **state)
{
    (void)state;
    const char *message = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                          "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    digest_is(message, strlen(message),
              "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712"
              "fcc7c71a557e2db966c3e9fa91746039");
}

static void pieces_of_any_length_give_the_same_digest(void **state)
{
    (void)state;
    u8 message[1000], whole[SHA384_BYTES], pieces[SHA384_BYTES];
    struct sha384 sha;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (u8)(i * 7);
    sha384_start(&sha);
    sha384_update(&sha, message, sizeof message);
    sha384_finish(&sha, whole);
    for (size_t length = 1; length < 300; length += 13) {
        sha384_start(&sha);
        for (size_t at = 0; at < sizeof message; at += length)
            sha384_update(&sha, message + at,
                          length < sizeof message - at ? length : sizeof message - at);
        sha384_finish(&sha, pieces);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_message_has_its_digest),
        cmocka_unit_test(a_short_message_has_its_digest),
        cmocka_unit_test(padding_that_needs_a_block_of_its_own_is_right),
        cmocka_unit_test(pieces_of_any_length_give_the_same_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
