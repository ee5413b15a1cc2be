/* SPDX-License-Identifier: MIT */
#include "tdx/soft/msr.h"

#include "boot/msr.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/soft/cpuid.h"
#include "tdx/soft/processor.h"

enum msr_rule {
    PASS,    /* not intercepted */
    EMULATE, /* answered here */
    GP,
    VE,
    /* PASS where the TD has the feature, else GP. */
    IF_PERFMON,
    IF_AMX,
    IF_PT,
    IF_CET,
    IF_PKS,
    IF_ULI,
    IF_LBR,
    /* VE where the TD's CPUID has the feature, else GP. */
    IF_TSC_DEADLINE,
};

static const struct msr_row {
    u32 first, last;
    u8 read, write; /* enum msr_rule */
} rows[] = {
#define MSR(first, last, read, write) {first, last, read, write},
#include "tdx/soft/msr.def"
#undef MSR
};

#define XFAM_PT (1ull << 8)
#define XFAM_CET (1ull << 11)
#define XFAM_ULI (1ull << 14)
#define XFAM_LBR (1ull << 15)
#define XFAM_AMX (1ull << 18)
#define XFAM_SUPERVISOR (XFAM_PT | 3 * XFAM_CET | XFAM_ULI | XFAM_LBR)

#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)

static enum msr_rule rule_if(bool condition, enum msr_rule then)
{
    return condition ? then : GP;
}

/* The rule with the TD's attributes and XFAM put in. */
static enum msr_rule rule_resolve(enum msr_rule rule, const struct tdcs *tdcs)
{
    switch (rule) {
    case IF_PERFMON:
        return rule_if(tdcs->attributes & TD_ATTRIBUTE_PERFMON, PASS);
    case IF_PKS:
        return rule_if(tdcs->attributes & TD_ATTRIBUTE_PKS, PASS);
    case IF_AMX:
        return rule_if(tdcs->xfam & XFAM_AMX, PASS);
    case IF_PT:
        return rule_if(tdcs->xfam & XFAM_PT, PASS);
    case IF_CET:
        return rule_if(tdcs->xfam & XFAM_CET, PASS);
    case IF_ULI:
        return rule_if(tdcs->xfam & XFAM_ULI, PASS);
    case IF_LBR:
        return rule_if(tdcs->xfam & XFAM_LBR, PASS);
    default:
        return rule;
    }
}

/* The same at an exit, where CPUID decides too: PASS, EMULATE, GP or VE. */
static enum msr_rule rule_at_exit(enum msr_rule rule, const struct run *run)
{
    if (rule == IF_TSC_DEADLINE)
        return rule_if(cpuid_stored(run->measured, 1, 0).ecx & CPUID_1_ECX_TSC_DEADLINE, VE);
    return rule_resolve(rule, run->tdcs);
}

static const struct msr_row *row_find(u32 index)
{
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        if (index >= rows[i].first && index <= rows[i].last)
            return &rows[i];
    return NULL;
}

/* The bitmap page: four KiB of "intercept" bits, by direction and range. */
#define BITMAP_WRITE_OFFSET 2048
#define BITMAP_HIGH_OFFSET 1024
#define RANGE_HIGH_FIRST 0xc0000000u
#define RANGE_MSRS 0x2000u

static void bitmap_clear(void *bitmap, u32 index)
{
    u8 *page = bitmap;
    if (index >= RANGE_HIGH_FIRST) {
        page += BITMAP_HIGH_OFFSET;
        index -= RANGE_HIGH_FIRST;
    }
    if (index < RANGE_MSRS)
        page[index / 8] &= (u8) ~(1u << index % 8);
}

void msr_bitmap_build(const struct tdcs *tdcs, void *page)
{
    memset(page, 0xff, PAGE_BYTES);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        bool read = rule_resolve(rows[i].read, tdcs) == PASS;
        bool write = rule_resolve(rows[i].write, tdcs) == PASS;
        for (u32 index = rows[i].first; index <= rows[i].last; index++) {
            if (read)
                bitmap_clear(page, index);
            if (write)
                bitmap_clear((u8 *)page + BITMAP_WRITE_OFFSET, index);
        }
    }
}

#define MISC_ENABLE_PERFMON (1ull << 7)
#define MISC_ENABLE_BTS_UNAVAILABLE (1ull << 11)
#define MISC_ENABLE_PEBS_UNAVAILABLE (1ull << 12)
#define XAPIC_DISABLED 1ull
#define MSR_XAPIC_DISABLE_STATUS 0xbd
#define MSR_PERF_CAPABILITIES 0x345

