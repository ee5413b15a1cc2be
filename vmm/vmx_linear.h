/* SPDX-License-Identifier: MIT */
/*
 * A VM's memory by linear addresses, through the page tables of the vCPU whose VMCS is current.
 * Permissions are not looked at.
 */
#ifndef VMM_VMX_LINEAR_H
#define VMM_VMX_LINEAR_H

#include "boot/types.h"

struct vcpu;

/* How many of the bytes were there. */
u32 vmx_linear_read(struct vcpu *vcpu, u64 linear, void *bytes, u32 len_bytes);
u32 vmx_linear_write(struct vcpu *vcpu, u64 linear, const void *bytes, u32 len_bytes);

#endif
