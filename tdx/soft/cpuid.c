/* SPDX-License-Identifier: MIT */
#include "tdx/soft/cpuid.h"

#include "boot/x86.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/system.h"

#define VALUES(...) \
    {               \
        __VA_ARGS__ \
    }

static const struct leaf_rule {
    u32 leaf, subleaf;
    struct cpuid_values native, fixed;
} rules[] = {
#define CPUID_LEAF(leaf, subleaf, native, fixed) {leaf, subleaf, VALUES native, VALUES fixed},
#include "tdx/soft/cpuid.def"
#undef CPUID_LEAF
};
_Static_assert(ARRAY_LENGTH(rules) <= CPUID_TABLE_MAX, "a TD's CPUID table has fewer rows");

/* In the order of TD_PARAMS.CPUID_VALUES. */
static const struct cpuid_config {
    u32 leaf, subleaf; /* CPUID_NO_SUBLEAF where the leaf has none */
    struct cpuid_values direct, allow;
} configs[CPUID_CONFIG_COUNT] = {
#define CPUID_CONFIG(leaf, subleaf, direct, allow) {leaf, subleaf, VALUES direct, VALUES allow},
#include "tdx/soft/cpuid.def"
#undef CPUID_CONFIG
};

static const struct cpuid_field metadata_fields[] = {
#define CPUID_FIELD(leaf, subleaf, raises_ve) {leaf, subleaf, raises_ve},
#include "tdx/soft/cpuid.def"
#undef CPUID_FIELD
};
_Static_assert(ARRAY_LENGTH(metadata_fields) <= CPUID_FIELD_MAX, "CPUID_VALID has an element each");

#define LEAF_BASIC_MAX 0x23u
#define LEAF_EXTENDED_FIRST 0x80000000u
#define LEAF_EXTENDED_MAX 0x80000008u
#define LEAF_HYPERVISOR_FIRST 0x40000000u
#define LEAF_HYPERVISOR_LAST 0x4fffffffu

#define XFAM_AVX (1ull << 2)
#define XFAM_AVX512 (7ull << 5)
#define XFAM_PKRU (1ull << 9)
#define XFAM_USER 0x602e7ull /* of XCR0; the rest is XSS's */

#define ECX1_XSAVE (1u << 26)
#define ECX1_OSXSAVE (1u << 27)
#define ECX1_AVX_ALL (1u << 12 | 1u << 28 | 1u << 29) /* FMA, AVX, F16C */
#define EBX7_AVX2 (1u << 5)
#define EBX7_HLE (1u << 4)
#define EBX7_RTM (1u << 11)
#define EBX7_AVX512 0xdc230000u
#define ECX7_PKU (1u << 3)
#define ECX7_OSPKE (1u << 4)
#define ECX7_AVX_ALL (1u << 9 | 1u << 10) /* VAES, VPCLMULQDQ */
#define ECX7_AVX512 0x00005842u
#define EDX7_AVX512 0x0000010cu
/* Never offered: 5-level paging and the waiting instructions need controls that are off. */
#define ECX7_NEVER (1u << 5 | 1u << 16)
#define EDX_SYSCALL (1u << 11)

static const struct leaf_rule *rule_find(u32 leaf, u32 subleaf)
{
    for (u32 i = 0; i < ARRAY_LENGTH(rules); i++)
        if (rules[i].leaf == leaf &&
            (rules[i].subleaf == subleaf || rules[i].subleaf == CPUID_NO_SUBLEAF))
            return &rules[i];
    return NULL;
}

u32 cpuid_field_count(void)
{
    return ARRAY_LENGTH(metadata_fields);
}

const struct cpuid_field *cpuid_field(u32 index)
{
    return index < ARRAY_LENGTH(metadata_fields) ? &metadata_fields[index] : NULL;
}

