/* SPDX-License-Identifier: MIT */
#include "vmm/pci.h"

#include "boot/assert.h"

#define ADDRESS_ENABLE (1u << 31)
#define ADDRESS_WRITABLE 0x80fffffcu
#define ECAM_FUNCTION_SHIFT 12
#define FUNCTIONS 8u
#define HEADER_INTA 1
#define MSIX_CAPABILITY_BYTES 12
#define MSIX_CONTROL 2 /* offsets in the capability */
#define MSIX_TABLE 4
#define MSIX_PENDING 8

/* Nothing drives the bus. */
static u64 all_ones(u32 size)
{
    return size >= sizeof(u64) ? ~0ull : (1ull << (8 * size)) - 1;
}

static bool overlaps(u32 start, u32 bytes, u32 other, u32 other_bytes)
{
    return start < other + other_bytes && other < start + bytes;
}

u32 pci_config_get(const struct pci_device *device, u32 offset, u32 size)
{
    u32 value = 0;
    memcpy(&value, device->config + offset, size);
    return value;
}

void pci_config_set(struct pci_device *device, u32 offset, u32 size, u32 value)
{
    memcpy(device->config + offset, &value, size);
}

void pci_set_writable(struct pci_device *device, u32 offset, u32 size, u32 mask)
{
    memcpy(device->writable + offset, &mask, size);
}

