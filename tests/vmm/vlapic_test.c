/* SPDX-License-Identifier: MIT */
/* Priorities of a software local APIC. */
#include "vmm/vlapic.h"

#include <string.h>

#include "boot/msr.h"
#include "tests/host/cmocka.h"

static struct vlapic apic;

static int set_up(void **state)
{
    (void)state;
    memset(&apic, 0, sizeof apic);
    vlapic_reset(&apic);
    return 0;
}

static u64 get(u32 msr)
{
    u64 value = ~0ull;
    assert_int_equal(vlapic_read(&apic, msr, &value), OK);
    return value;
}

static void set(u32 msr, u64 value)
{
    assert_int_equal(vlapic_write(&apic, msr, value), OK);
}

static void the_highest_vector_comes_first(void **state)
{
    (void)state;
    assert_int_equal(vlapic_next(&apic), VLAPIC_NONE);
    assert_true(vlapic_post(&apic, 0x31));
    assert_true(vlapic_post(&apic, 0xef));
    assert_false(vlapic_post(&apic, 0xef)); /* one of each vector at most */
    assert_true(vlapic_post(&apic, 0x80));
    for (u32 i = 0; i < 3; i++) {
        static const int order[] = {0xef, 0x80, 0x31};
        assert_int_equal(vlapic_next(&apic), order[i]);
        vlapic_accept(&apic, (u8)order[i]);
        set(MSR_X2APIC_EOI, 0);
    }
    assert_int_equal(vlapic_next(&apic), VLAPIC_NONE);
    assert_false(vlapic_is_waiting(&apic));
}

static void what_is_served_holds_its_class_and_those_below_back(void **state)
{
    (void)state;
    vlapic_post(&apic, 0x45);
    vlapic_accept(&apic, 0x45);
    vlapic_post(&apic, 0x4f);
    vlapic_post(&apic, 0x3f);
    assert_int_equal(vlapic_next(&apic), VLAPIC_NONE);
    assert_true(vlapic_is_waiting(&apic));
    vlapic_post(&apic, 0x50);
    assert_int_equal(vlapic_next(&apic), 0x50);
    vlapic_accept(&apic, 0x50);
    assert_int_equal(get(MSR_X2APIC_PPR), 0x50);
    set(MSR_X2APIC_EOI, 0); /* of 0x50, the highest */
    assert_int_equal(get(MSR_X2APIC_PPR), 0x40);
    assert_int_equal(vlapic_next(&apic), VLAPIC_NONE);
    set(MSR_X2APIC_EOI, 0);
    assert_int_equal(get(MSR_X2APIC_PPR), 0);
    assert_int_equal(vlapic_next(&apic), 0x4f);
    set(MSR_X2APIC_EOI, 0); /* of nothing */
}

static void the_task_priority_holds_back(void **state)
{
    (void)state;
    vlapic_post(&apic, 0x61);
    set(MSR_X2APIC_TPR, 0x60);
    assert_int_equal(get(MSR_X2APIC_PPR), 0x60);
    assert_int_equal(vlapic_next(&apic), VLAPIC_NONE);
    set(MSR_X2APIC_TPR, 0x5f);
    assert_int_equal(vlapic_next(&apic), 0x61);
    vlapic_accept(&apic, 0x61);
    assert_int_equal(get(MSR_X2APIC_PPR), 0x60);
    set(MSR_X2APIC_TPR, 0x62);
    assert_int_equal(get(MSR_X2APIC_PPR), 0x62);
    assert_int_equal(get(MSR_X2APIC_TPR), 0x62);
}

static void a_delivery_that_failed_is_due_again(void **state)
{
    (void)state;
    vlapic_post(&apic, 0xfe);
    vlapic_accept(&apic, 0xfe);
    vlapic_return(&apic, 0xfe);
    assert_int_equal(vlapic_next(&apic), 0xfe);
    assert_int_equal(get(MSR_X2APIC_PPR), 0);
}

static void the_registers_show_each_vector(void **state)
{
    (void)state;
    for (u32 vector = 16; vector < 256; vector++) {
        u32 bit = 1u << vector % 32;
        vlapic_post(&apic, (u8)vector);
        assert_int_equal(get(MSR_X2APIC_IRR0 + vector / 32), bit);
        vlapic_accept(&apic, (u8)vector);
        assert_int_equal(get(MSR_X2APIC_IRR0 + vector / 32), 0);
        assert_int_equal(get(MSR_X2APIC_ISR0 + vector / 32), bit);
        assert_int_equal(get(MSR_X2APIC_TMR0 + vector / 32), 0);
        set(MSR_X2APIC_EOI, 0);
        assert_int_equal(get(MSR_X2APIC_ISR0 + vector / 32), 0);
    }
}

static void a_self_ipi_waits_as_any_other(void **state)
{
    (void)state;
    set(MSR_X2APIC_SELF_IPI, 0x77);
    assert_int_equal(vlapic_next(&apic), 0x77);
    set(MSR_X2APIC_SELF_IPI, 3); /* no interrupt */
    vlapic_accept(&apic, 0x77);
    assert_false(vlapic_is_waiting(&apic));
}

static void what_hardware_refuses_is_refused(void **state)
{
    (void)state;
    u64 value;
    assert_int_equal(vlapic_read(&apic, MSR_X2APIC_EOI, &value), ERR_INVALID);
    assert_int_equal(vlapic_read(&apic, MSR_X2APIC_SELF_IPI, &value), ERR_INVALID);
    assert_int_equal(vlapic_write(&apic, MSR_X2APIC_EOI, 1), ERR_INVALID);
    assert_int_equal(vlapic_write(&apic, MSR_X2APIC_TPR, 0x100), ERR_INVALID);
    assert_int_equal(vlapic_write(&apic, MSR_X2APIC_SELF_IPI, 0x100), ERR_INVALID);
    for (u32 msr = MSR_X2APIC_ISR0; msr < MSR_X2APIC_ESR; msr++)
        assert_int_equal(vlapic_write(&apic, msr, 0), ERR_INVALID);
    assert_int_equal(vlapic_write(&apic, MSR_X2APIC_PPR, 0), ERR_INVALID);
    assert_true(vlapic_owns_msr(MSR_X2APIC_IRR0 + 7));
    assert_false(vlapic_owns_msr(MSR_X2APIC_ESR));
    assert_false(vlapic_owns_msr(MSR_X2APIC_SVR));
}

static void signals_come_together_and_the_last_startup_counts(void **state)
{
    (void)state;
    assert_int_equal(vlapic_take_signals(&apic), 0);
    vlapic_signal(&apic, VLAPIC_INIT);
    vlapic_signal(&apic, VLAPIC_STARTUP | 0x9f);
    vlapic_signal(&apic, VLAPIC_NMI);
    vlapic_signal(&apic, VLAPIC_STARTUP | 0x60);
    vlapic_post(&apic, 0x40);
    vlapic_reset(&apic);
    assert_int_equal(vlapic_take_signals(&apic), VLAPIC_INIT | VLAPIC_STARTUP | VLAPIC_NMI | 0x60);
    assert_int_equal(vlapic_take_signals(&apic), 0);
    assert_false(vlapic_is_waiting(&apic));
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_highest_vector_comes_first),
        TEST(what_is_served_holds_its_class_and_those_below_back),
        TEST(the_task_priority_holds_back),
        TEST(a_delivery_that_failed_is_due_again),
        TEST(the_registers_show_each_vector),
        TEST(a_self_ipi_waits_as_any_other),
        TEST(what_hardware_refuses_is_refused),
        TEST(signals_come_together_and_the_last_startup_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
