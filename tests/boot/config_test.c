/* SPDX-License-Identifier: MIT */
#include "boot/config.h"

#include <string.h>

#include "tests/host/cmocka.h"

static struct config config;
static char message[CONFIG_MESSAGE_BYTES];

static enum error parse(const char *text)
{
    return config_parse(text, strlen(text), &config, message);
}

static void a_whole_file_is_understood(void **state)
{
    (void)state;
    assert_int_equal(parse("# two guests\n"
                           "[tain]\n"
                           "strict = no\r\n"
                           "checker = no\n"
                           "module = new\n"
                           "inject = TDH.MEM.PAGE.ADD:3:OPERAND_BUSY\n"
                           "\n"
                           "guests = in turn\n"
                           "[guest one]\n"
                           "  kind = td\n"
                           "kernel=guest/vmlinuz\n"
                           "initrd = guest/initramfs\n"
                           "cmdline = console=ttyS0 a=b\n"
                           "memory = 1G\n"
                           "vcpus = 2\n"
                           "processors = 0, 2 ,3\n"
                           "[guest two]\n"
                           "kernel = hello.bin\n"
                           "[guest three]\n"
                           "kind = vm\n"
                           "kernel = hello.bin"),
                     OK);
    assert_false(config.strict);
    assert_false(config.checker);
    assert_true(config.newer_module);
    assert_int_equal(config.inject_count, 1);
    assert_string_equal(config.inject[0].leaf, "TDH.MEM.PAGE.ADD");
    assert_int_equal(config.inject[0].nth, 3);
    assert_string_equal(config.inject[0].status, "OPERAND_BUSY");
    assert_int_equal(config.guest_count, 3);
    assert_string_equal(config.guests[0].name, "one");
    assert_string_equal(config.guests[0].kernel, "guest/vmlinuz");
    assert_string_equal(config.guests[0].cmdline, "console=ttyS0 a=b");
    assert_int_equal(config.guests[0].memory_bytes, GIB);
    assert_int_equal(config.guests[0].vcpus, 2);
    assert_int_equal(config.guests[0].processor_count, 3);
    assert_int_equal(config.guests[0].processors[1], 2);
    assert_int_equal(config.guests[0].processors[2], 3);
    assert_int_equal(config.guests[1].processor_count, 0);
    assert_true(config.in_turn);
    assert_int_equal(config.guests[1].kind, GUEST_TD);
    assert_int_equal(config.guests[2].kind, GUEST_VM);
    assert_int_equal(config.guests[1].memory_bytes, 256 * MIB);
    assert_int_equal(config.guests[1].vcpus, 1);
}

static void an_empty_file_has_no_guests_and_is_strict(void **state)
{
    (void)state;
    assert_int_equal(parse(""), OK);
    assert_int_equal(config.guest_count, 0);
    assert_true(config.strict);
    assert_true(config.checker);
    assert_false(config.newer_module);
}