u32 cpuid_field_index(u32 leaf, u32 subleaf)
{
    u32 i = 0;
    while (i < ARRAY_LENGTH(metadata_fields) &&
           (metadata_fields[i].leaf != leaf || (metadata_fields[i].subleaf != CPUID_NO_SUBLEAF &&
                                                metadata_fields[i].subleaf != subleaf)))
        i++;
    return i;
}

static bool leaf_is_known(u32 leaf)
{
    for (u32 i = 0; i < ARRAY_LENGTH(rules); i++)
        if (rules[i].leaf == leaf)
            return true;
    return false;
}

struct cpuid_values cpuid_stored(const struct tdcs_measured *measured, u32 leaf, u32 subleaf)
{
    const struct leaf_rule *rule = rule_find(leaf, subleaf);
    u32 row = rule ? (u32)(rule - rules) : measured->cpuid_count;
    return row < measured->cpuid_count ? measured->cpuid[row].values : (struct cpuid_values){0};
}

static bool config_is_allowed(const struct cpuid_config *config, const struct cpuid_values *wanted)
{
    return !(wanted->eax & ~(config->direct.eax | config->allow.eax)) &&
           !(wanted->ebx & ~(config->direct.ebx | config->allow.ebx)) &&
           !(wanted->ecx & ~(config->direct.ecx | config->allow.ecx)) &&
           !(wanted->edx & ~(config->direct.edx | config->allow.edx));
}

static u32 configure(u32 value, u32 native, u32 direct, u32 allow, u32 wanted)
{
    return (value & ~(direct | allow)) | (wanted & direct) | (native & allow & wanted);
}

/* Row `rule` from the processor, the fixed bits and the configuration, if it has one. */
static struct cpuid_values value_make(const struct leaf_rule *rule,
                                      const struct cpuid_values *wanted)
{
    u32 subleaf = rule->subleaf == CPUID_NO_SUBLEAF ? 0 : rule->subleaf;
    struct cpuid_values native = processor_cpuid(rule->leaf, subleaf);
    struct cpuid_values v = {
        (native.eax & rule->native.eax) | rule->fixed.eax,
        (native.ebx & rule->native.ebx) | rule->fixed.ebx,
        (native.ecx & rule->native.ecx) | rule->fixed.ecx,
        (native.edx & rule->native.edx) | rule->fixed.edx,
    };
    for (u32 i = 0; i < CPUID_CONFIG_COUNT; i++) {
        const struct cpuid_config *c = &configs[i];
        if (c->leaf != rule->leaf || c->subleaf != rule->subleaf)
            continue;
        v.eax = configure(v.eax, native.eax, c->direct.eax, c->allow.eax, wanted[i].eax);
        v.ebx = configure(v.ebx, native.ebx, c->direct.ebx, c->allow.ebx, wanted[i].ebx);
        v.ecx = configure(v.ecx, native.ecx, c->direct.ecx, c->allow.ecx, wanted[i].ecx);
        v.edx = configure(v.edx, native.edx, c->direct.edx, c->allow.edx, wanted[i].edx);
    }
    /* 0 stands for the platform's own family, model and stepping. */
    if (rule->leaf == 1 && !v.eax)
        v.eax = native.eax & rule->native.eax;
    return v;
}

static void features_limit(u64 xfam, u32 leaf, struct cpuid_values *v)
{
    if (leaf == 1 && !(xfam & XFAM_AVX))
        v->ecx &= ~ECX1_AVX_ALL;
    if (leaf != 7)
        return;
    v->ecx &= ~ECX7_NEVER;
    if (!(xfam & XFAM_AVX)) {
        v->ebx &= ~EBX7_AVX2;
        v->ecx &= ~ECX7_AVX_ALL;
    }
    if ((xfam & XFAM_AVX512) != XFAM_AVX512) {
        v->ebx &= ~EBX7_AVX512;
        v->ecx &= ~ECX7_AVX512;
        v->edx &= ~EDX7_AVX512;
    }
    if (!(xfam & XFAM_PKRU))
        v->ecx &= ~ECX7_PKU;
}

