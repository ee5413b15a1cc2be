/* SPDX-License-Identifier: MIT */
/* I/O APIC and local APIC: registers, and where interrupts go. */

#include "boot/machine.h"
#include "boot/msr.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "vmm/ioapic.h"
#include "vmm/lapic.h"

static struct ioapic ioapic;
static struct lapic lapic;
static struct interrupt sent;

#define HOST_TSC_HZ 1000000000ull

static int set_up(void **state)
{
    static const struct machine described = {.tsc_hz = HOST_TSC_HZ};
    (void)state;
    machine_set(&described);
    ioapic_init(&ioapic);
    lapic_init(&lapic, 0);
    return 0;
}

static void ioapic_set(u32 reg, u32 value)
{
    ioapic_write(&ioapic, 0, reg, &sent);
    ioapic_write(&ioapic, 0x10, value, &sent);
}

static u32 ioapic_get(u32 reg)
{
    ioapic_write(&ioapic, 0, reg, &sent);
    return ioapic_read(&ioapic, 0x10);
}

static void set_line(u32 pin, bool level)
{
    ioapic_set_line(&ioapic, pin, level, &sent);
}

static void every_pin_starts_masked(void **state)
{
    (void)state;
    assert_int_equal(ioapic_get(1), 0x170011);
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
        assert_int_equal(ioapic_get(0x10 + 2 * pin), 0x10000);
        assert_int_equal(ioapic_get(0x11 + 2 * pin), 0);
        set_line(pin, true);
        assert_int_equal(sent.kind, INTERRUPT_NONE);
    }
    assert_int_equal(ioapic_get(0x40), 0);
    assert_int_equal(ioapic_get(0xff), 0);
}

static void registers_keep_what_is_writable(void **state)
{
    (void)state;
    ioapic_set(0, 0xffffffff);
    assert_int_equal(ioapic_get(0), 0x0f000000);
    ioapic_set(1, 0);
    assert_int_equal(ioapic_get(1), 0x170011);
    ioapic_set(0x13, 0xffffffff);
    assert_int_equal(ioapic_get(0x13), 0xff000000);
    ioapic_set(0x12, 0xffffffff);
    assert_int_equal(ioapic_get(0x12), 0x1afff); /* delivery status, remote IRR: read-only */
    assert_int_equal(ioapic_get(0x13), 0xff000000);
}

static void a_rising_edge_is_sent_once(void **state)
{
    (void)state;
    ioapic_set(0x19, 0x03000000);
    ioapic_set(0x18, 0x41);
    set_line(4, true);
    assert_int_equal(sent.kind, INTERRUPT_FIXED);
    assert_int_equal(sent.vector, 0x41);
    assert_int_equal(sent.target, TARGET_PHYSICAL);
    assert_int_equal(sent.destination, 3);
    set_line(4, true);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
    set_line(4, false);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
    set_line(4, true);
    assert_int_equal(sent.kind, INTERRUPT_FIXED);
}

static void a_masked_edge_is_sent_when_it_is_unmasked(void **state)
{
    (void)state;
    ioapic_set(0x18, 0x10041);
    set_line(4, true);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
    ioapic_set(0x18, 0x41);
    assert_int_equal(sent.kind, INTERRUPT_FIXED);
    ioapic_set(0x18, 0x41);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
}

static void destinations_may_be_logical_or_everyone(void **state)
{
    (void)state;
    ioapic_set(0x19, 0x06000000);
    ioapic_set(0x18, 0x841);
    set_line(4, true);
    assert_false(interrupt_is_for(&sent, 0, INTERRUPT_BROADCAST));
    assert_true(interrupt_is_for(&sent, 1, INTERRUPT_BROADCAST));
    assert_true(interrupt_is_for(&sent, 2, INTERRUPT_BROADCAST));
    assert_false(interrupt_is_for(&sent, 17, INTERRUPT_BROADCAST)); /* another cluster */
    ioapic_set(0x19, 0xff000000);
    ioapic_set(0x18, 0x41);
    set_line(4, false);
    set_line(4, true);
    assert_true(interrupt_is_for(&sent, 7, INTERRUPT_BROADCAST));
}

static void vectors_below_16_are_no_interrupts(void **state)
{
    (void)state;
    ioapic_set(0x18, 0x0f);
    set_line(4, true);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
}

static u64 get(u32 msr)
{
    u64 value = 0;
    assert_int_equal(lapic_read(&lapic, msr, &value), OK);
    return value;
}

static void set(u32 msr, u64 value)
{
    assert_int_equal(lapic_write(&lapic, msr, value, &sent), OK);
}

static void refuses(u32 msr, u64 value)
{
    assert_int_equal(lapic_write(&lapic, msr, value, &sent), ERR_INVALID);
    assert_int_equal(sent.kind, INTERRUPT_NONE);
}

