/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_policy.h"

#include "boot/msr.h"
#include "boot/x86.h"
#include "vmm/cpuid.h"

#define XCR0_X87 (1ull << 0)
#define XCR0_SSE (1ull << 1)
#define XCR0_AVX (1ull << 2)
#define XCR0_AVX512 (7ull << 5)

#define HYPERVISOR_LEAVES 0x40000000u
#define EXTENDED_LEAVES 0x80000000u
#define BASIC_LEAVES_MIN 0x16u /* those of the TSC, which we answer whatever the machine has */
#define BASIC_LEAVES_MAX 0x1fu
#define EXTENDED_LEAVES_MAX 0x80000008u

#define CPUID_1_ECX_X2APIC (1u << 21)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_XSAVE (1u << 26)
#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define CPUID_1_EDX_APIC (1u << 9)
#define CPUID_1_EDX_HTT (1u << 28)
#define CPUID_7_EBX_TSC_ADJUST (1u << 1)
#define CPUID_7_EBX_AVX512 (1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31)
#define CPUID_7_ECX_AVX512 (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)
#define CPUID_7_EDX_AVX512 (1u << 8)
#define CPUID_7_EDX_ARCH_CAPABILITIES (1u << 29)
#define CPUID_1_EBX_COUNT_SHIFT 16
#define CPUID_1_EBX_APIC_ID_SHIFT 24

static const struct row {
    u32 leaf, subleaf;
    struct cpuid_values allowed;
} rows[] = {
#define VMX_CPUID_ANY ~0u
#define VMX_CPUID(leaf, subleaf, eax, ebx, ecx, edx) {leaf, subleaf, {eax, ebx, ecx, edx}},
#include "vmm/vmx_cpuid.def"
};

static const struct row *row_find(u32 leaf, u32 subleaf)
{
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (rows[i].leaf == leaf &&
            (rows[i].subleaf == subleaf || rows[i].subleaf == VMX_CPUID_ANY))
            return &rows[i];
    }
    return NULL;
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

/* What the machine has, as far as a row lets it through. */
static struct cpuid_values passed(u32 leaf, u32 subleaf)
{
    const struct row *row = row_find(leaf, subleaf);
    if (!row)
        return (struct cpuid_values){0};
    struct cpuid_result has = cpuid(leaf, subleaf);
    return (struct cpuid_values){has.eax & row->allowed.eax, has.ebx & row->allowed.ebx,
                                 has.ecx & row->allowed.ecx, has.edx & row->allowed.edx};
}

/* The vCPUs are cores of one package: so many bits of their APIC ids tell them apart. */
static u32 core_bits(const struct vmx_cpu_view *view)
{
    u32 bits = 0;
    while (1u << bits < view->vcpus)
        bits++;
    return bits;
}

#define LEVEL_THREADS 1u
#define LEVEL_CORES 2u
#define LEVEL_TYPE_SHIFT 8

/* "Extended Topology Enumeration" */
static struct cpuid_values topology(const struct vmx_cpu_view *view, u32 subleaf)
{
    struct cpuid_values values = {.ecx = subleaf & 0xff, .edx = view->apic_id};
    if (subleaf == 0) {
        values.ebx = 1;
        values.ecx |= LEVEL_THREADS << LEVEL_TYPE_SHIFT;
    } else if (subleaf == 1) {
        values.eax = core_bits(view);
        values.ebx = view->vcpus;
        values.ecx |= LEVEL_CORES << LEVEL_TYPE_SHIFT;
    }
    return values;
}

#define CACHE_TYPE_MASK 0x1fu
#define CACHE_LEVEL(eax) ((eax) >> 5 & 7)
#define CACHE_SHARERS_SHIFT 14
#define CACHE_CORES_SHIFT 26

/* "Deterministic Cache Parameters": the third level is everybody's, the others are a core's. */
static struct cpuid_values cache(const struct vmx_cpu_view *view, u32 subleaf)
{
    struct cpuid_values values = passed(4, subleaf);
    u32 others = (1u << core_bits(view)) - 1;
    if (!(values.eax & CACHE_TYPE_MASK))
        return (struct cpuid_values){0};
    values.eax |= others << CACHE_CORES_SHIFT;
    if (CACHE_LEVEL(values.eax) >= 3)
        values.eax |= others << CACHE_SHARERS_SHIFT;
    return values;
}

