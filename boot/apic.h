/* SPDX-License-Identifier: MIT */
/* This processor's own local APIC, in xAPIC or x2APIC mode, whichever it was found to support. */
#ifndef BOOT_APIC_H
#define BOOT_APIC_H

#include "boot/types.h"

void apic_enable(void);
u32 apic_id(void);
void apic_end_of_interrupt(void);
void apic_send(u32 target_apic_id, u8 vector);
void apic_send_init(u32 target_apic_id);
void apic_send_startup(u32 target_apic_id, u8 page);
/* Stops every other processor wherever it is. */
void apic_send_nmi_to_others(void);
/* Fires VECTOR_TIMER when the TSC reaches `tsc`; 0 disarms. */
void apic_timer_arm(u64 tsc);
/* True if an interrupt waits in the IRR that IF=0 holds back. */
bool apic_interrupt_is_pending(void);

#endif
