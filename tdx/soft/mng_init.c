/* SPDX-License-Identifier: MIT */
/* TDH.MNG.INIT: every field of TD_PARAMS is checked before the first one is taken. */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/platform_check.h"
#include "tdx/soft/system.h"

#define EPTP_WRITE_BACK 6ull
#define EPTP_MEMORY_TYPE_MASK 7ull
#define EPTP_WALK_SHIFT 3
#define EPTP_WALK_MASK (7ull << EPTP_WALK_SHIFT)
#define L2_VMS_MAX 3
#define CPUID_CONFIG_MAX 48
#define MSR_CONFIG_ARCH_CAPABILITIES 1
#define ARCH_CAPABILITIES_CONFIG_MASK 0x1180010ull
#define LOCK_TIMEOUT_DEFAULT_US 1000000

static bool is_zero(const void *bytes, size_t len)
{
    const u8 *b = bytes;
    for (size_t i = 0; i < len; i++)
        if (b[i])
            return false;
    return true;
}

static bool attributes_are_valid(u64 attributes)
{
    if (attributes & ~ATTRIBUTES_FIXED0)
        return false;
    return !(attributes & TD_ATTRIBUTE_MIGRATABLE) ||
           !(attributes & (TD_ATTRIBUTE_DEBUG | TD_ATTRIBUTE_PERFMON));
}

static bool xfam_group_is_whole(u64 xfam, u64 group)
{
    return !(xfam & group) || (xfam & group) == group;
}

static bool xfam_is_valid(u64 xfam)
{
    const u64 avx = 1 << 2, avx512 = 7 << 5, cet = 3 << 11, amx = 3 << 17;
    if (xfam & ~xfam_fixed0() || (xfam & XFAM_FIXED1) != XFAM_FIXED1)
        return false;
    if (xfam & avx512 && !(xfam & avx))
        return false;
    return xfam_group_is_whole(xfam, avx512) && xfam_group_is_whole(xfam, cet) &&
           xfam_group_is_whole(xfam, amx);
}

static bool eptp_is_valid(u64 eptp, u64 flags)
{
    if (eptp & ~(EPTP_MEMORY_TYPE_MASK | EPTP_WALK_MASK) ||
        (eptp & EPTP_MEMORY_TYPE_MASK) != EPTP_WRITE_BACK)
        return false;
    u64 root_level = eptp >> EPTP_WALK_SHIFT;
    bool has_five_levels = platform()->gpa_bits == 52;
    if (root_level == 3)
        return !(flags & TD_CONFIG_GPAW_52);
    return root_level == 4 && has_five_levels;
}

static u64 vcpus_check(const struct td *td, const struct td_params *params)
{
    if (!params->max_vcpus ||
        (feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM) && params->max_vcpus > X2APIC_IDS_MAX))
        return completion(TDX_OPERAND_INVALID, OPERAND_MAX_VCPUS);
    if (params->num_l2_vms > L2_VMS_MAX)
        return completion(TDX_OPERAND_INVALID, OPERAND_NUM_L2_VMS);
    if (td->tdr->num_tdcx < TDCX_PAGES_BASE + params->num_l2_vms)
        return completion(TDX_TDCS_NOT_ALLOCATED, 0);
    return 0;
}

static u64 params_check(const struct td *td, const struct td_params *params)
{
    if (!attributes_are_valid(params->attributes))
        return completion(TDX_OPERAND_INVALID, OPERAND_ATTRIBUTES);
    if (!xfam_is_valid(params->xfam))
        return completion(TDX_OPERAND_INVALID, OPERAND_XFAM);
    u64 status = vcpus_check(td, params);
    if (status)
        return status;
    if (!is_zero(params->reserved_20, sizeof params->reserved_20))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (params->config_flags & ~CONFIG_FLAGS_FIXED0)
        return completion(TDX_OPERAND_INVALID, OPERAND_EXEC_CONTROLS);
    if (!eptp_is_valid(params->eptp_controls, params->config_flags))
        return completion(TDX_OPERAND_INVALID, OPERAND_EPTP_CONTROLS);
    if (params->tsc_frequency < TDX_TSC_UNITS_MIN || params->tsc_frequency > TDX_TSC_UNITS_MAX)
        return completion(TDX_OPERAND_INVALID, OPERAND_TSC_FREQUENCY);
    status = tsc_adjust_check();
    if (status)
        return status;
    if (!is_zero(params->reserved_42, sizeof params->reserved_42) ||
        params->msr_config_ctls & ~MSR_CONFIG_ARCH_CAPABILITIES ||
        !is_zero(params->reserved_232, sizeof params->reserved_232))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    return 0;
}

