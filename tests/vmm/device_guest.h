/* SPDX-License-Identifier: MIT */
/*
 * A guest for devices: memory that a sanitizer watches, a PCI bus, and counters of what devices
 * did to it. The VM's device lock is the test's being alone.
 */
#ifndef TESTS_VMM_DEVICE_GUEST_H
#define TESTS_VMM_DEVICE_GUEST_H

#include "boot/types.h"
#include "vmm/device.h"
#include "vmm/pci.h"

#define GUEST_RAM 0x100000ull /* where memory starts; below is none */
#define GUEST_RAM_BYTES MIB
#define GUEST_ECAM 0xe0000000ull
#define GUEST_PATTERN 0xd5 /* what memory is filled with */
#define GUEST_VECTORS 8u
#define GUEST_PINS 24u
#define GUEST_MSI 0xfee00000ull

struct device_guest {
    u8 *ram;
    u64 private_start, private_end; /* memory that devices may not use; addresses */
    struct device_host host;
    struct pci_bus bus;
    u32 messages[GUEST_VECTORS]; /* interrupts by data */
    u32 bad_messages;
    bool lines[GUEST_PINS];
    u32 rises[GUEST_PINS];
    u32 wakes;
    u64 copies; /* how often devices reached for memory */
};

void device_guest_init(struct device_guest *guest, const char *name);
void device_guest_destroy(struct device_guest *guest);
void *guest_at(struct device_guest *guest, u64 address);

/* Accesses of the guest; they fail the test if the bus does not answer. */
u32 guest_config_read(struct device_guest *guest, u32 slot, u32 offset, u32 size);
void guest_config_write(struct device_guest *guest, u32 slot, u32 offset, u32 size, u32 value);
u64 guest_mmio_read(struct device_guest *guest, u64 address, u32 size);
void guest_mmio_write(struct device_guest *guest, u64 address, u32 size, u64 value);

#endif