static struct cpuid_values features(const struct vmx_cpu_view *view)
{
    struct cpuid_values values = passed(1, 0);
    values.ebx |= 1u << core_bits(view) << CPUID_1_EBX_COUNT_SHIFT |
                  view->apic_id << CPUID_1_EBX_APIC_ID_SHIFT;
    values.ecx |= CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
    values.edx |=
        (view->apic_is_off ? 0 : CPUID_1_EDX_APIC) | (view->vcpus > 1 ? CPUID_1_EDX_HTT : 0);
    return values;
}

static struct cpuid_values more_features(void)
{
    struct cpuid_values values = passed(7, 0);
    values.ebx |= CPUID_7_EBX_TSC_ADJUST;
    values.edx |= CPUID_7_EDX_ARCH_CAPABILITIES;
    if (!(vmx_xcr0_allowed() & XCR0_AVX512)) {
        values.ebx &= ~CPUID_7_EBX_AVX512;
        values.ecx &= ~CPUID_7_ECX_AVX512;
        values.edx &= ~CPUID_7_EDX_AVX512;
    }
    return values;
}

/* Bytes of a standard-format XSAVE area that holds these features. */
static u32 xsave_bytes(u64 features_held)
{
    u32 bytes = XSAVE_LEGACY_BYTES;
    for (u32 i = 2; i < 63; i++) {
        if (!(features_held >> i & 1))
            continue;
        struct cpuid_result part = cpuid(0xd, i);
        if (part.eax + part.ebx > bytes)
            bytes = part.eax + part.ebx;
    }
    return bytes;
}

static struct cpuid_values extended_state(const struct vmx_cpu_view *view, u32 subleaf)
{
    u64 allowed = vmx_xcr0_allowed();
    if (!allowed || (subleaf >= 2 && (subleaf > 62 || !(allowed >> subleaf & 1))))
        return (struct cpuid_values){0};
    if (subleaf == 0)
        return (struct cpuid_values){(u32)allowed, xsave_bytes(view->xcr0), xsave_bytes(allowed),
                                     (u32)(allowed >> 32)};
    return passed(0xd, subleaf);
}

static u32 limit(u32 value, u32 least, u32 most)
{
    return value < least ? least : value > most ? most : value;
}

struct cpuid_values vmx_cpuid(const struct vmx_cpu_view *view, u32 leaf, u32 subleaf)
{
    const struct cpuid_values all = {~0u, ~0u, ~0u, ~0u};
    struct cpuid_values values;
    if (!leaf_has_subleaves(leaf))
        subleaf = 0;
    if (leaf >= HYPERVISOR_LEAVES && leaf < EXTENDED_LEAVES)
        return cpuid_answer(leaf, subleaf);
    switch (leaf) {
    case 1:
        return features(view);
    case 4:
        return cache(view, subleaf);
    case 7:
        return subleaf == 0 ? more_features() : (struct cpuid_values){0};
    case 0xb:
    case 0x1f:
        return topology(view, subleaf);
    case 0xd:
        return extended_state(view, subleaf);
    case 0x15:
    case 0x16:
        return cpuid_configure(leaf, subleaf, all);
    default:
        values = passed(leaf, subleaf);
        if (leaf == 0)
            values.eax = limit(values.eax, BASIC_LEAVES_MIN, BASIC_LEAVES_MAX);
        if (leaf == EXTENDED_LEAVES)
            values.eax = limit(values.eax, 0, EXTENDED_LEAVES_MAX);
        return values;
    }
}

/* All that the machine has of what fits into the area that a vCPU has for it. */
static u64 xcr0_find(void)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE))
        return 0;
    u64 allowed = cpuid(0xd, 0).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
    if ((allowed & XCR0_AVX512) != XCR0_AVX512 || xsave_bytes(allowed) > PAGE_BYTES)
        allowed &= ~XCR0_AVX512;
    return allowed;
}

/* Asked for by each switch of vCPUs: found once. Without XSAVE the search is short. */
u64 vmx_xcr0_allowed(void)
{
    static _Atomic u64 found;
    u64 allowed = found;
    if (!allowed)
        found = allowed = xcr0_find();
    return allowed;
}

bool vmx_xcr0_is_valid(u64 value, u64 allowed)
{
    u64 avx512 = value & XCR0_AVX512;
    if (!(value & XCR0_X87) || (value & ~allowed))
        return false;
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        return false;
    return !avx512 || (avx512 == XCR0_AVX512 && (value & XCR0_AVX));
}

