/* SPDX-License-Identifier: MIT */
/* MSRs of a TD that the module leaves to the VMM. */
#ifndef VMM_MSRS_H
#define VMM_MSRS_H

#include "boot/error.h"
#include "boot/types.h"

struct vcpu;

/* ERR_INVALID: the guest gets a refusal, which becomes its #GP. */
enum error msr_read(struct vcpu *vcpu, u32 msr, u64 *value);
enum error msr_write(struct vcpu *vcpu, u32 msr, u64 value);

#endif