/* Bytes of a standard-format XSAVE area that holds the features of `xfam`. */
static u32 xsave_bytes(u64 xfam)
{
    u32 bytes = 576;
    for (u32 feature = 2; feature < 32; feature++) {
        struct cpuid_values v;
        if (!(xfam & XFAM_USER & 1ull << feature))
            continue;
        v = processor_cpuid(0xd, feature);
        if (v.eax + v.ebx > bytes)
            bytes = v.eax + v.ebx;
    }
    return bytes;
}

static u32 bits_for(u32 count)
{
    u32 bits = 0;
    while (bits < 31 && 1u << bits < count)
        bits++;
    return bits;
}

/* Values that follow from the TD's other parameters. */
static void value_derive(const struct td_params *params, u32 leaf, u32 subleaf,
                         struct cpuid_values *v)
{
    u32 mhz = params->tsc_frequency * (u32)(TDX_TSC_UNIT_HZ / 1000000);

    features_limit(params->xfam, leaf, v);
    if (leaf == 0xd && subleaf == 0)
        *v =
            (struct cpuid_values){(u32)(params->xfam & XFAM_USER), 0, xsave_bytes(params->xfam), 0};
    else if (leaf == 0xd && subleaf > 1 && !(params->xfam & 1ull << subleaf))
        *v = (struct cpuid_values){0};
    else if (leaf == 0x15)
        v->ebx = params->tsc_frequency;
    else if (leaf == 0x16)
        *v = (struct cpuid_values){mhz, mhz, (u32)(TDX_TSC_UNIT_HZ / 1000000), 0};
    else if ((leaf == 0xb || leaf == 0x1f) && subleaf == 1) {
        v->eax = bits_for(params->max_vcpus);
        v->ebx = params->max_vcpus & 0xffff;
    }
}

static u64 refuse(const struct cpuid_config *config, u64 *bad_leaf)
{
    *bad_leaf = config->leaf | (u64)config->subleaf << 32;
    return completion(TDX_OPERAND_INVALID, OPERAND_CPUID_CONFIG);
}

bool cpuid_config_row(u32 index, u64 *leaf, struct cpuid_values *mask)
{
    if (index >= CPUID_CONFIG_COUNT)
        return false;
    *leaf = configs[index].leaf | (u64)configs[index].subleaf << 32;
    *mask = configs[index].direct;
    return true;
}

u64 cpuid_table_configure(struct tdcs_measured *measured, const struct td_params *params,
                          u64 *bad_leaf)
{
    const struct cpuid_values *wanted = params->cpuid;

    for (u32 i = 0; i < CPUID_CONFIG_COUNT; i++) {
        const struct cpuid_config *config = &configs[i];
        u32 platform = processor_cpuid(1, 0).eax & configs[i].direct.eax;
        bool hle = wanted[i].ebx & EBX7_HLE, rtm = wanted[i].ebx & EBX7_RTM;

        if (!config_is_allowed(config, &wanted[i]))
            return refuse(config, bad_leaf);
        if (config->leaf == 1 && wanted[i].eax && wanted[i].eax != platform)
            return refuse(config, bad_leaf);
        if (config->leaf == 7 && config->subleaf == 0 && hle != rtm)
            return refuse(config, bad_leaf);
    }
    for (u32 i = 0; i < ARRAY_LENGTH(rules); i++) {
        measured->cpuid[i].leaf = rules[i].leaf;
        measured->cpuid[i].subleaf = rules[i].subleaf;
        measured->cpuid[i].values = value_make(&rules[i], wanted);
        value_derive(params, rules[i].leaf, rules[i].subleaf, &measured->cpuid[i].values);
    }
    measured->cpuid_count = ARRAY_LENGTH(rules);
    return 0;
}

/* What depends on the vCPU and its present state. */
/*
 * A newer module leaves these to the VMM, through #VE, until the guest asks for them: the bit of
 * TD_CTLS, 0 for every other leaf.
 */