static void the_apic_says_who_it_is(void **state)
{
    (void)state;
    assert_int_equal(get(MSR_APIC_BASE), 0xfee00d00);
    assert_int_equal(get(MSR_X2APIC_ID), 0);
    assert_int_equal(get(MSR_X2APIC_LDR), 1);
    assert_int_equal(get(MSR_X2APIC_SVR), 0xff);
    lapic_init(&lapic, 18);
    assert_int_equal(get(MSR_APIC_BASE), 0xfee00c00);
    assert_int_equal(get(MSR_X2APIC_ID), 18);
    assert_int_equal(get(MSR_X2APIC_LDR), 0x10004);
}

static void it_stays_in_x2apic_mode(void **state)
{
    (void)state;
    set(MSR_APIC_BASE, 0xfee00d00);
    refuses(MSR_APIC_BASE, 0xfee00900);
    refuses(MSR_APIC_BASE, 0);
}

static void reserved_registers_are_refused(void **state)
{
    (void)state;
    u64 value;
    refuses(MSR_X2APIC_ID, 0);
    refuses(MSR_X2APIC_VERSION, 0);
    refuses(MSR_X2APIC_LDR, 0);
    refuses(0x831, 0);
    refuses(MSR_X2APIC_ESR, 1);
    refuses(MSR_X2APIC_SVR, 1ull << 32);
    refuses(MSR_X2APIC_ICR, 1 << 13);
    set(MSR_X2APIC_TIMER_INITIAL, 0);
    set(MSR_X2APIC_ESR, 0);
    assert_int_equal(lapic_read(&lapic, 0x831, &value), ERR_INVALID);
    assert_false(lapic_owns_msr(0x7ff));
    assert_false(lapic_owns_msr(0x900));
}

static void the_deadline_counts_in_its_mode_alone(void **state)
{
    (void)state;
    u8 vector;
    set(MSR_TSC_DEADLINE, 5000);
    assert_int_equal(get(MSR_TSC_DEADLINE), 0);
    set(MSR_X2APIC_LVT_TIMER, 2 << 17 | 0xec);
    set(MSR_TSC_DEADLINE, 5000);
    assert_int_equal(get(MSR_TSC_DEADLINE), 5000);
    assert_int_equal(lapic.deadline, 5000);
    assert_true(lapic_timer_expire(&lapic, &vector));
    assert_int_equal(vector, 0xec);
    assert_int_equal(get(MSR_TSC_DEADLINE), 0);
    set(MSR_TSC_DEADLINE, 6000);
    set(MSR_X2APIC_LVT_TIMER, 0xec); /* another mode */
    assert_int_equal(lapic.deadline, 0);
}

static void a_masked_timer_expires_in_silence(void **state)
{
    (void)state;
    u8 vector;
    set(MSR_X2APIC_LVT_TIMER, 2 << 17 | 1 << 16 | 0xec);
    set(MSR_TSC_DEADLINE, 5000);
    assert_false(lapic_timer_expire(&lapic, &vector));
    assert_int_equal(lapic.deadline, 0);
}

#define MILLISECOND_COUNT (LAPIC_TIMER_HZ / 1000)
#define MILLISECOND_TSC (HOST_TSC_HZ / 1000)

/* Where the count that starts now ends, in milliseconds from here, rounded. */
static u64 count_milliseconds(u32 lvt, u32 divide, u32 count)
{
    u64 before = tsc_read();
    set(MSR_X2APIC_LVT_TIMER, lvt);
    set(MSR_X2APIC_TIMER_DIVIDE, divide);
    set(MSR_X2APIC_TIMER_INITIAL, count);
    assert_true(lapic.count_end_tsc >= before);
    return (lapic.count_end_tsc - before) / MILLISECOND_TSC;
}

static void the_count_runs_at_the_crystal_s_rate_divided(void **state)
{
    (void)state;
    u64 value;
    assert_int_equal(count_milliseconds(0xec, 0xb, 5000 * MILLISECOND_COUNT), 5000);
    assert_int_equal(lapic_read(&lapic, MSR_X2APIC_TIMER_CURRENT, &value), OK);
    assert_in_range(value, 1, 5000 * MILLISECOND_COUNT);
    assert_int_equal(lapic_read(&lapic, MSR_X2APIC_TIMER_INITIAL, &value), OK);
    assert_int_equal(value, 5000 * MILLISECOND_COUNT);
    assert_int_equal(count_milliseconds(0xec, 0x3, 500 * MILLISECOND_COUNT), 8000); /* by 16 */
    assert_int_equal(count_milliseconds(0xec, 0x0, 500 * MILLISECOND_COUNT), 1000); /* by 2 */
    assert_int_equal(count_milliseconds(0xec, 0xa, 50 * MILLISECOND_COUNT), 6400);  /* by 128 */
    set(MSR_X2APIC_TIMER_INITIAL, 0);
    assert_int_equal(lapic.count_end_tsc, 0);
    /* In deadline mode it does not count. */
    set(MSR_X2APIC_LVT_TIMER, 2 << 17 | 0xec);
    set(MSR_X2APIC_TIMER_INITIAL, 1000);
    assert_int_equal(lapic.count_end_tsc, 0);
}

