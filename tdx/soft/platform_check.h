/* SPDX-License-Identifier: MIT */
/* Answers are completion statuses; 0: as it has to be. On the processor that runs now. */
#ifndef TDX_SOFT_PLATFORM_CHECK_H
#define TDX_SOFT_PLATFORM_CHECK_H

#include "boot/types.h"

/* SYS.INIT: samples the MSRs that every processor has to have alike, and checks all. */
u64 platform_check(void);
/* SYS.LP.INIT: this processor is as SYS.INIT found its own. */
u64 platform_lp_check(void);

/* What a VMM could still change: CPUID cut short, and the TSC moved since SYS.INIT. */
u64 cpuid_limit_check(void);
u64 tsc_adjust_check(void);

#endif
