/* SPDX-License-Identifier: MIT */
#include "vmm/cpuid.h"

#include "boot/machine.h"
#include "boot/x86.h"

/*
 * Leaves of which a guest sees less than the machine has: {leaf, subleaf, what may be seen}.
 * A leaf without a row passes through.
 */
static const struct {
    u32 leaf, subleaf;
    struct cpuid_values allowed;
} policies[] = {
    /*
     * 1: one processor a package (EBX); FMA-class features, TSC deadline, AVX, F16C; not MONITOR,
     * SpeedStep, thermal control, debug interface (ECX); not PSN, ACPI, HTT, TM, PBE (EDX).
     */
    {1,
     0,
     {~0u, 0, ~(1u << 3 | 1u << 7 | 1u << 8 | 1u << 10 | 1u << 11 | 1u << 14 | 1u << 18),
      ~(1u << 18 | 1u << 22 | 1u << 28 | 1u << 29 | 1u << 31)}},
    /*
     * 7: no HLE, RTM, PQM, PQE, AVX-512 (EBX), WAITPKG, TME, LA57 (ECX), TSXLDTRK, PCONFIG, AVX-512
     * (EDX).
     */
    {7,
     0,
     {~0u,
      ~(1u << 4 | 1u << 11 | 1u << 12 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 |
        1u << 27 | 1u << 28 | 1u << 30 | 1u << 31),
      ~(1u << 1 | 1u << 5 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 16),
      ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 16 | 1u << 18 | 1u << 23)}},
    {7, 1, {~(1u << 5), ~0u, ~0u, ~0u}}, /* no AVX-512 BF16 */
    {0xa, 0, {0, 0, 0, 0}},              /* no performance counters */
    {0x1c, 0, {0, 0, 0, 0}},             /* no last-branch records */
    {0x23, 0, {0, 0, 0, 0}},
    {0x80000008, 0, {~0u, ~(1u << 9), ~0u, ~0u}}, /* no WBNOINVD */
};

/* Leaves of fixed content, whatever the machine says. */
#define XSAVE_BYTES 832 /* x87, SSE, AVX: an emulator's compacted size is not to be trusted */
static const struct {
    u32 leaf, subleaf;
    struct cpuid_values values;
} fixed[] = {
    {0xd, 0, {7, XSAVE_BYTES, XSAVE_BYTES, 0}},
    {0x40000000, 0, {0x40000001, 0x4b4d564b, 0x564b4d56, 0x0000004d}}, /* "KVMKVMKVM" */
    /*
     * Without KVM's signature Linux switches x2APIC off. We have none of KVM's features, so that
     * 0x40000001 is zeros, as every leaf without a row here.
     */
};

u64 cpuid_tsc_hz(void)
{
    u64 units = (machine()->tsc_hz + TDX_TSC_UNIT_HZ / 2) / TDX_TSC_UNIT_HZ;
    if (units < TDX_TSC_UNITS_MIN)
        units = TDX_TSC_UNITS_MIN;
    if (units > TDX_TSC_UNITS_MAX)
        units = TDX_TSC_UNITS_MAX;
    return units * TDX_TSC_UNIT_HZ;
}

static struct cpuid_values values_and(struct cpuid_values a, struct cpuid_values b)
{
    return (struct cpuid_values){a.eax & b.eax, a.ebx & b.ebx, a.ecx & b.ecx, a.edx & b.edx};
}

static const struct cpuid_values *find_fixed(u32 leaf, u32 subleaf)
{
    for (u32 i = 0; i < ARRAY_LENGTH(fixed); i++) {
        if (fixed[i].leaf == leaf && fixed[i].subleaf == subleaf)
            return &fixed[i].values;
    }
    return NULL;
}

struct cpuid_values cpuid_limit(u32 leaf, u32 subleaf, struct cpuid_values has)
{
    for (u32 i = 0; i < ARRAY_LENGTH(policies); i++) {
        if (policies[i].leaf == leaf && policies[i].subleaf == subleaf)
            return values_and(has, policies[i].allowed);
    }
    return has;
}

/* What the module says where a leaf has no subleaves. */
#define NO_SUBLEAF ~0u

struct cpuid_values cpuid_configure(u32 leaf, u32 subleaf, struct cpuid_values mask)
{
    if (subleaf == NO_SUBLEAF)
        subleaf = 0;
    const struct cpuid_values *known = find_fixed(leaf, subleaf);
    if (known)
        return values_and(*known, mask);
    struct cpuid_result has = cpuid(leaf, subleaf);
    struct cpuid_values values = {has.eax, has.ebx, has.ecx, has.edx};
    u32 tsc_mhz = (u32)(cpuid_tsc_hz() / 1000000);
    if (leaf == 0xd && subleaf == 1)
        values.ebx = XSAVE_BYTES;
    if (leaf == 0x15)
        values = (struct cpuid_values){1, (u32)(cpuid_tsc_hz() / TDX_TSC_UNIT_HZ),
                                       (u32)TDX_TSC_UNIT_HZ, 0};
    if (leaf == 0x16)
        values = (struct cpuid_values){tsc_mhz, tsc_mhz, 0, 0};
    return values_and(cpuid_limit(leaf, subleaf, values), mask);
}

struct cpuid_values cpuid_answer(u32 leaf, u32 subleaf)
{
    const struct cpuid_values *known = leaf >= 0x40000000 ? find_fixed(leaf, subleaf) : NULL;
    return known ? *known : (struct cpuid_values){0};
}
