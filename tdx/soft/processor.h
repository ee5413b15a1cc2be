/* SPDX-License-Identifier: MIT */
/*
 * The second half of the hardware seam: the processor's own state that VMX does not switch, and
 * what the processor says of itself. A host build replaces tdx/soft/processor.c.
 */
#ifndef TDX_SOFT_PROCESSOR_H
#define TDX_SOFT_PROCESSOR_H

#include "tdx/abi/abi.h"

struct tdvps;

struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf);
u64 processor_msr_read(u32 index);

/* Features of the extended state that the module can switch: a mask as XCR0 has it. */
u64 processor_xfeatures(void);

/* Extended state (XCR0 as the guest set it), MSRs, CR2 and debug registers become the guest's. */
void processor_state_load(struct tdvps *vcpu, u64 xfam);
/*
 * The guest's are saved, and what the VMM finds instead is their reset state. XMM registers of
 * `xmm_mask` keep the guest's values (TDG.VP.VMCALL).
 */
void processor_state_save(struct tdvps *vcpu, u64 xfam, u16 xmm_mask);
/* XMM registers of `xmm_mask` go from the processor into the guest's saved state. */
void processor_xmm_take(struct tdvps *vcpu, u16 xmm_mask);
/* The guest's extended state as after a reset. */
void processor_state_reset(struct tdvps *vcpu);

void processor_xcr0_write(u64 value);
/* IA32_XSS; nothing on a processor without XSAVES. */
void processor_xss_write(u64 value);
void processor_cr2_write(u64 value);

/* Writes the host-state fields of the current VMCS: this processor, the module's address space. */
void processor_host_fields_write(void);

/*
 * Acknowledges an interrupt that waits, as a VM exit with "acknowledge interrupt on exit" would:
 * its vector, in service and without an end of interrupt; PROCESSOR_NO_INTERRUPT if none waits.
 */
#define PROCESSOR_NO_INTERRUPT 0xffffffffu
u32 processor_interrupt_acknowledge(void);
/* Ends the interrupt in service: posted-interrupt processing does so by itself. */
void processor_interrupt_end(void);

#endif
