/* SPDX-License-Identifier: MIT */
/* CPUID of a TD: configuration at TDH.MNG.INIT, answers at run time. */
#ifndef TDX_SOFT_CPUID_H
#define TDX_SOFT_CPUID_H

#include "tdx/soft/run.h"

#define CPUID_NO_SUBLEAF ~0u

/* What TD_PARAMS.CPUID_VALUES may choose, in its order (SYS.RD's CPUID_CONFIG_* fields). */
struct cpuid_config {
    u32 leaf, subleaf; /* CPUID_NO_SUBLEAF where the leaf has none */
    struct cpuid_values direct, allow;
};
extern const struct cpuid_config cpuid_configs[CPUID_CONFIG_COUNT];

/*
 * Decides the TD's CPUID values from `wanted` (CPUID_CONFIG_COUNT entries), XFAM, attributes and
 * TSC frequency, which are in `tdcs` already. Returns 0, or the completion status and in
 * `*where` the leaf and subleaf it complains of (leaf | subleaf << 32).
 */
u64 cpuid_configure(const struct tdcs *tdcs, struct tdcs_measured *measured,
                    const struct cpuid_values *wanted, u64 *where);

/* The value decided, without what depends on the vCPU; zeros if there is none. */
struct cpuid_values cpuid_stored(const struct tdcs_measured *measured, u32 leaf, u32 subleaf);

/* A CPUID exit. */
enum outcome cpuid_handle(struct run *run);

#endif
