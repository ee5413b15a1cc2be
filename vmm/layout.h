/* SPDX-License-Identifier: MIT */
/*
 * The guest physical address space of a TD.
 *
 *   0x0000_0000  RAM, up to LAYOUT_LOW_RAM_END: boot parameters, command line
 *   0x0009_f000  accepted zeros, but no RAM in the memory map: old firmware scans find nothing
 *   0x000e_0000  ACPI tables (type 3 in the memory map: Linux maps them as private)
 *   0x000e_4000  wake-up mailbox of the other vCPUs (type 4, for the same reason)
 *   0x0010_0000  RAM, up to the guest's memory size, at most LAYOUT_MEMORY_MAX
 *                  bzImage: at its preferred address; ELF: where its segments say;
 *                  flat binary: at LAYOUT_FLAT_IMAGE; initrd: as high as it goes
 *   0xfec0_0000  I/O APIC (reached through shared GPAs, by TDVMCALL)
 *   0xfee0_0000  the local APIC of a VM's vCPU, in xAPIC mode
 *   0xffff_0000  the firmware window: page tables, stack, parameters, boot shim; private pages,
 *                in no memory map, there for good (parked vCPUs run on them)
 */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#include "boot/types.h"

#define LAYOUT_BOOT_PARAMS 0x10000ull
#define LAYOUT_COMMAND_LINE 0x11000ull
#define LAYOUT_LOW_RAM_END 0x9f000ull
#define LAYOUT_ACPI 0xe0000ull
#define LAYOUT_ACPI_BYTES PAGE_BYTES
#define LAYOUT_MAILBOX 0xe4000ull
#define LAYOUT_HIGH_RAM MIB
#define LAYOUT_FLAT_IMAGE MIB

#define LAYOUT_MEMORY_MIN (2 * MIB)
#define LAYOUT_MEMORY_MAX (2 * GIB)

#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull

/* The firmware window; vmm/shim.asm is linked for these addresses. */
#define LAYOUT_FIRMWARE 0xffff0000ull
#define LAYOUT_PAGE_TABLES LAYOUT_FIRMWARE
#define LAYOUT_PAGE_TABLES_COUNT 6 /* PML4, PDPT, and a directory for each of 4 GiB */
#define LAYOUT_STACK 0xffff8000ull
#define LAYOUT_STACK_TOP (LAYOUT_STACK + PAGE_BYTES)
#define LAYOUT_SHIM_PARAMETERS 0xffffe000ull
#define LAYOUT_SHIM 0xfffff000ull
#define LAYOUT_FIRMWARE_END 0x100000000ull

#endif