static void one_shot_ends_and_periodic_starts_again(void **state)
{
    (void)state;
    u8 vector = 0;
    (void)count_milliseconds(0xec, 0xb, 1000 * MILLISECOND_COUNT);
    assert_true(lapic_timer_expire(&lapic, &vector));
    assert_int_equal(vector, 0xec);
    assert_int_equal(lapic.count_end_tsc, 0);
    (void)count_milliseconds(1 << 17 | 0xed, 0xb, 1000 * MILLISECOND_COUNT);
    u64 first = lapic.count_end_tsc;
    assert_true(lapic_timer_expire(&lapic, &vector));
    assert_int_equal(vector, 0xed);
    assert_true(lapic.count_end_tsc > first);
}

static void the_icr_names_its_targets(void **state)
{
    (void)state;
    set(MSR_X2APIC_ICR, 5ull << 32 | 0xfb);
    assert_int_equal(sent.kind, INTERRUPT_FIXED);
    assert_int_equal(sent.vector, 0xfb);
    assert_true(interrupt_is_for(&sent, 5, 0));
    assert_false(interrupt_is_for(&sent, 0, 0));
    set(MSR_X2APIC_ICR, 0x10002ull << 32 | 1 << 11 | 0xfb); /* logical: cluster 1, member 1 */
    assert_true(interrupt_is_for(&sent, 17, 0));
    assert_false(interrupt_is_for(&sent, 1, 0));
    set(MSR_X2APIC_ICR, 1 << 18 | 0xfb); /* self */
    assert_true(interrupt_is_for(&sent, 0, 0));
    assert_false(interrupt_is_for(&sent, 1, 0));
    set(MSR_X2APIC_ICR, 2 << 18 | 0xfb); /* all */
    assert_true(interrupt_is_for(&sent, 0, 0));
    set(MSR_X2APIC_ICR, 3 << 18 | 0xfb); /* all but self */
    assert_false(interrupt_is_for(&sent, 0, 0));
    assert_true(interrupt_is_for(&sent, 1, 0));
    set(MSR_X2APIC_ICR, ~0u * (1ull << 32) | 0xfb);
    assert_true(interrupt_is_for(&sent, 63, 0));
    set(MSR_X2APIC_ICR, 1ull << 32 | 4 << 8);
    assert_int_equal(sent.kind, INTERRUPT_NMI);
    set(MSR_X2APIC_ICR, 1ull << 32 | 0xf); /* no interrupt */
    assert_int_equal(sent.kind, INTERRUPT_NONE);
}

static void the_icr_starts_processors(void **state)
{
    (void)state;
    set(MSR_X2APIC_ICR, 1ull << 32 | 1 << 15 | 1 << 14 | 5 << 8);
    assert_int_equal(sent.kind, INTERRUPT_INIT);
    assert_true(interrupt_is_for(&sent, 1, 0));
    set(MSR_X2APIC_ICR, 1ull << 32 | 1 << 15 | 5 << 8); /* de-assert */
    assert_int_equal(sent.kind, INTERRUPT_NONE);
    set(MSR_X2APIC_ICR, 1ull << 32 | 5 << 8); /* an edge */
    assert_int_equal(sent.kind, INTERRUPT_INIT);
    set(MSR_X2APIC_ICR, 1ull << 32 | 6 << 8 | 9); /* below 16, and good as a page */
    assert_int_equal(sent.kind, INTERRUPT_STARTUP);
    assert_int_equal(sent.vector, 9);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_pin_starts_masked),
        TEST(registers_keep_what_is_writable),
        TEST(a_rising_edge_is_sent_once),
        TEST(a_masked_edge_is_sent_when_it_is_unmasked),
        TEST(destinations_may_be_logical_or_everyone),
        TEST(vectors_below_16_are_no_interrupts),
        TEST(the_apic_says_who_it_is),
        TEST(it_stays_in_x2apic_mode),
        TEST(reserved_registers_are_refused),
        TEST(the_deadline_counts_in_its_mode_alone),
        TEST(a_masked_timer_expires_in_silence),
        TEST(the_count_runs_at_the_crystal_s_rate_divided),
        TEST(one_shot_ends_and_periodic_starts_again),
        TEST(the_icr_names_its_targets),
        TEST(the_icr_starts_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
