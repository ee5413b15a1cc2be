/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_policy.h"

#include "boot/x86.h"
#include "vmm/cpuid.h"

#define HYPERVISOR_LEAVES 0x40000000u
#define EXTENDED_LEAVES 0x80000000u
#define ALL_SUBLEAVES ~0u

#define CPUID_1_ECX_XSAVE (1u << 26)
#define CPUID_1_ECX_HYPERVISOR (1u << 31)

/* What a TD's policy (vmm/cpuid.c) leaves, and a VM has not: what may be seen. */
static const struct {
    u32 leaf, subleaf;
    struct cpuid_values allowed;
} rows[] = {
    /*
     * 1: not VMX, SMX, SDBG, x2APIC, TSC deadline, OSXSAVE (which follows CR4) (ECX); not MCE,
     * APIC, MCA, SYSENTER's like are there; not DS (EDX).
     */
    {1,
     0,
     {~0u, ~0u, ~(1u << 5 | 1u << 6 | 1u << 11 | 1u << 21 | 1u << 24 | 1u << 27),
      ~(1u << 7 | 1u << 9 | 1u << 14 | 1u << 21)}},
    /* 7: not SGX, PT (EBX), PKU, OSPKE, CET, RDPID, key locker, SGX_LC, PKS (ECX); of EDX nothing.
     */
    {7,
     0,
     {0, ~(1u << 2 | 1u << 25),
      ~(1u << 3 | 1u << 4 | 1u << 7 | 1u << 22 | 1u << 23 | 1u << 30 | 1u << 31), 0}},
    {7, 1, {0, 0, 0, 0}},
    {0xb, ALL_SUBLEAVES, {0, 0, 0, 0}}, /* one processor: no topology */
    {0x1f, ALL_SUBLEAVES, {0, 0, 0, 0}},
    {0xd, 0, {7, ~0u, ~0u, 0}},
    {0xd, 1, {1, 0, 0, 0}}, /* XSAVEOPT alone */
    {0x12, ALL_SUBLEAVES, {0, 0, 0, 0}},
    {0x14, ALL_SUBLEAVES, {0, 0, 0, 0}},
    {5, 0, {0, 0, 0, 0}},
    {6, 0, {0, 0, 0, 0}},
    {0x80000001, 0, {~0u, ~0u, ~0u, ~(1u << 11 | 1u << 27)}}, /* not SYSCALL, RDTSCP */
};

static struct cpuid_values values_and(struct cpuid_values a, struct cpuid_values b)
{
    return (struct cpuid_values){a.eax & b.eax, a.ebx & b.ebx, a.ecx & b.ecx, a.edx & b.edx};
}

/* Leaves of which ECX selects a part; the others answer the same whatever is in it. */
static bool leaf_has_subleaves(u32 leaf)
{
    static const u64 leaves = 1ull << 4 | 1ull << 7 | 1ull << 0xb | 1ull << 0xd | 1ull << 0xf |
                              1ull << 0x10 | 1ull << 0x12 | 1ull << 0x14 | 1ull << 0x17 |
                              1ull << 0x18 | 1ull << 0x1d | 1ull << 0x1e | 1ull << 0x1f |
                              1ull << 0x20 | 1ull << 0x23 | 1ull << 0x24;
    return leaf < 64 && (leaves >> leaf & 1);
}

struct cpuid_values vmx_cpuid(u32 leaf, u32 subleaf)
{
    const struct cpuid_values all = {~0u, ~0u, ~0u, ~0u};
    if (!leaf_has_subleaves(leaf))
        subleaf = 0;
    if (leaf >= HYPERVISOR_LEAVES && leaf < EXTENDED_LEAVES)
        return cpuid_answer(leaf, subleaf);
    struct cpuid_values values = cpuid_configure(leaf, subleaf, all);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (rows[i].leaf == leaf &&
            (rows[i].subleaf == subleaf || rows[i].subleaf == ALL_SUBLEAVES))
            values = values_and(values, rows[i].allowed);
    }
    if (leaf == 0xd && subleaf == 0)
        values.eax = (u32)vmx_xcr0_allowed();
    if (leaf == 1)
        values.ecx |= CPUID_1_ECX_HYPERVISOR;
    return values;
}

#define XCR0_X87 (1ull << 0)
#define XCR0_SSE (1ull << 1)
#define XCR0_AVX (1ull << 2)

u64 vmx_xcr0_allowed(void)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE))
        return 0;
    return cpuid(0xd, 0).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
}

bool vmx_xcr0_is_valid(u64 value, u64 allowed)
{
    return (value & XCR0_X87) && !(value & ~allowed) && (!(value & XCR0_AVX) || (value & XCR0_SSE));
}

/* No SYSCALL: its MSRs are the machine's. LMA follows LME, which needs paging off to change. */
bool vmx_efer_is_valid(u64 value, u64 present)
{
    return ((value ^ present) & ~EFER_NXE) == 0;
}

bool vmx_pat_is_valid(u64 value)
{
    for (u32 i = 0; i < 8; i++) {
        u8 type = (u8)(value >> (8 * i));
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

bool vmx_address_is_canonical(u64 address)
{
    u64 upper = address >> 47;
    return upper == 0 || upper == 0x1ffff;
}

#define IO_SIZE_MASK 7
#define IO_IN (1ull << 3)
#define IO_STRING (1ull << 4)
#define IO_PORT_SHIFT 16

struct vmx_io vmx_io_decode(u64 qualification)
{
    return (struct vmx_io){
        .port = (u16)(qualification >> IO_PORT_SHIFT),
        .size_bytes = (u32)(qualification & IO_SIZE_MASK) + 1,
        .in = qualification & IO_IN,
        .string = qualification & IO_STRING,
    };
}

u64 vmx_io_merge(u64 rax, u32 value, u32 size_bytes)
{
    if (size_bytes == 4)
        return value;
    u64 mask = (1ull << (8 * size_bytes)) - 1;
    return (rax & ~mask) | (value & mask);
}
