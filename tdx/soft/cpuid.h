/* SPDX-License-Identifier: MIT */
/* CPUID of a TD at run time. (Configuration at TDH.MNG.INIT: tdx/soft/objects.h.) */
#ifndef TDX_SOFT_CPUID_H
#define TDX_SOFT_CPUID_H

#include "tdx/soft/run.h"

/* The value decided, without what depends on the vCPU; zeros if there is none. */
struct cpuid_values cpuid_stored(const struct tdcs_measured *measured, u32 leaf, u32 subleaf);

/* A CPUID exit. */
enum outcome cpuid_handle(struct run *run);

#endif