void pci_device_init(struct pci_device *device, const struct device_host *host,
                     const struct pci_ops *ops, struct pci_id id)
{
    *device = (struct pci_device){.host = host, .ops = ops, .capability_end = PCI_HEADER_BYTES};
    pci_config_set(device, PCI_VENDOR, 2, id.vendor);
    pci_config_set(device, PCI_DEVICE, 2, id.device);
    pci_config_set(device, PCI_REVISION, 1, id.revision);
    pci_config_set(device, PCI_CLASS, 3, id.class);
    pci_config_set(device, PCI_SUBSYSTEM_VENDOR, 2, id.vendor);
    pci_config_set(device, PCI_SUBSYSTEM, 2, id.device);
    pci_set_writable(device, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
    pci_set_writable(device, PCI_INTERRUPT_LINE, 1, 0xff);
}

/* Its size is what stays zero of a write of all ones. */
void pci_set_bar(struct pci_device *device, u32 bytes)
{
    device->bar_bytes = bytes;
    pci_set_writable(device, PCI_BAR_0, 4, ~(bytes - 1));
}

u32 pci_add_capability(struct pci_device *device, u8 id, u32 len)
{
    u32 offset = (u32)align_up(device->capability_end, sizeof(u32));
    ASSERT(offset + len <= PCI_CONFIG_BYTES);
    pci_config_set(device, offset, 1, id);
    if (device->capability_last)
        pci_config_set(device, device->capability_last + 1, 1, offset);
    else
        pci_config_set(device, PCI_CAPABILITIES, 1, offset);
    pci_config_set(device, PCI_STATUS, 2, PCI_STATUS_CAPABILITIES);
    device->capability_last = offset;
    device->capability_end = offset + len;
    return offset;
}

void pci_add_msix(struct pci_device *device, u32 vectors, u32 table_offset, u32 pending_offset)
{
    ASSERT(vectors && vectors <= MSIX_VECTORS_MAX);
    u32 offset = pci_add_capability(device, PCI_CAPABILITY_MSIX, MSIX_CAPABILITY_BYTES);
    pci_config_set(device, offset + MSIX_CONTROL, 2, vectors - 1);
    pci_config_set(device, offset + MSIX_TABLE, 4, table_offset); /* BAR 0 in the low bits */
    pci_config_set(device, offset + MSIX_PENDING, 4, pending_offset);
    pci_set_writable(device, offset + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
    device->msix_capability = offset;
    msix_init(&device->msix, device->host, vectors);
}

bool pci_is_master(const struct pci_device *device)
{
    return pci_config_get(device, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
}

/* The status bit tells of the interrupt whether it reaches the pin or not. */
void pci_set_interrupt(struct pci_device *device, bool level)
{
    u32 status = pci_config_get(device, PCI_STATUS, 2) & ~PCI_STATUS_INTERRUPT;
    bool silent = pci_config_get(device, PCI_COMMAND, 2) & PCI_COMMAND_NO_INTX;
    pci_config_set(device, PCI_STATUS, 2, status | (level ? PCI_STATUS_INTERRUPT : 0));
    device->interrupt = level;
    if (pci_config_get(device, PCI_INTERRUPT_PIN, 1))
        device->host->line(device->host->context, device->pin, level && !silent);
}

/* --- Bus ------------------------------------------------------------------------------------- */

void pci_bus_init(struct pci_bus *bus, const struct device_host *host, gpa_t ecam)
{
    static const struct pci_ops none;
    static const struct pci_id id = {.vendor = 0x1b36, .device = 0x0008, .class = 0x060000};
    *bus = (struct pci_bus){.ecam = ecam};
    pci_device_init(&bus->bridge, host, &none, id);
    bus->slots[0] = &bus->bridge;
}

void pci_add(struct pci_bus *bus, struct pci_device *device, u32 slot, gpa_t bar, u32 pin)
{
    ASSERT(slot < PCI_SLOTS && !bus->slots[slot]);
    ASSERT(bar.raw <= ~0u && device->bar_bytes && is_aligned(bar.raw, device->bar_bytes));
    device->slot = slot;
    device->pin = pin;
    pci_config_set(device, PCI_BAR_0, 4, (u32)bar.raw);
    pci_config_set(device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    pci_config_set(device, PCI_INTERRUPT_LINE, 1, pin);
    pci_config_set(device, PCI_INTERRUPT_PIN, 1, HEADER_INTA);
    bus->slots[slot] = device;
}

void pci_poll(struct pci_bus *bus)
{
    for (u32 i = 0; i < PCI_SLOTS; i++)
        if (bus->slots[i] && bus->slots[i]->ops->poll)
            bus->slots[i]->ops->poll(bus->slots[i]);
}

/* --- Configuration space --------------------------------------------------------------------- */

static bool size_is_whole(u32 offset, u32 size)
{
    return (size == 1 || size == 2 || size == 4) && is_aligned(offset, size);
}

static u32 config_read(struct pci_device *device, u32 offset, u32 size)
{
    if (offset >= PCI_CONFIG_BYTES) /* no extended capabilities */
        return 0;
    if (device->ops->config_read)
        device->ops->config_read(device, offset, size);
    return pci_config_get(device, offset, size);
}

static void config_write(struct pci_device *device, u32 offset, u32 size, u32 value)
{
    if (offset >= PCI_CONFIG_BYTES)
        return;
    u32 mask = 0;
    memcpy(&mask, device->writable + offset, size);
    pci_config_set(device, offset, size,
                   (pci_config_get(device, offset, size) & ~mask) | (value & mask));
    if (overlaps(offset, size, PCI_COMMAND, 2))
        pci_set_interrupt(device, device->interrupt);
    u32 control = device->msix_capability + MSIX_CONTROL;
    if (device->msix_capability && overlaps(offset, size, control, 2))
        msix_set_control(&device->msix, (u16)pci_config_get(device, control, 2));
    if (device->ops->config_written)
        device->ops->config_written(device, offset, size);
}

/* The device of `function`, which is 8 * slot + function; null: none there. */
static struct pci_device *device_of(struct pci_bus *bus, u32 function)
{
    return function % FUNCTIONS ? NULL : bus->slots[function / FUNCTIONS];
}

static struct pci_device *device_of_port(struct pci_bus *bus)
{
    u32 bus_number = bus->address >> 16 & 0xff;
    if (!(bus->address & ADDRESS_ENABLE) || bus_number)
        return NULL;
    return device_of(bus, bus->address >> 8 & 0xff);
}

/* True if the access is of the bus's ports; *offset is then what it means in a device's space. */
static bool port_is_data(const struct pci_bus *bus, u16 port, u32 size, u32 *offset)
{
    *offset = (bus->address & 0xfc) | (port & 3);
    return port >= PCI_PORT_DATA && port + size <= PCI_PORT_DATA + 4u;
}

bool pci_port_read(struct pci_bus *bus, u16 port, u32 size, u32 *value)
{
    u32 offset;
    if (port == PCI_PORT_ADDRESS && size == 4) {
        *value = bus->address;
        return true;
    }
    if (!port_is_data(bus, port, size, &offset))
        return false;
    struct pci_device *device = device_of_port(bus);
    *value = device && size_is_whole(offset, size) ? config_read(device, offset, size)
                                                   : (u32)all_ones(size);
    return true;
}

bool pci_port_write(struct pci_bus *bus, u16 port, u32 size, u32 value)
{
    u32 offset;
    if (port == PCI_PORT_ADDRESS && size == 4) {
        bus->address = value & ADDRESS_WRITABLE;
        return true;
    }
    if (!port_is_data(bus, port, size, &offset))
        return false;
    struct pci_device *device = device_of_port(bus);
    if (device && size_is_whole(offset, size))
        config_write(device, offset, size, value);
    return true;
}

/* --- Memory ---------------------------------------------------------------------------------- */

/* Where an access goes: ECAM if it is in there, else the first device whose BAR holds its start. */
struct target {
    struct pci_device *device; /* null, with `hit`: an empty place of the bus */
    bool hit, is_config;
    u32 offset;
};

static struct target target_of(struct pci_bus *bus, gpa_t address)
{
    u64 offset = address.raw - bus->ecam.raw;
    if (offset < PCI_ECAM_BYTES) {
        u32 inside = (u32)(offset & PAGE_MASK);
        return (struct target){.device = device_of(bus, (u32)(offset >> ECAM_FUNCTION_SHIFT)),
                               .hit = true,
                               .is_config = true,
                               .offset = inside};
    }
    for (u32 i = 0; i < PCI_SLOTS; i++) {
        struct pci_device *device = bus->slots[i];
        if (!device || !(pci_config_get(device, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY))
            continue;
        offset = address.raw - pci_config_get(device, PCI_BAR_0, 4);
        if (offset < device->bar_bytes)
            return (struct target){.device = device, .hit = true, .offset = (u32)offset};
    }
    return (struct target){0};
}

/* One access of up to 4 bytes, inside its target. */
static u32 target_read(const struct target *target, u32 offset, u32 size)
{
    return target->is_config ? config_read(target->device, offset, size)
                             : target->device->ops->bar_read(target->device, offset, size);
}

static void target_write(const struct target *target, u32 offset, u32 size, u32 value)
{
    if (target->is_config)
        config_write(target->device, offset, size, value);
    else
        target->device->ops->bar_write(target->device, offset, size, value);
}

/*
 * True if a device answers; 8 bytes are two accesses of 4. What is aligned does not cross an end:
 * windows are aligned, and larger.
 */
static bool target_takes(const struct target *target, u32 size)
{
    return target->device &&
           (size == 8 ? is_aligned(target->offset, 8) : size_is_whole(target->offset, size));
}

bool pci_mmio_read(struct pci_bus *bus, gpa_t address, u32 size, u64 *value)
{
    struct target target = target_of(bus, address);
    *value = all_ones(size);
    if (!target_takes(&target, size))
        return target.hit;
    if (size <= 4) {
        *value = target_read(&target, target.offset, size);
    } else {
        *value = target_read(&target, target.offset, 4);
        *value |= (u64)target_read(&target, target.offset + 4, 4) << 32;
    }
    return true;
}

bool pci_mmio_write(struct pci_bus *bus, gpa_t address, u32 size, u64 value)
{
    struct target target = target_of(bus, address);
    if (!target_takes(&target, size))
        return target.hit;
    target_write(&target, target.offset, size <= 4 ? size : 4, (u32)value);
    if (size == 8)
        target_write(&target, target.offset + 4, 4, (u32)(value >> 32));
    return true;
}
