/* SPDX-License-Identifier: MIT */
#include "vmm/ports.h"

#include "vmm/acpi_tables.h"
#include "vmm/vm.h"

#define CMOS_INDEX 0x70
#define CMOS_PORTS 2
#define TEST_PORT 0xf4 /* QEMU's isa-debug-exit */
#define TEST_PORTS 4

/* A device's ports, each a byte wide; null: reads all ones, swallows writes. */
struct port_range {
    u16 first, count;
    u8 (*read)(struct vm *vm, u16 port);
    void (*write)(struct vm *vm, u16 port, u8 value);
};

static u8 uart_port_read(struct vm *vm, u16 port)
{
    u8 value = uart_read(&vm->uart, port);
    vm_update_uart_line(vm);
    return value;
}

static void uart_port_write(struct vm *vm, u16 port, u8 value)
{
    uart_write(&vm->uart, port, value);
    vm_update_uart_line(vm);
}

/* Zeros: a clock at rest. All ones would be one whose update never ends, and Linux would wait. */
static u8 zero_port_read(struct vm *vm, u16 port)
{
    (void)vm;
    (void)port;
    return 0;
}

static void sleep_port_write(struct vm *vm, u16 port, u8 value)
{
    const u8 off = ACPI_SLEEP_ENABLE | ACPI_SLEEP_TYPE_OFF << ACPI_SLEEP_TYPE_SHIFT;
    if (port == ACPI_SLEEP_CONTROL && value == off)
        vm_end(vm, VM_END_POWERED_OFF);
}

/* A test program's way out, with its verdict; of a VM alone. */
static void test_port_write(struct vm *vm, u16 port, u8 value)
{
    if (port == TEST_PORT && !vm_is_td(vm))
        vm_end(vm, value ? VM_END_TEST_FAILED : VM_END_TEST_PASSED);
}

static const struct port_range port_ranges[] = {
    {TEST_PORT, TEST_PORTS, zero_port_read, test_port_write},
    {FW_CFG_SELECTOR, 2, fw_cfg_read, fw_cfg_write},
    {CMOS_INDEX, CMOS_PORTS, zero_port_read, NULL},
    {UART_PORT, UART_PORTS, uart_port_read, uart_port_write},
    {ACPI_SLEEP_CONTROL, 2, zero_port_read, sleep_port_write},
};

static const struct port_range *port_find(u32 port)
{
    for (u32 i = 0; i < ARRAY_LENGTH(port_ranges); i++) {
        if (port >= port_ranges[i].first && port - port_ranges[i].first < port_ranges[i].count)
            return &port_ranges[i];
    }
    return NULL;
}

u32 ports_read(struct vm *vm, u16 port, u32 size_bytes)
{
    u32 value = 0;
    lock_take(&vm->lock);
    for (u32 i = 0; i < size_bytes; i++) {
        const struct port_range *range = port_find(port + i);
        u8 byte = range && range->read ? range->read(vm, (u16)(port + i)) : 0xff;
        value |= (u32)byte << (8 * i);
    }
    lock_release(&vm->lock);
    return value;
}

void ports_write(struct vm *vm, u16 port, u32 size_bytes, u32 value)
{
    lock_take(&vm->lock);
    for (u32 i = 0; i < size_bytes; i++) {
        const struct port_range *range = port_find(port + i);
        if (range && range->write)
            range->write(vm, (u16)(port + i), (u8)(value >> (8 * i)));
    }
    lock_release(&vm->lock);
}
