/* SPDX-License-Identifier: MIT */
/* The MSRs of a VM, as vmm/vmx_msrs.def lists them. */
#ifndef VMM_VMX_MSRS_H
#define VMM_VMX_MSRS_H

#include "boot/error.h"
#include "boot/types.h"

struct vcpu;

/* The bitmap of MSRs that are no exit: the same page for every VM. */
const u8 *vmx_msr_bitmap(void);

/* ERR_INVALID: #GP. */
enum error vmx_msr_read(struct vcpu *vcpu, u32 index, u64 *value);
enum error vmx_msr_write(struct vcpu *vcpu, u32 index, u64 value);

#endif
