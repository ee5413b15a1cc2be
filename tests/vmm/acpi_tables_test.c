/* SPDX-License-Identifier: MIT */
/* The guest's ACPI tables as an operating system walks them: from the RSDP, by address. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "vmm/acpi_tables.h"
#include "vmm/layout.h"

static u8 tables[LAYOUT_ACPI_BYTES];

static u64 get(const u8 *bytes, size_t at, size_t len)
{
    u64 value = 0;
    memcpy(&value, bytes + at, len);
    return value;
}

static u8 sum(const u8 *bytes, size_t len)
{
    u8 total = 0;
    for (size_t i = 0; i < len; i++)
        total = (u8)(total + bytes[i]);
    return total;
}

static const u8 *table_at(u64 address, const char *signature)
{
    assert_in_range(address, LAYOUT_ACPI, LAYOUT_ACPI + sizeof tables - 36);
    const u8 *table = tables + (address - LAYOUT_ACPI);
    assert_memory_equal(table, signature, 4);
    u64 len = get(table, 4, 4);
    assert_in_range(len, 36, LAYOUT_ACPI + sizeof tables - address);
    assert_int_equal(sum(table, len), 0);
    return table;
}

static const u8 *find(u32 index, const char *signature)
{
    const u8 *xsdt = table_at(get(tables, 24, 8), "XSDT");
    assert_int_equal(get(xsdt, 4, 4), 36 + 2 * 8);
    return table_at(get(xsdt, 36 + 8 * index, 8), signature);
}

static void build_for(u32 vcpus, enum acpi_start start)
{
    memset(tables, 0xcc, sizeof tables);
    assert_int_equal(acpi_tables_build(gpa(LAYOUT_ACPI), vcpus, start, tables, sizeof tables), OK);
}

static void build(u32 vcpus)
{
    build_for(vcpus, ACPI_START_BY_MAILBOX);
}

static void the_rsdp_sums_up(void **state)
{
    (void)state;
    build(1);
    assert_memory_equal(tables, "RSD PTR ", 8);
    assert_int_equal(sum(tables, 20), 0);
    assert_int_equal(sum(tables, 36), 0);
    assert_int_equal(tables[15], 2);
    assert_int_equal(get(tables, 16, 4), 0); /* no RSDT */
    assert_int_equal(get(tables, 20, 4), 36);
}

static void the_fadt_is_hardware_reduced_and_can_switch_off(void **state)
{
    (void)state;
    build(1);
    const u8 *fadt = find(0, "FACP");
    assert_int_equal(get(fadt, 4, 4), 276);
    assert_int_equal(fadt[8], 6);
    assert_true(get(fadt, 112, 4) & 1 << 20);
    assert_int_equal(get(fadt, 244, 4), 0x01000801);
    assert_int_equal(get(fadt, 248, 8), 0x600);
    assert_int_equal(get(fadt, 256, 4), 0x01000801);
    assert_int_equal(get(fadt, 260, 8), 0x601);
    (void)table_at(get(fadt, 140, 8), "DSDT");
}

/* Every entry of the MADT, once through. */
static void the_madt_lists_what_there_is(void **state)
{
    (void)state;
    for (u32 vcpus = 1; vcpus <= 64; vcpus *= 4) {
        build(vcpus);
        const u8 *madt = find(1, "APIC");
        u32 lapics = 0, ioapics = 0, wakeups = 0;
        size_t at = 44;
        for (; at < get(madt, 4, 4); at += madt[at + 1]) {
            const u8 *entry = madt + at;
            assert_true(entry[1] >= 8);
            if (entry[0] == 0) {
                assert_int_equal(entry[3], lapics++);
                assert_int_equal(get(entry, 4, 4), 1);
            } else if (entry[0] == 1) {
                ioapics++;
                assert_int_equal(get(entry, 4, 4), LAYOUT_IOAPIC);
                assert_int_equal(get(entry, 8, 4), 0);
            } else {
                assert_int_equal(entry[0], 0x10);
                assert_int_equal(entry[1], 16);
                assert_int_equal(get(entry, 8, 8), LAYOUT_MAILBOX);
                wakeups++;
            }
        }
        assert_int_equal(at, get(madt, 4, 4));
        assert_int_equal(lapics, vcpus);
        assert_int_equal(ioapics, 1);
        assert_int_equal(wakeups, vcpus > 1 ? 1 : 0);
    }
}

/* Its other processors are started as on a board. */
static void a_vm_has_no_mailbox(void **state)
{
    (void)state;
    build_for(4, ACPI_START_BY_INIT);
    const u8 *madt = find(1, "APIC");
    u32 entries = 0;
    for (size_t at = 44; at < get(madt, 4, 4); at += madt[at + 1]) {
        assert_int_not_equal(madt[at], 0x10);
        entries++;
    }
    assert_int_equal(entries, 4 + 1);
}

/* Package lengths: each block ends where its parent does. */
static void the_dsdt_s_blocks_nest(void **state)
{
    (void)state;
    build(1);
    const u8 *dsdt = table_at(get(find(0, "FACP"), 140, 8), "DSDT");
    const u8 *end = dsdt + get(dsdt, 4, 4);
    const u8 *s5 = dsdt + 36, *package = s5 + 6;
    assert_memory_equal(s5, "\x08\\_S5_\x12", 7);
    const u8 *scope = package + 1 + package[1];
    assert_memory_equal(scope, "\x10", 1);
    assert_memory_equal(scope + 2, "\\_SB_", 5);
    assert_ptr_equal(scope + 1 + scope[1], end);
    const u8 *device = scope + 7;
    assert_memory_equal(device, "\x5b\x82", 2);
    assert_memory_equal(device + 3, "COM1", 4);
    assert_ptr_equal(device + 2 + device[2], end);
    const u8 *crs = device + 7 + 10 + 6;
    assert_memory_equal(crs, "\x08_CRS\x11", 6);
    assert_ptr_equal(crs + 6 + crs[6], end);
    assert_ptr_equal(crs + 9 + crs[8], end); /* the buffer's own length */
    assert_int_equal(crs[22], 4);            /* the interrupt's number */
    assert_memory_equal(end - 2, "\x79\x00", 2);
}

static void tables_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    build(1);
    u64 used = get(tables, 24, 8) - LAYOUT_ACPI + 36 + 16;
    for (size_t size = 0; size < used; size += 7) {
        u8 *small = malloc(size + 1); /* the sanitizer watches its end */
        assert_int_equal(acpi_tables_build(gpa(LAYOUT_ACPI), 1, ACPI_START_BY_MAILBOX, small, size),
                         ERR_RANGE);
        free(small);
    }
    assert_int_equal(acpi_tables_build(gpa(LAYOUT_ACPI), 1, ACPI_START_BY_MAILBOX, tables, used),
                     OK);
}

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rsdp_sums_up),
        cmocka_unit_test(the_fadt_is_hardware_reduced_and_can_switch_off),
        cmocka_unit_test(the_madt_lists_what_there_is),
        cmocka_unit_test(a_vm_has_no_mailbox),
        cmocka_unit_test(the_dsdt_s_blocks_nest),
        cmocka_unit_test(tables_that_do_not_fit_are_refused),
    };
    /* With a file's name: writes the tables there, for a disassembler. */
    if (count == 2) {
        FILE *file = fopen(arguments[1], "wb");
        build(2);
        return !file || fwrite(tables, sizeof tables, 1, file) != 1 || fclose(file);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
