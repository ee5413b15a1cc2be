/* SPDX-License-Identifier: MIT */
/*
 * PCI bus 0 of one guest: a host bridge in slot 0, and devices of one function with one 32-bit
 * memory BAR and, at will, MSI-X. Configuration space is reached by I/O ports 0xcf8 and 0xcfc, and
 * by an ECAM window. The VMM places the BARs; the guest may move them, and decoding follows what
 * the configuration space says at the time of an access.
 *
 * Called with the VM's device lock held.
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include "boot/types.h"
#include "vmm/device.h"
#include "vmm/msix.h"

#define PCI_SLOTS 32u
#define PCI_CONFIG_BYTES 256u
#define PCI_ECAM_BYTES MIB /* of bus 0 */
#define PCI_PORT_ADDRESS 0xcf8
#define PCI_PORT_DATA 0xcfc

/* Configuration space: type 0 header. */
#define PCI_VENDOR 0x00
#define PCI_DEVICE 0x02
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_REVISION 0x08
#define PCI_CLASS 0x09 /* programming interface, sub-class, class */
#define PCI_BAR_0 0x10
#define PCI_SUBSYSTEM_VENDOR 0x2c
#define PCI_SUBSYSTEM 0x2e
#define PCI_CAPABILITIES 0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_HEADER_BYTES 0x40

#define PCI_COMMAND_MEMORY 0x0002u
#define PCI_COMMAND_MASTER 0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u
#define PCI_STATUS_INTERRUPT 0x0008u
#define PCI_STATUS_CAPABILITIES 0x0010u

#define PCI_CAPABILITY_VENDOR 0x09
#define PCI_CAPABILITY_MSIX 0x11

struct pci_device;

/* What a device does beyond its configuration space. Sizes are 1, 2 or 4; any may be null. */
struct pci_ops {
    /* The access is inside the BAR; its offset may be odd. */
    u32 (*bar_read)(struct pci_device *device, u32 offset, u32 size);
    void (*bar_write)(struct pci_device *device, u32 offset, u32 size, u32 value);
    /* Before a read, and after a write, of [offset, offset + size) of the configuration space. */
    void (*config_read)(struct pci_device *device, u32 offset, u32 size);
    void (*config_written)(struct pci_device *device, u32 offset, u32 size);
    /* Goes on with what was left, or came from outside. */
    void (*poll)(struct pci_device *device);
};

struct pci_id {
    u16 vendor, device;
    u8 revision;
    u32 class; /* class 23:16, sub-class 15:8, programming interface 7:0 */
};

struct pci_device {
    const struct device_host *host;
    const struct pci_ops *ops;
    u32 slot, pin; /* of the I/O APIC: edge-triggered, so no two devices share one */
    u32 bar_bytes; /* a power of two; 0: no BAR */
    bool interrupt;
    u32 capability_last, capability_end; /* offsets */
    u32 msix_capability;                 /* 0: none */
    struct msix msix;
    u8 config[PCI_CONFIG_BYTES];
    u8 writable[PCI_CONFIG_BYTES]; /* masks of what the guest may change */
};

struct pci_bus {
    gpa_t ecam;
    u32 address; /* port 0xcf8 */
    struct pci_device *slots[PCI_SLOTS];
    struct pci_device bridge;
};

void pci_device_init(struct pci_device *device, const struct device_host *host,
                     const struct pci_ops *ops, struct pci_id id);
/* `bytes`: a power of two from 16 on. */
void pci_set_bar(struct pci_device *device, u32 bytes);
/*
 * Appends a capability of `len` bytes, its id and next pointer included, all read-only; returns its
 * offset.
 */
u32 pci_add_capability(struct pci_device *device, u8 id, u32 len);
/* The guest may change the bits of `mask` there. */
void pci_set_writable(struct pci_device *device, u32 offset, u32 size, u32 mask);
/* Table and pending bits are at these offsets of the BAR, which the device dispatches itself. */
void pci_add_msix(struct pci_device *device, u32 vectors, u32 table_offset, u32 pending_offset);

/* `ecam`: aligned to PCI_ECAM_BYTES. */
void pci_bus_init(struct pci_bus *bus, const struct device_host *host, gpa_t ecam);
/*
 * Puts an initialised device in a slot other than 0 that is free, with its BAR at `bar`, naturally
 * aligned, and its interrupt at `pin`. Memory decoding is on, as firmware leaves it.
 */
void pci_add(struct pci_bus *bus, struct pci_device *device, u32 slot, gpa_t bar, u32 pin);

/*
 * Accesses of a guest. True: this bus answers there, also where no device is (all ones, as on a
 * bus). Any size and offset may be asked for.
 */
bool pci_port_read(struct pci_bus *bus, u16 port, u32 size, u32 *value);
bool pci_port_write(struct pci_bus *bus, u16 port, u32 size, u32 value);
bool pci_mmio_read(struct pci_bus *bus, gpa_t address, u32 size, u64 *value);
bool pci_mmio_write(struct pci_bus *bus, gpa_t address, u32 size, u64 value);

/* Lets every device go on; see device_host.wake. */
void pci_poll(struct pci_bus *bus);

/* For devices. */
u32 pci_config_get(const struct pci_device *device, u32 offset, u32 size);
void pci_config_set(struct pci_device *device, u32 offset, u32 size, u32 value);
bool pci_is_master(const struct pci_device *device);
/* The level of the device's interrupt; it reaches the pin if the guest lets it. */
void pci_set_interrupt(struct pci_device *device, bool level);

#endif