static u64 leaf_control(u32 leaf)
{
    switch (leaf) {
    case 0xb:
    case 0x1f:
        return TD_CTLS_ENUM_TOPOLOGY;
    case 2:
        return TD_CTLS_VIRT_CPUID2;
    case 6:
    case 9:
    case 0xc:
    case 0xf:
    case 0x10:
    case 0x16:
    case 0x17:
    case 0x1b:
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
    case 0x80000005:
        return TD_CTLS_REDUCE_VE;
    default:
        return 0;
    }
}

static bool leaf_is_vmms(const struct run *run, u32 leaf)
{
    u64 td_ctls = run->tdcs->td_ctls;
    if (!leaf_is_known(leaf))
        return !(td_ctls & TD_CTLS_REDUCE_VE);
    return leaf_control(leaf) & td_ctls_offered() & ~td_ctls;
}

static void value_patch(const struct run *run, u32 leaf, u32 subleaf, struct cpuid_values *v)
{
    u64 cr4 = seam_vmcs_read(VMCS_GUEST_CR4);
    /* A newer module shows the VMM's id to a guest that asked for topology alone. */
    bool is_index = feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM) &&
                    !(run->tdcs->td_ctls & TD_CTLS_ENUM_TOPOLOGY);
    u32 id = is_index ? run->vcpu->index : run->vcpu->x2apic_id;

    if (leaf == 1) {
        v->ebx = (v->ebx & 0x00ffffff) | id << 24;
        if ((v->ecx & ECX1_XSAVE) && (cr4 & CR4_OSXSAVE))
            v->ecx |= ECX1_OSXSAVE;
    } else if (leaf == 7 && subleaf == 0) {
        if ((v->ecx & ECX7_PKU) && (cr4 & 1ull << 22))
            v->ecx |= ECX7_OSPKE;
    } else if (leaf == 0xb || leaf == 0x1f) {
        v->ecx = (v->ecx & ~0xffu) | (subleaf & 0xff);
        v->edx = id;
    } else if (leaf == 0xd && subleaf <= 1) {
        /* XCR0 is the guest's now. Subleaf 1 speaks of a form that is not offered. */
        v->ebx = processor_cpuid(0xd, 0).ebx;
    } else if (leaf == 0x80000001 && !guest_is_64_bit()) {
        v->edx &= ~EDX_SYSCALL;
    }
}

static bool ve_is_asked_for(const struct run *run, u32 leaf, u32 subleaf)
{
    bool user = guest_is_user_mode();
    u32 index = cpuid_field_index(leaf, subleaf);
    if (user ? run->vcpu->cpuid_ve_user : run->vcpu->cpuid_ve_supervisor)
        return true;
    return run->vcpu->cpuid_control[index] >> user & 1;
}

enum outcome cpuid_handle(struct run *run)
{
    u64 *gpr = run->vcpu->gpr;
    u32 leaf = (u32)gpr[GPR_RAX], subleaf = (u32)gpr[GPR_RCX];
    bool hypervisor = leaf >= LEAF_HYPERVISOR_FIRST && leaf <= LEAF_HYPERVISOR_LAST;

    if (!hypervisor &&
        (leaf > LEAF_EXTENDED_MAX || (leaf > LEAF_BASIC_MAX && leaf < LEAF_EXTENDED_FIRST)))
        leaf = LEAF_BASIC_MAX;
    if (hypervisor || leaf_is_vmms(run, leaf) || ve_is_asked_for(run, leaf, subleaf)) {
        struct ve_report report = {.reason = EXIT_CPUID};
        return event_virtualization(run, &report);
    }
    struct cpuid_values v = cpuid_stored(run->measured, leaf, subleaf);
    value_patch(run, leaf, subleaf, &v);
    gpr[GPR_RAX] = v.eax;
    gpr[GPR_RBX] = v.ebx;
    gpr[GPR_RCX] = v.ecx;
    gpr[GPR_RDX] = v.edx;
    instruction_skip(seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    return OUTCOME_RESUME;
}
