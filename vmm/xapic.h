/* SPDX-License-Identifier: MIT */
/*
 * The local APIC of a VM's vCPU as memory, where it is in xAPIC mode: the registers of vmm/lapic.h
 * and vmm/vlapic.h at their offsets from LAYOUT_LAPIC, and those that x2APIC mode does not have.
 */
#ifndef VMM_XAPIC_H
#define VMM_XAPIC_H

#include "vmm/lapic.h"
#include "vmm/vlapic.h"

/* `offset` is of 4 bytes, a multiple of 16; what is no register reads 0 and swallows writes. */
u32 xapic_read(const struct lapic *lapic, const struct vlapic *apic, u32 offset);
/* What the write sends is in *interrupt (INTERRUPT_NONE: nothing). */
void xapic_write(struct lapic *lapic, struct vlapic *apic, u32 offset, u32 value,
                 struct interrupt *interrupt);

#endif
