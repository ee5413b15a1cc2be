/* SPDX-License-Identifier: MIT */
/* A VM's local APIC in xAPIC mode, and its way between the modes. */
#include "vmm/xapic.h"

#include <string.h>

#include "boot/machine.h"
#include "boot/msr.h"
#include "tests/host/cmocka.h"

static struct lapic lapic;
static struct vlapic apic;
static struct interrupt sent;

#define BASE 0xfee00000ull

static int set_up(void **state)
{
    static const struct machine described = {.tsc_hz = 1000000000};
    (void)state;
    machine_set(&described);
    memset(&apic, 0, sizeof apic);
    lapic_init(&lapic, 3);
    lapic.mode = LAPIC_XAPIC;
    return 0;
}

static u32 get(u32 offset)
{
    return xapic_read(&lapic, &apic, offset);
}

static void set(u32 offset, u32 value)
{
    xapic_write(&lapic, &apic, offset, value, &sent);
}

static void registers_are_at_their_offsets(void **state)
{
    (void)state;
    assert_int_equal(get(0x20), 3u << 24);
    assert_int_equal(get(0x30) & 0xff, 0x14);
    set(0x20, 0); /* the id stays */
    assert_int_equal(get(0x20), 3u << 24);
    set(0x80, 0x1e0);
    assert_int_equal(get(0x80), 0xe0);
    assert_int_equal(get(0xa0), 0xe0);
    set(0xd0, 0x12345678);
    assert_int_equal(get(0xd0), 0x12000000);
    set(0xe0, 0);
    assert_int_equal(get(0xe0), 0x0fffffff);
    set(0xf0, 0x1ff);
    assert_int_equal(get(0xf0), 0x1ff);
    set(0x320, 0x200ec);
    assert_int_equal(get(0x320), 0x200ec);
    set(0x3e0, 0xb);
    set(0x380, 1000000);
    assert_int_equal(get(0x380), 1000000);
    assert_in_range(get(0x390), 1, 1000000);
    set(0x280, 0x55);
    assert_int_equal(get(0x280), 0);
    assert_int_equal(get(0x90), 0);
    assert_int_equal(get(0xff0), 0);
    set(0xff0, 1);
    set(0x3f0, 0x40); /* no self-IPI here */
    assert_false(vlapic_is_waiting(&apic));
}

static void an_end_of_interrupt_takes_any_value(void **state)
{
    (void)state;
    vlapic_post(&apic, 0x45);
    assert_int_equal(get(0x200 + 0x20), 0x20);
    vlapic_accept(&apic, 0x45);
    assert_int_equal(get(0x100 + 0x20), 0x20);
    set(0xb0, 0x1234);
    assert_int_equal(get(0x100 + 0x20), 0);
}

static void the_icr_is_two_halves(void **state)
{
    (void)state;
    set(0x310, 0x05123456);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
    set(0x300, 0x10fb); /* the status is read-only */
    assert_int_equal(sent.kind, INTERRUPT_FIXED);
    assert_int_equal(sent.vector, 0xfb);
    assert_int_equal(sent.destination, 5);
    assert_int_equal(get(0x300), 0xfb);
    assert_int_equal(get(0x310), 0x05123456);
    set(0x310, 0xff000000);
    set(0x300, 0x4500 | 0xc4000); /* INIT to all but itself */
    assert_int_equal(sent.kind, INTERRUPT_INIT);
    assert_int_equal(sent.target, TARGET_OTHERS);
    set(0x300, 0xfb);
    assert_int_equal(sent.destination, INTERRUPT_BROADCAST);
    set(0x300, 0x6fb); /* start-up */
    assert_int_equal(sent.kind, INTERRUPT_STARTUP);
}

static bool logical(u32 destination)
{
    struct interrupt interrupt = {INTERRUPT_FIXED, TARGET_LOGICAL, destination, 0x40};
    return lapic_is_meant(&lapic, &interrupt, 0);
}

static void logical_destinations_are_flat_or_clusters(void **state)
{
    (void)state;
    set(0xd0, 0x08000000);
    assert_true(logical(0x0f));
    assert_true(logical(0x08));
    assert_false(logical(0xf7));
    set(0xe0, 0); /* clusters */
    set(0xd0, 0x28000000);
    assert_true(logical(0x2c));
    assert_false(logical(0x18));
    assert_false(logical(0x23));
    assert_true(logical(INTERRUPT_BROADCAST));
    lapic.mode = LAPIC_X2APIC;
    assert_true(logical(0x08)); /* member 3 of cluster 0 */
    assert_false(logical(0x10008));
    struct interrupt physical = {INTERRUPT_FIXED, TARGET_PHYSICAL, 3, 0x40};
    assert_true(lapic_is_meant(&lapic, &physical, 0));
    physical.destination = 2;
    assert_false(lapic_is_meant(&lapic, &physical, 0));
}

/* "x2APIC State Transitions": off, xAPIC, x2APIC, in this order and back to off from both. */
static void the_mode_changes_where_the_manual_has_an_arrow(void **state)
{
    (void)state;
    static const u64 values[] = {
        [LAPIC_OFF] = BASE, [LAPIC_XAPIC] = BASE | 0x800, [LAPIC_X2APIC] = BASE | 0xc00};
    static const bool arrows[3][3] = {
        [LAPIC_OFF] = {true, true, false},
        [LAPIC_XAPIC] = {true, true, true},
        [LAPIC_X2APIC] = {true, false, true},
    };
    for (u32 from = 0; from < 3; from++) {
        for (u32 to = 0; to < 3; to++) {
            u64 seen;
            lapic.mode = (enum lapic_mode)from;
            assert_int_equal(lapic_base_write(&lapic, values[to]),
                             arrows[from][to] ? OK : ERR_INVALID);
            assert_int_equal(lapic.mode, arrows[from][to] ? to : from);
            assert_int_equal(lapic_read(&lapic, MSR_APIC_BASE, &seen), OK);
            assert_int_equal(seen, values[lapic.mode]);
        }
        lapic.mode = (enum lapic_mode)from;
        assert_int_equal(lapic_base_write(&lapic, BASE | 0x400), ERR_INVALID);
        assert_int_equal(lapic_base_write(&lapic, 0xfed00000 | 0x800), ERR_INVALID);
        assert_int_equal(lapic_base_write(&lapic, BASE | 0x900), ERR_INVALID); /* the BSP's flag */
    }
}

static void switched_off_and_on_it_starts_anew(void **state)
{
    (void)state;
    set(0x320, 0xec);
    assert_int_equal(lapic_base_write(&lapic, BASE), OK);
    assert_int_equal(lapic_base_write(&lapic, BASE | 0x800), OK);
    assert_int_equal(get(0x320), 0x10000);
    assert_int_equal(get(0x20), 3u << 24);
    set(0x320, 0xec);
    assert_int_equal(lapic_base_write(&lapic, BASE | 0xc00), OK);
    u64 entry;
    assert_int_equal(lapic_read(&lapic, MSR_X2APIC_LVT_TIMER, &entry), OK);
    assert_int_equal(entry, 0xec); /* to x2APIC mode it keeps what it has */
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_are_at_their_offsets),
        TEST(an_end_of_interrupt_takes_any_value),
        TEST(the_icr_is_two_halves),
        TEST(logical_destinations_are_flat_or_clusters),
        TEST(the_mode_changes_where_the_manual_has_an_arrow),
        TEST(switched_off_and_on_it_starts_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
