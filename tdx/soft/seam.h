/* SPDX-License-Identifier: MIT */
/*
 * The hardware seam of the software module: all that a host build replaces (tests/host/soft/).
 * tdx/soft/seam.c implements it on the machine.
 */
#ifndef TDX_SOFT_SEAM_H
#define TDX_SOFT_SEAM_H

#include "tdx/abi/abi.h"

struct tdvps;

/* The page at a physical address, KeyID bits stripped. Valid for that 4 KiB page. */
void *seam_page(u64 address);
/* Index of the logical processor that runs the module now. */
u32 seam_lp(void);
/* An interrupt waits for the VMM (IA32_INTR_PENDING with the VMM's RFLAGS.IF). */
bool seam_interrupt_is_pending(void);
/* An interrupt waits that makes a guest exit, whatever the VMM's RFLAGS.IF is. */
bool seam_guest_is_interrupted(void);
bool seam_random(u64 *value);
u64 seam_tsc(void);
void seam_flush_page(u64 address);

/* VMCS of a vCPU: page 1 of its TDVPS. The vCPU must be the current one for read and write. */
void seam_vmcs_clear(struct tdvps *vcpu);
void seam_vmcs_load(struct tdvps *vcpu);
u64 seam_vmcs_read(u32 field);
void seam_vmcs_write(u32 field, u64 value);
void seam_invept(u64 eptp);

/*
 * Runs the guest of the loaded VMCS with the vCPU's registers (tdvps->gpr, extended state and
 * MSRs are switched by the caller) until its next VM exit. False if VM entry failed; the exit
 * fields are in the VMCS.
 */
bool seam_run_guest(struct tdvps *vcpu);

#endif
