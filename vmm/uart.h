/* SPDX-License-Identifier: MIT */
/*
 * A 16550 at I/O ports 0x3f8...0x3ff. The transmitter is always ready: what is written is out at
 * once. Guarded by the VM's lock.
 *
 * What a person types before the guest listens is kept: a guest hears it once it enables the
 * receive interrupt, or polls for it.
 */
#ifndef VMM_UART_H
#define VMM_UART_H

#include "boot/types.h"

#define UART_PORT 0x3f8
#define UART_PORTS 8
#define UART_PIN 4 /* of the I/O APIC */
#define UART_INPUT_BYTES 4096u

struct uart {
    u8 interrupt_enable, fifo_control, line_control, modem_control, scratch;
    u8 divisor_low, divisor_high;
    bool transmitted; /* "transmitter empty" is an interrupt cause until it is read */
    u32 status_reads; /* in a row, with nothing else between */
    u8 input[UART_INPUT_BYTES];
    u32 input_start, input_end; /* free-running */
    void (*output)(void *context, u8 byte);
    void *context;
};

void uart_init(struct uart *uart, void (*output)(void *context, u8 byte), void *context);
u8 uart_read(struct uart *uart, u16 port);
void uart_write(struct uart *uart, u16 port, u8 value);
/* False: the ring is full, and the byte is not taken. */
bool uart_type(struct uart *uart, u8 byte);
bool uart_input_is_full(const struct uart *uart);
/* The level of the interrupt line. */
bool uart_interrupt(const struct uart *uart);

#endif
