/* SPDX-License-Identifier: MIT */
#include "boot/machine.h"

#include "tests/host/cmocka.h"

static struct machine m;

static void ranges_are_sorted_and_neighbours_merge(void **state)
{
    (void)state;
    m.range_count = 0;
    assert_true(machine_add_range(&m, 0x3000, 0x5000, MEMORY_FREE));
    assert_true(machine_add_range(&m, 0x0, 0x1000, MEMORY_FIRMWARE));
    assert_true(machine_add_range(&m, 0x5000, 0x6000, MEMORY_FREE));
    assert_true(machine_add_range(&m, 0x1000, 0x2000, MEMORY_TAIN));
    assert_int_equal(m.range_count, 3);
    assert_int_equal(m.ranges[0].kind, MEMORY_FIRMWARE);
    assert_int_equal(m.ranges[1].kind, MEMORY_TAIN);
    assert_int_equal(m.ranges[2].start, 0x3000);
    assert_int_equal(m.ranges[2].end, 0x6000);
}

static void too_many_ranges_are_told(void **state)
{
    (void)state;
    m.range_count = 0;
    for (u64 i = 0; i < MEMORY_RANGES_MAX; i++)
        assert_true(machine_add_range(&m, i * 0x2000, i * 0x2000 + 0x1000, MEMORY_FREE));
    assert_false(machine_add_range(&m, 0x10000000, 0x10001000, MEMORY_FREE));
    assert_int_equal(m.range_count, MEMORY_RANGES_MAX);
}

static void a_file_is_found_by_its_path(void **state)
{
    (void)state;
    m.file_count = 1;
    m.files[0] = (struct file){.path = "guest/vmlinuz", .len_bytes = 3};
    machine_set(&m);
    assert_ptr_equal(machine_file("guest/vmlinuz"), &m.files[0]);
    assert_null(machine_file("guest/vmlinu"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_sorted_and_neighbours_merge),
        cmocka_unit_test(too_many_ranges_are_told),
        cmocka_unit_test(a_file_is_found_by_its_path),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
