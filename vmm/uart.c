/* SPDX-License-Identifier: MIT */
#include "vmm/uart.h"

#define REG_DATA 0
#define REG_INTERRUPT_ENABLE 1
#define REG_INTERRUPT_ID 2 /* FIFO control when written */
#define REG_LINE_CONTROL 3
#define REG_MODEM_CONTROL 4
#define REG_LINE_STATUS 5
#define REG_MODEM_STATUS 6
#define REG_SCRATCH 7

#define ENABLE_RECEIVE 0x01
#define ENABLE_TRANSMIT 0x02
#define ENABLE_MASK 0x0f
#define ID_NONE 0x01
#define ID_TRANSMIT 0x02
#define ID_RECEIVE 0x04
#define ID_FIFOS 0xc0
#define FIFO_ENABLE 0x01
#define FIFO_CLEAR_RECEIVE 0x02
#define FIFO_SETTINGS 0xc9 /* what stays of a write: enable, DMA mode, trigger level */
#define LINE_DIVISOR 0x80
#define MODEM_DTR 0x01
#define MODEM_RTS 0x02
#define MODEM_OUT1 0x04
#define MODEM_OUT2 0x08
#define MODEM_LOOP 0x10
#define MODEM_MASK 0x1f
#define STATUS_RECEIVED 0x01
#define STATUS_TRANSMITTED 0x60 /* holding register and shift register empty */
#define MODEM_CTS 0x10
#define MODEM_DSR 0x20
#define MODEM_RI 0x40
#define MODEM_DCD 0x80

/*
 * A driver that starts reads the line status and then the data once, to clear what was there. One
 * that polls reads the status over and over; after this many times we believe it.
 */
#define POLLING_READS 16

void uart_init(struct uart *uart, void (*output)(void *context, u8 byte), void *context)
{
    *uart = (struct uart){.output = output, .context = context, .divisor_low = 1};
}

static bool input_is_empty(const struct uart *uart)
{
    return uart->input_start == uart->input_end;
}

bool uart_input_is_full(const struct uart *uart)
{
    return uart->input_end - uart->input_start == UART_INPUT_BYTES;
}

bool uart_type(struct uart *uart, u8 byte)
{
    if (uart_input_is_full(uart))
        return false;
    uart->input[uart->input_end++ % UART_INPUT_BYTES] = byte;
    return true;
}

/* True if the guest is told of input now. */
static bool input_is_visible(const struct uart *uart)
{
    return !input_is_empty(uart) &&
           ((uart->interrupt_enable & ENABLE_RECEIVE) || uart->status_reads >= POLLING_READS);
}

static u8 interrupt_id(const struct uart *uart)
{
    if ((uart->interrupt_enable & ENABLE_RECEIVE) && !input_is_empty(uart))
        return ID_RECEIVE;
    if ((uart->interrupt_enable & ENABLE_TRANSMIT) && uart->transmitted)
        return ID_TRANSMIT;
    return ID_NONE;
}

bool uart_interrupt(const struct uart *uart)
{
    return interrupt_id(uart) != ID_NONE;
}

static u8 read_data(struct uart *uart)
{
    if (!input_is_visible(uart))
        return 0;
    return uart->input[uart->input_start++ % UART_INPUT_BYTES];
}

static u8 read_interrupt_id(struct uart *uart)
{
    u8 id = interrupt_id(uart);
    if (id == ID_TRANSMIT)
        uart->transmitted = false;
    return id | (uart->fifo_control & FIFO_ENABLE ? ID_FIFOS : 0);
}

static u8 read_modem_status(const struct uart *uart)
{
    u8 control = uart->modem_control;
    if (!(control & MODEM_LOOP))
        return MODEM_CTS | MODEM_DSR | MODEM_DCD;
    return (u8)((control & MODEM_RTS ? MODEM_CTS : 0) | (control & MODEM_DTR ? MODEM_DSR : 0) |
                (control & MODEM_OUT1 ? MODEM_RI : 0) | (control & MODEM_OUT2 ? MODEM_DCD : 0));
}

static u8 read_register(struct uart *uart, u16 reg)
{
    bool divisor = uart->line_control & LINE_DIVISOR;
    switch (reg) {
    case REG_DATA:
        return divisor ? uart->divisor_low : read_data(uart);
    case REG_INTERRUPT_ENABLE:
        return divisor ? uart->divisor_high : uart->interrupt_enable;
    case REG_INTERRUPT_ID:
        return read_interrupt_id(uart);
    case REG_LINE_CONTROL:
        return uart->line_control;
    case REG_MODEM_CONTROL:
        return uart->modem_control;
    case REG_LINE_STATUS:
        return STATUS_TRANSMITTED | (input_is_visible(uart) ? STATUS_RECEIVED : 0);
    case REG_MODEM_STATUS:
        return read_modem_status(uart);
    default:
        return uart->scratch;
    }
}

u8 uart_read(struct uart *uart, u16 port)
{
    u16 reg = port & (UART_PORTS - 1);
    if (reg == REG_LINE_STATUS)
        uart->status_reads += uart->status_reads < POLLING_READS;
    u8 value = read_register(uart, reg);
    /* Data reads belong to polling as long as there is something to read. */
    if (reg != REG_LINE_STATUS && !(reg == REG_DATA && uart->status_reads >= POLLING_READS))
        uart->status_reads = 0;
    return value;
}

static void write_data(struct uart *uart, u8 value)
{
    uart->transmitted = true;
    if (uart->modem_control & MODEM_LOOP)
        (void)uart_type(uart, value);
    else
        uart->output(uart->context, value);
}

static void write_fifo_control(struct uart *uart, u8 value)
{
    if ((value & FIFO_CLEAR_RECEIVE) && input_is_visible(uart))
        uart->input_start = uart->input_end;
    uart->fifo_control = value & FIFO_SETTINGS;
}

static void write_interrupt_enable(struct uart *uart, u8 value)
{
    /* Enabling it with an empty transmitter is a cause at once. */
    if ((value & ENABLE_TRANSMIT) && !(uart->interrupt_enable & ENABLE_TRANSMIT))
        uart->transmitted = true;
    uart->interrupt_enable = value & ENABLE_MASK;
}

void uart_write(struct uart *uart, u16 port, u8 value)
{
    bool divisor = uart->line_control & LINE_DIVISOR;
    uart->status_reads = 0;
    switch (port & (UART_PORTS - 1)) {
    case REG_DATA:
        if (divisor)
            uart->divisor_low = value;
        else
            write_data(uart, value);
        break;
    case REG_INTERRUPT_ENABLE:
        if (divisor)
            uart->divisor_high = value;
        else
            write_interrupt_enable(uart, value);
        break;
    case REG_INTERRUPT_ID:
        write_fifo_control(uart, value);
        break;
    case REG_LINE_CONTROL:
        uart->line_control = value;
        break;
    case REG_MODEM_CONTROL:
        uart->modem_control = value & MODEM_MASK;
        break;
    case REG_SCRATCH:
        uart->scratch = value;
        break;
    default: /* the status registers are read-only */
        break;
    }
}