static u64 emulated_read(const struct run *run, u32 index)
{
    switch (index) {
    case MSR_X2APIC_IRR0 ... MSR_X2APIC_IRR0 + 7:
        return interrupts_irr(run->vcpu, index - MSR_X2APIC_IRR0);
    case MSR_XAPIC_DISABLE_STATUS:
        return XAPIC_DISABLED;
    case MSR_ARCH_CAPABILITIES:
        return run->tdcs->arch_capabilities;
    case MSR_MISC_ENABLE:
        return (processor_msr_read(MSR_MISC_ENABLE) & ~MISC_ENABLE_PERFMON) |
               MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE;
    case MSR_DEBUGCTL:
        return seam_vmcs_read(VMCS_GUEST_DEBUGCTL);
    default:
        /* PERF_CAPABILITIES without PERFMON, VMX capabilities without VMX: there is nothing. */
        return 0;
    }
}

#define DEBUGCTL_BTF (1ull << 1)
#define DEBUGCTL_TR (1ull << 6)
#define DEBUGCTL_BTS (1ull << 7)
#define DEBUGCTL_DEFINED 0xdfc7ull

static enum msr_rule debugctl_write(u64 value)
{
    if (value & ~DEBUGCTL_DEFINED)
        return GP;
    if ((value & DEBUGCTL_TR) && !(value & DEBUGCTL_BTS))
        return VE;
    /* Tracing and freezing need features that the module never offers: only BTF has effect. */
    seam_vmcs_write(VMCS_GUEST_DEBUGCTL, value & DEBUGCTL_BTF);
    return EMULATE;
}

static enum msr_rule efer_write(u64 value)
{
    u64 present = seam_vmcs_read(VMCS_GUEST_EFER);
    if ((value ^ present) & ~EFER_SCE)
        return VE;
    seam_vmcs_write(VMCS_GUEST_EFER, value);
    return EMULATE;
}

static enum msr_rule xss_write(struct run *run, u64 value)
{
    if (value & ~(run->tdcs->xfam & XFAM_SUPERVISOR))
        return GP;
    run->vcpu->msr_xss = value;
    processor_xss_write(value);
    return EMULATE;
}

static enum msr_rule self_ipi_write(struct run *run, u64 value)
{
    if (value > 0xff)
        return GP;
    interrupts_request(run->vcpu, (u8)value);
    return EMULATE;
}

static enum msr_rule emulated_write(struct run *run, u32 index, u64 value)
{
    switch (index) {
    case MSR_DEBUGCTL:
        return debugctl_write(value);
    case MSR_EFER:
        return efer_write(value);
    case MSR_X2APIC_SELF_IPI:
        return self_ipi_write(run, value);
    case MSR_XSS:
        return xss_write(run, value);
    default:
        return GP;
    }
}

/* EMULATE: it was done, go on behind the instruction. */
static enum outcome finish(struct run *run, enum msr_rule rule)
{
    if (rule == VE) {
        struct ve_report report = {
            .reason = (u32)seam_vmcs_read(VMCS_EXIT_REASON) & 0xffff,
        };
        return event_virtualization(run, &report);
    }
    if (rule == GP)
        event_exception_code(VECTOR_GP, 0);
    else
        instruction_skip(seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    return OUTCOME_RESUME;
}

enum outcome msr_read_handle(struct run *run)
{
    u64 *gpr = run->vcpu->gpr;
    u32 index = (u32)gpr[GPR_RCX];
    const struct msr_row *row = row_find(index);
    enum msr_rule rule = row ? rule_at_exit(row->read, run) : VE;

    if (rule == EMULATE) {
        u64 value = emulated_read(run, index);
        gpr[GPR_RAX] = (u32)value;
        gpr[GPR_RDX] = value >> 32;
    }
    /* PASS: outside the bitmap's ranges or a processor that always exits; refuse. */
    return finish(run, rule == PASS ? GP : rule);
}

enum outcome msr_write_handle(struct run *run)
{
    u64 *gpr = run->vcpu->gpr;
    u32 index = (u32)gpr[GPR_RCX];
    const struct msr_row *row = row_find(index);
    enum msr_rule rule = row ? rule_at_exit(row->write, run) : VE;

    if (rule == EMULATE)
        rule = emulated_write(run, index, (u32)gpr[GPR_RAX] | gpr[GPR_RDX] << 32);
    return finish(run, rule == PASS ? GP : rule);
}
