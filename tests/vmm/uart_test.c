/* SPDX-License-Identifier: MIT */
/* The UART as Linux's 8250 driver uses it, and as a guest without interrupts does. */
#include <string.h>

#include "tests/host/cmocka.h"
#include "vmm/uart.h"

#define DATA 0x3f8
#define IER 0x3f9
#define IIR 0x3fa
#define LCR 0x3fb
#define MCR 0x3fc
#define LSR 0x3fd
#define MSR 0x3fe
#define SCR 0x3ff

static struct uart uart;
static char printed[64];
static size_t printed_len;

static void print(void *context, u8 byte)
{
    assert_ptr_equal(context, &uart);
    printed[printed_len++] = (char)byte;
}

static int set_up(void **state)
{
    (void)state;
    memset(printed, 0, sizeof printed);
    printed_len = 0;
    uart_init(&uart, print, &uart);
    return 0;
}

static void output_is_out_at_once(void **state)
{
    (void)state;
    assert_int_equal(uart_read(&uart, LSR), 0x60);
    uart_write(&uart, DATA, 'h');
    uart_write(&uart, DATA, 'i');
    assert_string_equal(printed, "hi");
    assert_int_equal(uart_read(&uart, LSR), 0x60);
}

static void the_divisor_latch_hides_data_and_enable(void **state)
{
    (void)state;
    uart_write(&uart, LCR, 0x83);
    uart_write(&uart, DATA, 0x12);
    uart_write(&uart, IER, 0x34);
    assert_int_equal(uart_read(&uart, DATA), 0x12);
    assert_int_equal(uart_read(&uart, IER), 0x34);
    uart_write(&uart, LCR, 0x03);
    assert_int_equal(uart_read(&uart, IER), 0);
    assert_string_equal(printed, "");
}

static void the_transmit_interrupt_clears_when_it_is_read(void **state)
{
    (void)state;
    assert_int_equal(uart_read(&uart, IIR), 0x01);
    uart_write(&uart, IER, 2);
    assert_true(uart_interrupt(&uart));
    assert_int_equal(uart_read(&uart, IIR), 0x02);
    assert_false(uart_interrupt(&uart));
    assert_int_equal(uart_read(&uart, IIR), 0x01);
    uart_write(&uart, DATA, 'x');
    assert_true(uart_interrupt(&uart));
}

static void reception_comes_before_transmission(void **state)
{
    (void)state;
    uart_write(&uart, IIR, 0x01);
    uart_write(&uart, IER, 3);
    assert_true(uart_type(&uart, 'k'));
    assert_int_equal(uart_read(&uart, IIR), 0xc4);
    assert_int_equal(uart_read(&uart, DATA), 'k');
    assert_int_equal(uart_read(&uart, IIR), 0xc2);
    assert_int_equal(uart_read(&uart, IIR), 0xc1);
}

/* A driver that starts clears FIFOs and reads every register once: nothing typed is lost. */
static void what_was_typed_early_waits_for_the_driver(void **state)
{
    (void)state;
    assert_true(uart_type(&uart, 'a'));
    assert_true(uart_type(&uart, 'b'));
    assert_false(uart_interrupt(&uart));
    uart_write(&uart, IIR, 0x07);
    assert_int_equal(uart_read(&uart, LSR), 0x60);
    assert_int_equal(uart_read(&uart, DATA), 0);
    (void)uart_read(&uart, IIR);
    (void)uart_read(&uart, MSR);
    uart_write(&uart, IER, 1);
    assert_true(uart_interrupt(&uart));
    assert_int_equal(uart_read(&uart, LSR), 0x61);
    assert_int_equal(uart_read(&uart, DATA), 'a');
    assert_int_equal(uart_read(&uart, DATA), 'b');
    assert_false(uart_interrupt(&uart));
    assert_int_equal(uart_read(&uart, LSR), 0x60);
}

static void a_guest_that_polls_is_heard(void **state)
{
    (void)state;
    assert_true(uart_type(&uart, 'p'));
    assert_true(uart_type(&uart, 'q'));
    u32 reads = 0;
    while (!(uart_read(&uart, LSR) & 1))
        assert_true(++reads < 100);
    assert_int_equal(uart_read(&uart, DATA), 'p');
    assert_int_equal(uart_read(&uart, LSR), 0x61);
    assert_int_equal(uart_read(&uart, DATA), 'q');
    /* One that prints in between waits for the transmitter, and is no poller. */
    assert_true(uart_type(&uart, 'r'));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(uart_read(&uart, LSR) & 1, i == 0 ? 1 : 0);
        uart_write(&uart, DATA, 0);
        printed_len = 0;
    }
}

static void a_full_ring_takes_no_more(void **state)
{
    (void)state;
    for (u32 i = 0; i < UART_INPUT_BYTES; i++)
        assert_true(uart_type(&uart, (u8)i));
    assert_true(uart_input_is_full(&uart));
    assert_false(uart_type(&uart, 0));
    uart_write(&uart, IER, 1);
    for (u32 i = 0; i < UART_INPUT_BYTES; i++)
        assert_int_equal(uart_read(&uart, DATA), (u8)i);
    assert_false(uart_interrupt(&uart));
}

/* Linux's test for a UART: loop back RTS and OUT2, expect CTS and DCD. */
static void the_modem_lines_loop_back(void **state)
{
    (void)state;
    assert_int_equal(uart_read(&uart, MSR), 0xb0);
    uart_write(&uart, MCR, 0x1a);
    assert_int_equal(uart_read(&uart, MSR) & 0xf0, 0x90);
    uart_write(&uart, DATA, 'l');
    assert_string_equal(printed, "");
    uart_write(&uart, MCR, 0);
    uart_write(&uart, SCR, 0x5a);
    assert_int_equal(uart_read(&uart, SCR), 0x5a);
    uart_write(&uart, IER, 0xff);
    assert_int_equal(uart_read(&uart, IER), 0x0f);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_is_out_at_once),
        TEST(the_divisor_latch_hides_data_and_enable),
        TEST(the_transmit_interrupt_clears_when_it_is_read),
        TEST(reception_comes_before_transmission),
        TEST(what_was_typed_early_waits_for_the_driver),
        TEST(a_guest_that_polls_is_heard),
        TEST(a_full_ring_takes_no_more),
        TEST(the_modem_lines_loop_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
