/* SPDX-License-Identifier: MIT */
/* TDVMCALLs (GHCI): what a TD asks the VMM for. */
#ifndef VMM_VMCALL_H
#define VMM_VMCALL_H

#include "boot/types.h"

struct vcpu;

/* What a guest finds in R10. */
#define VMCALL_SUCCESS 0ull
#define VMCALL_RETRY 1ull
#define VMCALL_INVALID_OPERAND 0x8000000000000000ull
#define VMCALL_ALIGN_ERROR 0x8000000000000002ull
#define VMCALL_SUBFUNC_UNSUPPORTED 0x8000000000000003ull

/*
 * Answers the TDVMCALL in vcpu->td.regs in place: R10 and the output registers are what the next
 * entry hands to the guest. Counts it. HLT only becomes vcpu->wish.
 */
void vmcall_handle(struct vcpu *vcpu);

const char *vmcall_name(u32 row);

#endif
