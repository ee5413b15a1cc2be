/* SPDX-License-Identifier: MIT */
/* What a TD may learn about its processor: never more than asked for, never what is hidden. */
#include "boot/machine.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "vmm/cpuid.h"

static const struct cpuid_values everything = {~0u, ~0u, ~0u, ~0u};

static void set_tsc(u64 hz)
{
    static struct machine described;
    described.tsc_hz = hz;
    machine_set(&described);
}

static void features_are_the_machine_s_less_what_is_hidden(void **state)
{
    (void)state;
    /* A machine that has everything. */
    struct cpuid_values seen = cpuid_limit(1, 0, everything);
    assert_int_equal(seen.eax, ~0u);
    assert_int_equal(seen.ebx, 0);
    assert_int_equal(~seen.ecx, 1 << 3 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 18);
    assert_int_equal(seen.edx & 1u << 28, 0); /* HTT */
    seen = cpuid_limit(7, 0, everything);
    /* BMI1, BMI2, ERMS, ADX stay; HLE, RTM, AVX-512F and LA57 go. */
    assert_int_equal(seen.ebx & 0x80308, 0x80308);
    assert_int_equal(seen.ebx & 0xdc230810, 0);
    assert_int_equal(seen.ecx & 1u << 16, 0);
    seen = cpuid_limit(0xa, 0, everything);
    assert_int_equal(seen.eax | seen.ebx | seen.ecx | seen.edx, 0);
    seen = cpuid_limit(2, 0, everything);
    assert_int_equal(seen.eax & seen.ebx & seen.ecx & seen.edx, ~0u);
    /* And this one. */
    struct cpuid_result has = cpuid(1, 0);
    seen = cpuid_configure(1, 0, everything);
    assert_int_equal(seen.eax, has.eax);
    assert_int_equal(seen.ecx & ~has.ecx, 0);
    assert_int_equal(seen.ecx & 1u << 3, 0);
    /* The module spells a leaf without subleaves with all ones: MONITOR stays hidden. */
    seen = cpuid_configure(1, ~0u, everything);
    assert_int_equal(seen.ecx & 1u << 3, 0);
    seen = cpuid_configure(0xa, ~0u, everything);
    assert_int_equal(seen.eax, 0);
}

static void bits_that_are_not_configurable_are_zero(void **state)
{
    (void)state;
    const struct cpuid_values mask = {0x0fff3fff, 0x00ff0000, 0x31044d88, 0xb8440000};
    static const u32 leaves[] = {1, 4, 7, 0xd, 0x15, 0x16, 0x80000008};
    for (u32 i = 0; i < ARRAY_LENGTH(leaves); i++) {
        struct cpuid_values seen = cpuid_configure(leaves[i], 0, mask);
        assert_int_equal(seen.eax & ~mask.eax, 0);
        assert_int_equal(seen.ebx & ~mask.ebx, 0);
        assert_int_equal(seen.ecx & ~mask.ecx, 0);
        assert_int_equal(seen.edx & ~mask.edx, 0);
    }
}

static void the_tsc_runs_in_the_module_s_units(void **state)
{
    (void)state;
    static const u64 rates[][2] = {{10000000, 100000000},
                                   {2995200000, 3000000000},
                                   {2987000000, 2975000000},
                                   {20000000000, 10000000000}};
    for (u32 i = 0; i < ARRAY_LENGTH(rates); i++) {
        set_tsc(rates[i][0]);
        assert_int_equal(cpuid_tsc_hz(), rates[i][1]);
        struct cpuid_values seen = cpuid_configure(0x15, 0, everything);
        assert_int_equal((u64)seen.ecx * seen.ebx / seen.eax, rates[i][1]);
        assert_int_equal(cpuid_configure(0x16, 0, everything).eax, rates[i][1] / 1000000);
    }
}

static void xsave_is_of_a_size_that_every_machine_gets_right(void **state)
{
    (void)state;
    struct cpuid_values seen = cpuid_configure(0xd, 0, everything);
    assert_int_equal(seen.eax, 7);
    assert_int_equal(seen.ebx, 832);
    assert_int_equal(seen.ecx, 832);
    assert_int_equal(cpuid_configure(0xd, 1, everything).ebx, 832);
}

static int set_up(void **state)
{
    (void)state;
    set_tsc(100000000);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(features_are_the_machine_s_less_what_is_hidden),
        TEST(bits_that_are_not_configurable_are_zero),
        TEST(the_tsc_runs_in_the_module_s_units),
        TEST(xsave_is_of_a_size_that_every_machine_gets_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
