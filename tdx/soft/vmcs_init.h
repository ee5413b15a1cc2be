/* SPDX-License-Identifier: MIT */
/* The TD's VMCS: controls, and the state of a vCPU that has never run. */
#ifndef TDX_SOFT_VMCS_INIT_H
#define TDX_SOFT_VMCS_INIT_H

#include "tdx/soft/td.h"

/*
 * True if the processor's VMX has every control that the module cannot do without; else the
 * capability MSR that says otherwise, and the controls missing.
 */
struct vmcs_missing {
    u32 msr;
    u32 controls;
};
bool vmcs_controls_are_supported(struct vmcs_missing *missing);

/* Fills the current VMCS, a cleared one. `gpr` and the extended state are not in it. */
void vmcs_init(const struct tdvps *vcpu, const struct tdr *tdr, const struct tdcs *tdcs);

/* CR0 and CR4 bits that the guest cannot change without a VM exit. */
u64 vmcs_cr0_mask(void);
u64 vmcs_cr4_mask(const struct tdcs *tdcs);
/* Bits of CR4 for features that this TD does not have. */
u64 vmcs_cr4_refused(const struct tdcs *tdcs);

/*
 * Ticks of the preemption timer after which a guest is interrupted to see whether an external
 * interrupt waits: some processors (and emulators of them) lose the exit when the guest was
 * entered with interrupts disabled. It bounds the delay of such an interrupt; a smaller value
 * costs more exits than the interrupts it serves.
 */
#define INTERRUPT_POLL_TICKS 1000000
bool vmcs_timer_is_supported(void);

#endif
