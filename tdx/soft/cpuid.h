/* SPDX-License-Identifier: MIT */
/* CPUID of a TD at run time. (Configuration at TDH.MNG.INIT: tdx/soft/objects.h.) */
#ifndef TDX_SOFT_CPUID_H
#define TDX_SOFT_CPUID_H

#include "tdx/soft/run.h"

#define CPUID_NO_SUBLEAF ~0u

/* The leaves that metadata fields speak of, by the index that the ABI gives them. */
struct cpuid_field {
    u32 leaf, subleaf; /* CPUID_NO_SUBLEAF: one value for all of them */
    bool raises_ve;
};
u32 cpuid_field_count(void);
const struct cpuid_field *cpuid_field(u32 index); /* null: there is none */
/* cpuid_field_count() if there is none. */
u32 cpuid_field_index(u32 leaf, u32 subleaf);

/* The value decided, without what depends on the vCPU; zeros if there is none. */
struct cpuid_values cpuid_stored(const struct tdcs_measured *measured, u32 leaf, u32 subleaf);

/* A CPUID exit. */
enum outcome cpuid_handle(struct run *run);

#endif
