/* SPDX-License-Identifier: MIT */
/* Interrupts of the machine, as the VMM sees them. */
#ifndef BOOT_INTERRUPTS_H
#define BOOT_INTERRUPTS_H

#include "boot/types.h"

/*
 * Handles an interrupt that VMX acknowledged for us ("Acknowledge interrupt on exit"): what its
 * IDT handler would do, end of interrupt included.
 */
void interrupt_handle(u8 vector);
/* Runs the NMI handler as if the NMI had arrived now, and unblocks NMIs with its IRET. */
void nmi_handle(void);
/* Opens the interrupt window for one instruction: sti; nop; cli. */
void interrupts_window(void);
/* Sleeps until an interrupt arrives; entered and left with interrupts disabled. */
void interrupts_wait(void);

#endif
