/* SPDX-License-Identifier: MIT */
#include "tests/vmm/device_guest.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"

static u8 *memory_of_device(struct device_guest *guest, gpa_t address, u64 len_bytes)
{
    u64 offset = address.raw - GUEST_RAM;
    guest->copies++;
    assert_true(len_bytes > 0);
    if (offset >= GUEST_RAM_BYTES || len_bytes > GUEST_RAM_BYTES - offset)
        return NULL;
    if (address.raw < guest->private_end && address.raw + len_bytes > guest->private_start)
        return NULL;
    return guest->ram + offset;
}

static bool read_memory(void *context, gpa_t address, void *to, u64 len_bytes)
{
    const u8 *from = memory_of_device(context, address, len_bytes);
    if (from)
        guest_copy(to, from, len_bytes);
    return from;
}

static bool write_memory(void *context, gpa_t address, const void *from, u64 len_bytes)
{
    u8 *to = memory_of_device(context, address, len_bytes);
    if (to)
        guest_copy(to, from, len_bytes);
    return to;
}

static void message(void *context, u64 address, u32 data)
{
    struct device_guest *guest = context;
    if (address == GUEST_MSI && data < GUEST_VECTORS)
        guest->messages[data]++;
    else
        guest->bad_messages++;
}

static void line(void *context, u32 pin, bool level)
{
    struct device_guest *guest = context;
    assert_true(pin < GUEST_PINS);
    guest->rises[pin] += level && !guest->lines[pin];
    guest->lines[pin] = level;
}

static void wake(void *context)
{
    ((struct device_guest *)context)->wakes++;
}

void device_guest_init(struct device_guest *guest, const char *name)
{
    *guest = (struct device_guest){.ram = malloc(GUEST_RAM_BYTES)};
    memset(guest->ram, GUEST_PATTERN, GUEST_RAM_BYTES);
    guest->host = (struct device_host){.guest = name,
                                       .dma = {read_memory, write_memory},
                                       .msi = message,
                                       .line = line,
                                       .wake = wake,
                                       .context = guest};
    pci_bus_init(&guest->bus, &guest->host, gpa(GUEST_ECAM));
}

void device_guest_destroy(struct device_guest *guest)
{
    free(guest->ram);
    guest->ram = NULL;
}

void *guest_at(struct device_guest *guest, u64 address)
{
    assert_true(address - GUEST_RAM < GUEST_RAM_BYTES);
    return guest->ram + (address - GUEST_RAM);
}

static u16 select_register(struct device_guest *guest, u32 slot, u32 offset)
{
    u32 address = 1u << 31 | slot << 11 | (offset & 0xfc);
    assert_true(pci_port_write(&guest->bus, PCI_PORT_ADDRESS, 4, address));
    return (u16)(PCI_PORT_DATA + offset % 4);
}

u32 guest_config_read(struct device_guest *guest, u32 slot, u32 offset, u32 size)
{
    u32 value;
    assert_true(pci_port_read(&guest->bus, select_register(guest, slot, offset), size, &value));
    return value;
}

void guest_config_write(struct device_guest *guest, u32 slot, u32 offset, u32 size, u32 value)
{
    assert_true(pci_port_write(&guest->bus, select_register(guest, slot, offset), size, value));
}

u64 guest_mmio_read(struct device_guest *guest, u64 address, u32 size)
{
    u64 value;
    assert_true(pci_mmio_read(&guest->bus, gpa(address), size, &value));
    return value;
}

void guest_mmio_write(struct device_guest *guest, u64 address, u32 size, u64 value)
{
    assert_true(pci_mmio_write(&guest->bus, gpa(address), size, value));
}
