/* SPDX-License-Identifier: MIT */
#include "tdx/td_params.h"

#include "boot/log.h"
#include "boot/x86.h"

#define XFAM_X87 (1ull << 0)
#define XFAM_SSE (1ull << 1)
#define XFAM_AVX (1ull << 2)
#define CPUID_1_ECX_XSAVE (1u << 26)
#define CPUID_XSAVE 0xd
#define XFAM_WANTED (XFAM_X87 | XFAM_SSE | XFAM_AVX)
#define EPTP_CONTROLS_WB_4_LEVELS (6ull | 3ull << 3)
#define CPUID_ADDRESS_SIZES 0x80000008u
#define CPUID_ADDRESS_SIZES_GUEST 0x00ff0000u

/* Extended state that this processor has: bits of XCR0 and IA32_XSS. */
static u64 processor_xfam(void)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE))
        return (XFAM_X87 | XFAM_SSE);
    struct cpuid_result user = cpuid(CPUID_XSAVE, 0), supervisor = cpuid(CPUID_XSAVE, 1);
    return ((u64)user.edx << 32 | user.eax) | ((u64)supervisor.edx << 32 | supervisor.ecx);
}

static enum error xfam_choose(u64 *xfam)
{
    const struct tdx_module *module = tdx_module();
    *xfam = (XFAM_WANTED & processor_xfam() & module->xfam_fixed0) | module->xfam_fixed1;
    if (module->xfam_fixed1 & ~processor_xfam()) {
        log_line("tdx: the module demands XFAM 0x%llx, the processor has 0x%llx",
                 (unsigned long long)module->xfam_fixed1, (unsigned long long)processor_xfam());
        return ERR_UNSUPPORTED;
    }
    return OK;
}

static enum error attributes_choose(u64 wanted, u64 *attributes)
{
    const struct tdx_module *module = tdx_module();
    /*
     * An access to a page that is not accepted is to be the VMM's business, not a #VE: Linux
     * refuses to run where the VMM could make it take a #VE anywhere.
     */
    *attributes = wanted | TD_ATTRIBUTE_SEPT_VE_DISABLE | module->attributes_fixed1;
    if (*attributes & ~module->attributes_fixed0) {
        log_line("tdx: ATTRIBUTES 0x%llx wanted, the module allows 0x%llx",
                 (unsigned long long)*attributes, (unsigned long long)module->attributes_fixed0);
        return ERR_UNSUPPORTED;
    }
    return OK;
}

static u16 tsc_units(u64 tsc_hz)
{
    u64 units = (tsc_hz + TDX_TSC_UNIT_HZ / 2) / TDX_TSC_UNIT_HZ;
    if (units < TDX_TSC_UNITS_MIN)
        return TDX_TSC_UNITS_MIN;
    return (u16)(units > TDX_TSC_UNITS_MAX ? TDX_TSC_UNITS_MAX : units);
}

/* In the order of the module's list; bits that are not ours to set are 0. */
static void cpuid_fill(struct td_params *params, const struct td_options *options)
{
    const struct tdx_module *module = tdx_module();
    for (u32 i = 0; options->cpuid && i < module->cpuid_config_count; i++) {
        u32 leaf = module->cpuid_config[i].leaf;
        struct cpuid_values mask = module->cpuid_config[i].mask;
        struct cpuid_values values = options->cpuid(leaf, module->cpuid_config[i].subleaf, mask);
        /* The guest's address width comes from CONFIG_FLAGS; here it must be 0. */
        if (leaf == CPUID_ADDRESS_SIZES)
            mask.eax &= ~CPUID_ADDRESS_SIZES_GUEST;
        params->cpuid[i] = (struct cpuid_values){
            .eax = values.eax & mask.eax,
            .ebx = values.ebx & mask.ebx,
            .ecx = values.ecx & mask.ecx,
            .edx = values.edx & mask.edx,
        };
    }
}

enum error td_params_fill(struct td_params *params, const struct td_options *options)
{
    const struct tdx_module *module = tdx_module();
    if (options->max_vcpus == 0 || options->max_vcpus > TD_VCPUS_MAX) {
        log_line("tdx: a TD of %u vCPUs; 1 to %u are possible", options->max_vcpus, TD_VCPUS_MAX);
        return ERR_INVALID;
    }
    enum error error = attributes_choose(options->attributes, &params->attributes);
    if (!error)
        error = xfam_choose(&params->xfam);
    if (error)
        return error;
    params->max_vcpus = (u16)options->max_vcpus;
    params->eptp_controls = EPTP_CONTROLS_WB_4_LEVELS;
    if (module->features0 & TDX_FEATURE_NO_RBP_MOD)
        params->config_flags = TD_CONFIG_NO_RBP_MOD & module->config_flags_fixed0;
    params->tsc_frequency = tsc_units(options->tsc_hz);
    cpuid_fill(params, options);
    return OK;
}
