/* SPDX-License-Identifier: MIT */
/*
 * An I/O APIC with 24 pins, at LAYOUT_IOAPIC. A TD's end of interrupt is not visible to the VMM,
 * so that every pin is edge-triggered whatever its entry says. Guarded by the VM's lock.
 */
#ifndef VMM_IOAPIC_H
#define VMM_IOAPIC_H

#include "boot/types.h"
#include "vmm/interrupt.h"

#define IOAPIC_PINS 24
#define IOAPIC_WINDOW_BYTES 0x20

struct ioapic {
    u32 selected, id;
    u64 entries[IOAPIC_PINS];
    u32 levels;  /* bit a pin: the line's level */
    u32 pending; /* bit a pin: an edge came while the entry was masked */
};

void ioapic_init(struct ioapic *ioapic);
/* `offset` is from LAYOUT_IOAPIC. */
u32 ioapic_read(struct ioapic *ioapic, u64 offset);
/* Unmasking a pin whose edge waits sends its interrupt: *interrupt, else INTERRUPT_NONE. */
void ioapic_write(struct ioapic *ioapic, u64 offset, u32 value, struct interrupt *interrupt);
/* A line's level; a rising edge of an unmasked pin becomes *interrupt. */
void ioapic_set_line(struct ioapic *ioapic, u32 pin, bool level, struct interrupt *interrupt);

#endif