bool vmx_efer_is_valid(u64 value, u64 present, bool paging)
{
    if ((value ^ present) & ~(EFER_SCE | EFER_LME | EFER_NXE))
        return false;
    return !paging || !((value ^ present) & EFER_LME);
}

/* IA32_VMX_CR0_FIXED0 and its like. */
static u64 fixed_bits(u32 msr)
{
    u64 value = 0;
    (void)rdmsr_try(msr, &value);
    return value;
}

#define CR0_DEFINED                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)

u64 vmx_cr0_free(void)
{
    u64 fixed = fixed_bits(MSR_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG);
    return CR0_DEFINED & fixed_bits(MSR_VMX_CR0_FIXED1) &
           ~(fixed | CR0_NE | CR0_NW | CR0_CD | CR0_ET);
}

u64 vmx_cr0_of(u64 value)
{
    return (value & vmx_cr0_free()) | CR0_ET |
           (fixed_bits(MSR_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG));
}

bool vmx_cr0_is_valid(const struct vmx_modes *modes, u64 value)
{
    if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD)))
        return false;
    if (!(value & CR0_PG))
        return !((modes->cr0 & CR0_PG) && (modes->code_64 || (modes->cr4 & CR4_PCIDE)));
    if ((modes->cr0 & CR0_PG) || !(modes->efer & EFER_LME))
        return true;
    return (modes->cr4 & CR4_PAE) && !modes->code_64;
}

/* Features that a VM is told of; the others would be state that nobody switches. */
#define CR4_ALLOWED                                                                              \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | \
     CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP)

u64 vmx_cr4_free(void)
{
    return CR4_ALLOWED & fixed_bits(MSR_VMX_CR4_FIXED1) & ~fixed_bits(MSR_VMX_CR4_FIXED0);
}

u64 vmx_cr4_of(u64 value)
{
    return (value & vmx_cr4_free()) | CR4_MCE | fixed_bits(MSR_VMX_CR4_FIXED0);
}

bool vmx_cr4_is_valid(const struct vmx_modes *modes, u64 value)
{
    if (value & ~vmx_cr4_free())
        return false;
    if ((modes->efer & EFER_LMA) && !(value & CR4_PAE))
        return false;
    return !(value & CR4_PCIDE) || (modes->efer & EFER_LMA);
}

/* What the machine is proof against, a guest on it is. */
#define CAPABILITY_RDCL_NO (1ull << 0)
#define CAPABILITY_SKIP_L1D_FLUSH (1ull << 3)
#define CAPABILITY_SSB_NO (1ull << 4)
#define CAPABILITY_MDS_NO (1ull << 5)
#define CAPABILITY_PSCHANGE_MC_NO (1ull << 6)
#define CAPABILITY_TAA_NO (1ull << 8)

u64 vmx_arch_capabilities(void)
{
    u64 machine = 0;
    if (cpuid(7, 0).edx & CPUID_7_EDX_ARCH_CAPABILITIES)
        (void)rdmsr_try(MSR_ARCH_CAPABILITIES, &machine);
    return machine & (CAPABILITY_RDCL_NO | CAPABILITY_SKIP_L1D_FLUSH | CAPABILITY_SSB_NO |
                      CAPABILITY_MDS_NO | CAPABILITY_PSCHANGE_MC_NO | CAPABILITY_TAA_NO);
}

#define IO_SIZE_MASK 7
#define IO_IN (1ull << 3)
#define IO_STRING (1ull << 4)
#define IO_REP (1ull << 5)
#define IO_PORT_SHIFT 16

struct vmx_io vmx_io_decode(u64 qualification)
{
    return (struct vmx_io){
        .port = (u16)(qualification >> IO_PORT_SHIFT),
        .size_bytes = (u32)(qualification & IO_SIZE_MASK) + 1,
        .in = qualification & IO_IN,
        .string = qualification & IO_STRING,
        .rep = qualification & IO_REP,
    };
}

u64 vmx_io_merge(u64 rax, u32 value, u32 size_bytes)
{
    if (size_bytes == 4)
        return value;
    u64 mask = (1ull << (8 * size_bytes)) - 1;
    return (rax & ~mask) | (value & mask);
}