/* What is checked after the CPUID values. */
static u64 params_check_end(const struct td_params *params)
{
    const u8 *tail = (const u8 *)&params->cpuid[CPUID_CONFIG_COUNT];
    if (!is_zero(tail, (CPUID_CONFIG_MAX - CPUID_CONFIG_COUNT) * sizeof params->cpuid[0]))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (params->msr_config_ctls & MSR_CONFIG_ARCH_CAPABILITIES &&
        params->arch_capabilities_config & ~ARCH_CAPABILITIES_CONFIG_MASK)
        return completion(TDX_OPERAND_INVALID, OPERAND_IA32_ARCH_CAPABILITIES_CONFIG);
    return 0;
}

/* numerator / denominator with 48 fraction bits; 128-bit division is not at hand. */
static u64 ratio_48(u64 numerator, u64 denominator)
{
    u64 quotient = numerator / denominator, rest = numerator % denominator;
    for (u32 i = 0; i < 48; i++) {
        rest <<= 1;
        quotient = quotient << 1 | (rest >= denominator);
        if (rest >= denominator)
            rest -= denominator;
    }
    return quotient;
}

static void tsc_start(struct tdcs *tdcs, u16 units)
{
    tdcs->tsc_frequency = units;
    tdcs->tsc_multiplier = ratio_48(units * TDX_TSC_UNIT_HZ, platform()->tsc_hz);
    unsigned __int128 scaled = (unsigned __int128)seam_tsc() * tdcs->tsc_multiplier;
    tdcs->tsc_offset = -(u64)(scaled >> 48);
}

static void tdcs_fill(const struct td *td, const struct td_params *params)
{
    struct tdcs *tdcs = td->tdcs;
    u32 width = params->config_flags & TD_CONFIG_GPAW_52 ? 52 : 48;
    tdcs->gpa_bits = width < platform()->gpa_bits ? width : platform()->gpa_bits;
    tdcs->attributes = params->attributes;
    tdcs->xfam = params->xfam;
    tdcs->config_flags = params->config_flags;
    if (params->attributes & TD_ATTRIBUTE_SEPT_VE_DISABLE)
        tdcs->td_ctls = TD_CTLS_PENDING_VE_DISABLE;
    tdcs->max_vcpus = params->max_vcpus;
    tdcs->num_l2_vms = params->num_l2_vms;
    tdcs->topology_is_configured = feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM);
    tdcs->eptp = td_sept_root(td) | params->eptp_controls;
    tdcs->arch_capabilities = params->msr_config_ctls & MSR_CONFIG_ARCH_CAPABILITIES
                                  ? params->arch_capabilities_config
                                  : 0;
    tdcs->hp_lock_timeout_us = LOCK_TIMEOUT_DEFAULT_US;
    memcpy(tdcs->mrconfigid, params->mrconfigid, sizeof tdcs->mrconfigid);
    memcpy(tdcs->mrowner, params->mrowner, sizeof tdcs->mrowner);
    memcpy(tdcs->mrownerconfig, params->mrownerconfig, sizeof tdcs->mrownerconfig);
    tsc_start(tdcs, params->tsc_frequency);
    tdcs->td_epoch = 1;
}

u64 tdh_mng_init(struct leaf *leaf)
{
    u64 tdr = leaf->regs->gpr[GPR_RCX], address = leaf->regs->gpr[GPR_RDX];
    leaf->regs->gpr[GPR_RCX] = 0;
    struct td td;
    u64 status = cpuid_limit_check();
    if (!status)
        status = td_lock(leaf, tdr, OPERAND_RCX, LOCK_EXCLUSIVE, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_NONE);
    if (!status)
        status = operand_shared(address, sizeof(struct td_params), OPERAND_RDX);
    if (status)
        return status;
    struct td_params params; /* a copy: the VMM may write while we check */
    address = platform_address(address);
    memcpy(&params, (u8 *)seam_page(align_down(address, PAGE_BYTES)) + (address & PAGE_MASK),
           sizeof params);
    u64 bad_leaf = 0;
    status = params_check(&td, &params);
    if (!status) {
        status = cpuid_table_configure(td_measured(&td), &params, &bad_leaf);
        leaf->regs->gpr[GPR_RCX] = status ? bad_leaf : 0;
    }
    if (!status)
        status = params_check_end(&params);
    if (status)
        return status;
    tdcs_fill(&td, &params);
    sha384_start(&td_measured(&td)->mrtd_context);
    msr_bitmap_build(td.tdcs, td_msr_bitmaps(&td));
    td.tdcs->op_state = TD_INITIALIZED;
    return 0;
}
