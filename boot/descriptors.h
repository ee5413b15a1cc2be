/* SPDX-License-Identifier: MIT */
/* GDT, TSS and IDT: selectors, and loading them on a processor. */
#ifndef BOOT_DESCRIPTORS_H
#define BOOT_DESCRIPTORS_H

#include "boot/types.h"

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS 0x18

/* Interrupt stack table slots: these exceptions may arrive on a bad stack. */
#define IST_NMI 1
#define IST_DOUBLE_FAULT 2
#define IST_MACHINE_CHECK 3
#define IST_COUNT 3
#define IST_STACK_BYTES 8192

/*
 * Builds and loads GDT, TSS and IDT of processor `index`, and points GS at its struct cpu.
 * `ist_stacks` is IST_COUNT stacks of IST_STACK_BYTES.
 */
void descriptors_load(u32 index, u8 *ist_stacks);

#endif
