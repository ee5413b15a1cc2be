/* SPDX-License-Identifier: MIT */
/*
 * A 16550 at the first serial port. What is written goes through a ring and leaves as the UART
 * takes it, so that a guest that prints does not wait for the line.
 */
#include "boot/console.h"

#include "boot/x86.h"

#define COM1 0x3f8
#define UART_DATA (COM1 + 0)
#define UART_INTERRUPTS (COM1 + 1)
#define UART_FIFO (COM1 + 2)
#define UART_LINE (COM1 + 3)
#define UART_MODEM (COM1 + 4)
#define UART_STATUS (COM1 + 5)
#define STATUS_RECEIVED 0x01
#define STATUS_FIFO_EMPTY 0x20
#define STATUS_ALL_SENT 0x40
#define FIFO_BYTES 16

#define RING_BYTES 65536u
static char ring[RING_BYTES];
struct console_ring console_ring;
static bool present;

void console_init(void)
{
    out8(UART_INTERRUPTS, 0);
    out8(UART_LINE, 0x80); /* divisor latch: 115200 baud */
    out8(UART_DATA, 1);
    out8(UART_INTERRUPTS, 0);
    out8(UART_LINE, 0x03); /* 8 bits, no parity, 1 stop */
    out8(UART_FIFO, 0x07);
    out8(UART_MODEM, 0x03);
    present = in8(UART_STATUS) != 0xff;
}

/* Moves what the UART takes now. */
void console_pump(void)
{
    if (!present) {
        console_ring.start = console_ring.end;
        return;
    }
    if (console_ring.start == console_ring.end || !(in8(UART_STATUS) & STATUS_FIFO_EMPTY))
        return;
    for (u32 i = 0; i < FIFO_BYTES && console_ring.start != console_ring.end; i++)
        out8(UART_DATA, (u8)ring[console_ring.start++ % RING_BYTES]);
}

void console_flush(void)
{
    while (console_ring.start != console_ring.end) {
        console_pump();
        if (console_ring.start != console_ring.end)
            __asm__ volatile("pause");
    }
}

void console_drain(void)
{
    console_flush();
    while (present && !(in8(UART_STATUS) & STATUS_ALL_SENT))
        __asm__ volatile("pause");
}

void console_write(const char *bytes, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes; i++) {
        while (console_ring.end - console_ring.start == RING_BYTES)
            console_pump();
        ring[console_ring.end++ % RING_BYTES] = bytes[i];
    }
    console_pump();
}

int console_read(void)
{
    if (!present || !(in8(UART_STATUS) & STATUS_RECEIVED))
        return -1;
    return in8(UART_DATA);
}
