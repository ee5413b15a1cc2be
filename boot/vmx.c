/* SPDX-License-Identifier: MIT */
#include "boot/vmx.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/x86.h"

#define CPUID_1_ECX_VMX (1u << 5)
#define VMX_BASIC_REVISION_MASK 0x7fffffffu
#define VMX_BASIC_TRUE_CONTROLS (1ull << 55)
#define EPT_CAP_4_LEVELS (1ull << 6)
#define EPT_CAP_WB (1ull << 14)
#define EPT_CAP_2M (1ull << 16)
#define EPT_CAP_1G (1ull << 17)
#define EPT_CAP_INVEPT (1ull << 20)
#define EPT_CAP_ACCESSED_DIRTY (1ull << 21)

/* What Tain cannot do without, beside VMX itself. */
struct need {
    const char *name;
    u32 msr;
    u64 bits; /* all of them set in the MSR */
};
static const struct need needs[] = {
    {"secondary processor-based controls", MSR_VMX_PROCBASED_CTLS, (u64)PROC_SECONDARY << 32},
    {"MSR bitmaps", MSR_VMX_PROCBASED_CTLS, (u64)PROC_MSR_BITMAPS << 32},
    {"EPT", MSR_VMX_PROCBASED_CTLS2, (u64)PROC2_EPT << 32},
    {"EPT with 4 levels, write-back", MSR_VMX_EPT_VPID_CAP, EPT_CAP_4_LEVELS | EPT_CAP_WB},
    {"INVEPT", MSR_VMX_EPT_VPID_CAP, EPT_CAP_INVEPT},
};

static enum error missing(const char *what)
{
    log_line("vmx: cpu %u cannot enter VMX root operation: %s is missing", cpu_this()->index, what);
    return ERR_UNSUPPORTED;
}

/* The MSR stays as the firmware locked it; unlocked, it is ours to set. */
static enum error feature_control_open(void)
{
    u64 value;
    if (!rdmsr_try(MSR_FEATURE_CONTROL, &value))
        return missing("IA32_FEATURE_CONTROL");
    if (!(value & FEATURE_CONTROL_LOCKED)) {
        value |= FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCKED;
        if (!wrmsr_try(MSR_FEATURE_CONTROL, value))
            return missing("a writable IA32_FEATURE_CONTROL");
    }
    if (!(value & FEATURE_CONTROL_VMX))
        return missing("VMX outside SMX (the firmware has locked it off)");
    return OK;
}

static enum error needs_check(void)
{
    for (u32 i = 0; i < ARRAY_LENGTH(needs); i++) {
        u64 value;
        if (!rdmsr_try(needs[i].msr, &value) || (value & needs[i].bits) != needs[i].bits)
            return missing(needs[i].name);
    }
    return OK;
}

static enum vmx_result vmxon(hpa_t region)
{
    u8 carry, zero;
    __asm__ volatile("vmxon %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region.raw) : "memory");
    return vmx_result_of(carry, zero);
}

enum error vmx_enable(void)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_VMX))
        return missing("VMX (CPUID.1:ECX bit 5)");
    enum error error = feature_control_open();
    if (!error)
        error = needs_check();
    if (error)
        return error;

    cr0_write((cr0_read() | rdmsr(MSR_VMX_CR0_FIXED0)) & rdmsr(MSR_VMX_CR0_FIXED1));
    cr4_write(((cr4_read() | CR4_VMXE) | rdmsr(MSR_VMX_CR4_FIXED0)) & rdmsr(MSR_VMX_CR4_FIXED1));

    hpa_t region = cpu_this()->vmxon_region;
    *(u32 *)phys_to_virt(region) = (u32)rdmsr(MSR_VMX_BASIC) & VMX_BASIC_REVISION_MASK;
    if (vmxon(region) != VMX_SUCCEED) {
        cr4_write(cr4_read() & ~CR4_VMXE);
        return missing("a VMXON that succeeds");
    }
    return OK;
}

void vmx_disable(void)
{
    __asm__ volatile("vmxoff" ::: "memory", "cc");
    cr4_write(cr4_read() & ~CR4_VMXE);
}

u32 vmx_ept_features(void)
{
    u64 capabilities = rdmsr(MSR_VMX_EPT_VPID_CAP);
    return (capabilities & EPT_CAP_2M ? EPT_FEATURE_2M : 0) |
           (capabilities & EPT_CAP_1G ? EPT_FEATURE_1G : 0) |
           (capabilities & EPT_CAP_ACCESSED_DIRTY ? EPT_FEATURE_AD : 0);
}