/* Each bad text with what its message must say. */
static const struct {
    const char *text, *message;
} bad[] = {
    {"[tain]\nsrtict = yes\n",
     "tain.cfg:2: key 'srtict': expected strict, checker, module, guests, inject or test"},
    {"[tain]\nguests = all\n", "tain.cfg:2: guests 'all': expected together or in turn"},
    {"[guest a]\nprocessors = 1,,2\n",
     "tain.cfg:2: processors '1,,2': expected up to 64 numbers of processors, such as 0, 2, 3"},
    {"[guest a]\nprocessors = 70000\n",
     "tain.cfg:2: processors '70000': expected up to 64 numbers of processors, such as 0, 2, 3"},
    {"strict = yes\n",
     "tain.cfg:1: key 'strict': expected a section, [tain] or [guest NAME], before it"},
    {"[tain]\nstrict\n", "tain.cfg:2: line 'strict': expected KEY = VALUE, [SECTION] or # COMMENT"},
    {"[tain]\nstrict = maybe\n", "tain.cfg:2: strict 'maybe': expected yes or no"},
    {"[tain]\nmodule = 2\n", "tain.cfg:2: module '2': expected 1.5 or new"},
    {"[host]\n", "tain.cfg:1: section '[host]': expected [tain] or [guest NAME]"},
    {"[guest]\n", "tain.cfg:1: section '[guest]': expected [tain] or [guest NAME]"},
    {"[guest a\n", "tain.cfg:1: section '[guest a': expected [tain] or [guest NAME]"},
    {"[guest a]\nmemory = 64M\n",
     "tain.cfg:1: guest 'a': expected a line 'kernel = PATH' in its section"},
    {"[guest a]\nkernel = k\n\n[guest b]\n",
     "tain.cfg:4: guest 'b': expected a line 'kernel = PATH' in its section"},
    {"[guest a]\nkernel = k\n[guest a]\nkernel = k\n",
     "tain.cfg:3: guest 'a': expected a name that no other guest has"},
    {"[guest a]\nkind = pd\n", "tain.cfg:2: kind 'pd': expected td or vm"},
    {"[guest a]\nkernel =\n", "tain.cfg:2: value '': expected some text"},
    {"[guest a]\nmemory = 64\n",
     "tain.cfg:2: memory '64': expected a size of at least 16M, such as 256M or 1G"},
    {"[guest a]\nmemory = 1M\n",
     "tain.cfg:2: memory '1M': expected a size of at least 16M, such as 256M or 1G"},
    {"[guest a]\nmemory = 99999999999999999999G\n",
     "tain.cfg:2: memory '99999999999999999999G': expected a size of at least 16M, such as 256M or "
     "1G"},
    {"[guest a]\nvcpus = 0\n", "tain.cfg:2: vcpus '0': expected a number from 1 to 64"},
    {"[guest a]\nvcpus = 65\n", "tain.cfg:2: vcpus '65': expected a number from 1 to 64"},
    {"[tain]\ninject = TDH.MEM.PAGE.ADD\n",
     "tain.cfg:2: inject 'TDH.MEM.PAGE.ADD': expected LEAF:N:STATUS, such as "
     "TDH.MEM.PAGE.ADD:1:OPERAND_BUSY"},
    {"[tain]\ninject = TDH.MEM.PAGE.ADD:0:OPERAND_BUSY\n",
     "tain.cfg:2: inject 'TDH.MEM.PAGE.ADD:0:OPERAND_BUSY': expected LEAF:N:STATUS, such as "
     "TDH.MEM.PAGE.ADD:1:OPERAND_BUSY"},
};

static void every_error_names_line_and_expectation(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(parse(bad[i].text), ERR_INVALID);
        assert_string_equal(message, bad[i].message);
    }
}

static void too_long_and_too_many_are_refused(void **state)
{
    char text[4096] = "[guest a]\nkernel = ";
    (void)state;
    memset(text + strlen(text), 'k', CONFIG_PATH_BYTES);
    assert_int_equal(parse(text), ERR_INVALID);
    assert_non_null(strstr(message, "expected a shorter text"));

    text[0] = 0;
    for (int i = 0; i <= CONFIG_GUESTS_MAX; i++) {
        char section[] = "[guest a]\nkernel = k\n";
        section[7] = (char)('a' + i);
        strcat(text, section);
    }
    assert_int_equal(parse(text), ERR_INVALID);
    assert_non_null(strstr(message, "expected at most 8 guests"));
}

/* No prefix of a good text reads beyond its end (ASan watches) or crashes. */
static void every_prefix_is_survived(void **state)
{
    static const char text[] = "[tain]\ninject = A:1:B\n[guest x]\nkernel = k\nmemory = 64M\n";
    (void)state;
    for (size_t len = 0; len <= sizeof text - 1; len++) {
        char *copy = test_malloc(len ? len : 1);
        memcpy(copy, text, len);
        enum error error = config_parse(copy, len, &config, message);
        assert_true(error == OK || error == ERR_INVALID);
        assert_true(error == OK || message[0]);
        test_free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_understood),
        cmocka_unit_test(an_empty_file_has_no_guests_and_is_strict),
        cmocka_unit_test(every_error_names_line_and_expectation),
        cmocka_unit_test(too_long_and_too_many_are_refused),
        cmocka_unit_test(every_prefix_is_survived),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
