/* SPDX-License-Identifier: MIT */
/* What a TD learns about its processor, as far as the VMM has a say. */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include "tdx/abi/abi.h"

/* The frequency of every guest's TSC: the machine's, in the module's units and limits. */
u64 cpuid_tsc_hz(void);

/*
 * The values of a leaf that the module lets us configure (td_options.cpuid): what the machine has,
 * less what this VMM does not offer; bits outside `mask` are 0.
 */
struct cpuid_values cpuid_configure(u32 leaf, u32 subleaf, struct cpuid_values mask);

/* Of what the machine has in a leaf, what a guest may see. */
struct cpuid_values cpuid_limit(u32 leaf, u32 subleaf, struct cpuid_values has);

/* CPUID by TDVMCALL: the hypervisor's leaves; zeros for any other. */
struct cpuid_values cpuid_answer(u32 leaf, u32 subleaf);

#endif
