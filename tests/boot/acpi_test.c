/* SPDX-License-Identifier: MIT */
#include "boot/acpi.h"

#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

#define RSDP 0x100000ull
#define XSDT 0x101000ull
#define MADT 0x102000ull

static struct processor found[8];

static void sum_set(u8 *table, u32 len, u32 at)
{
    u8 sum = 0;
    table[at] = 0;
    for (u32 i = 0; i < len; i++)
        sum = (u8)(sum + table[i]);
    table[at] = (u8)(0 - sum);
}

static void put32(u8 *at, u32 value)
{
    memcpy(at, &value, 4);
}
static void put64(u8 *at, u64 value)
{
    memcpy(at, &value, 8);
}

/* RSDP, XSDT and a MADT with two enabled processors, a disabled one and an x2APIC one. */
static void tables_make(void)
{
    host_memory_create(MIB);
    u8 *rsdp = phys_to_virt(hpa(RSDP)), *xsdt = phys_to_virt(hpa(XSDT));
    u8 *madt = phys_to_virt(hpa(MADT));

    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = 2;
    put64(rsdp + 24, XSDT);
    sum_set(rsdp, 20, 8);

    memcpy(xsdt, "XSDT", 4);
    put32(xsdt + 4, 36 + 8);
    put64(xsdt + 36, MADT);
    sum_set(xsdt, 44, 9);

    memcpy(madt, "APIC", 4);
    put32(madt + 4, 44 + 3 * 8 + 16);
    for (u8 i = 0; i < 3; i++) {
        u8 *entry = madt + 44 + 8 * i;
        entry[0] = 0;
        entry[1] = 8;
        entry[3] = (u8)(2 * i);
        put32(entry + 4, i != 1);
    }
    u8 *x2 = madt + 44 + 24;
    x2[0] = 9;
    x2[1] = 16;
    put32(x2 + 4, 300);
    put32(x2 + 8, 1);
    sum_set(madt, 44 + 24 + 16, 9);
}

static void enabled_processors_are_listed(void **state)
{
    (void)state;
    tables_make();
    assert_int_equal(acpi_processors(hpa(RSDP), found, 8), 3);
    assert_int_equal(found[0].apic_id, 0);
    assert_int_equal(found[1].apic_id, 4);
    assert_int_equal(found[2].apic_id, 300);
    assert_int_equal(acpi_processors(hpa(RSDP), found, 2), 2);
}

static void no_table_is_no_processor(void **state)
{
    (void)state;
    assert_int_equal(acpi_processors(HPA_NONE, found, 8), 0);
}

static void damage_is_named_and_passed_over(void **state)
{
    (void)state;
    tables_make();
    ((u8 *)phys_to_virt(hpa(MADT)))[50] ^= 1;
    host_log_clear();
    assert_int_equal(acpi_processors(hpa(RSDP), found, 8), 0);
    assert_non_null(strstr(host_log(), "table APIC at 0x102000 is damaged"));

    tables_make();
    ((u8 *)phys_to_virt(hpa(RSDP)))[8] ^= 1;
    host_log_clear();
    assert_int_equal(acpi_processors(hpa(RSDP), found, 8), 0);
    assert_non_null(strstr(host_log(), "RSDP at 0x100000 is damaged"));
}

/* An entry of length 0 must not loop, one that is too long must not be read. */
static void bad_entry_lengths_end_the_walk(void **state)
{
    static const u8 lengths[] = {0, 1, 200};
    (void)state;
    for (u32 i = 0; i < sizeof lengths; i++) {
        tables_make();
        u8 *madt = phys_to_virt(hpa(MADT));
        madt[44 + 8 + 1] = lengths[i];
        sum_set(madt, 44 + 24 + 16, 9);
        host_log_clear();
        assert_int_equal(acpi_processors(hpa(RSDP), found, 8), 0);
        assert_non_null(strstr(host_log(), "MADT entry of type 0 has length"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enabled_processors_are_listed),
        cmocka_unit_test(no_table_is_no_processor),
        cmocka_unit_test(damage_is_named_and_passed_over),
        cmocka_unit_test(bad_entry_lengths_end_the_walk),
    };
    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
