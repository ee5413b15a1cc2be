/* SPDX-License-Identifier: MIT */
/*
 * What makes a VM's vCPU look up from its guest: interrupts, its timer, INIT and start-up.
 *
 * Whoever leaves something to look at raises `attention` behind it, and kicks the processor if it
 * is another one. The vCPU lowers it and looks, before each entry, with interrupts disabled: what
 * comes after that look kicks it out of the guest again.
 */
#ifndef VMM_VMX_INTERRUPT_H
#define VMM_VMX_INTERRUPT_H

#include "boot/types.h"

struct vcpu;

/* From any processor. True if the vCPU has something new to look at. */
bool vmx_post(struct vcpu *vcpu, u8 vector);
/* VLAPIC_NMI... */
void vmx_signal(struct vcpu *vcpu, u32 signal);

/*
 * Looks, and prepares the entry: what may be delivered is injected, for what may not yet be a
 * window is opened. False: the vCPU sleeps. Its VMCS is current.
 */
bool vmx_attend(struct vcpu *vcpu);

/* The host's TSC at which its timer expires; 0: never. */
u64 vmx_timer_due(const struct vcpu *vcpu);

/* After an exit in the middle of an event's delivery, once its cause is gone: delivered again. */
void vmx_deliver_again(struct vcpu *vcpu);

/* Nothing but NMI, INIT and start-up can wake it; of a vCPU that sleeps. */
bool vmx_is_blocked(const struct vcpu *vcpu);

#endif
