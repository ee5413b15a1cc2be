/* SPDX-License-Identifier: MIT */
/* What SYS.INIT and SYS.LP.INIT look at before they trust a platform and each of its processors. */
#include "tdx/soft/platform_check.h"

#include "boot/log.h"
#include "boot/msr.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/system.h"
#include "tdx/soft/vmcs_init.h"

#define MTRR_CAP_SMRR (1ull << 11)
#define MTRR_CAP_SMRR2 (1ull << 13)
#define MTRR_CAP_SMRR_LOCK (1ull << 14)
#define SMRR_MASK_LOCK (1ull << 10)
#define SMRR_MASK_VALID (1ull << 11)
#define SMRR_ADDRESS_MASK 0xfffff000ull

enum source {
    LIVE,
    TOLD,
};

static const struct checked_msr {
    u32 index;
    u64 compared, expected;
    enum source source;
} rows[] = {
#define SOFT_MSR(index, compared, expected, source) {index, compared, expected, source},
#include "tdx/soft/platform_msrs.def"
#undef SOFT_MSR
};
_Static_assert(ARRAY_LENGTH(rows) <= SOFT_MSRS_SAMPLED, "MSRs that SYS.INIT samples");

static u64 value_of(const struct checked_msr *row)
{
    const struct soft_platform *p = platform();
    u64 value = row->source == LIVE ? processor_msr_read(row->index) : row->expected;
    for (u32 i = 0; i < p->msr_count; i++)
        if (p->msrs[i].index == row->index &&
            (p->msrs[i].lp == SOFT_ALL_LPS || p->msrs[i].lp == seam_lp()))
            value = p->msrs[i].value;
    return value;
}

static u64 sampled(u32 index)
{
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        if (rows[i].index == index)
            return soft_system.msrs[i];
    return 0;
}

static u64 msrs_check(void)
{
    static const u32 order[] = {MSR_ARCH_CAPABILITIES, MSR_XAPIC_DISABLE_STATUS,
                                MSR_MISC_PACKAGE_CTLS, MSR_PERF_CAPABILITIES};
    for (u32 i = 0; i < ARRAY_LENGTH(order); i++)
        for (u32 row = 0; row < ARRAY_LENGTH(rows); row++)
            if (rows[row].index == order[i] &&
                (soft_system.msrs[row] ^ rows[row].expected) & rows[row].compared)
                return completion(TDX_INCORRECT_MSR_VALUE, order[i]);
    return 0;
}

static u64 vmx_check(void)
{
    struct vmcs_missing missing;
    if (vmcs_controls_are_supported(&missing))
        return 0;
    log_line("soft: VMX capability MSR %x: the processor lacks controls %x", missing.msr,
             missing.controls);
    return completion(TDX_INCORRECT_MSR_VALUE, missing.msr);
}

/* In order, apart from each other, whole pages, no KeyID bits. */
static bool cmrs_are_valid(void)
{
    const struct soft_platform *p = platform();
    u64 end = 0;
    for (u32 i = 0; i < p->cmr_count; i++) {
        const struct tdx_cmr *cmr = &p->cmrs[i];
        if (!cmr->bytes)
            continue;
        u64 last = cmr->base + cmr->bytes - 1;
        if (last < cmr->base || platform_address(cmr->base) != cmr->base ||
            platform_address(last) != last || !is_aligned(cmr->base | cmr->bytes, PAGE_BYTES) ||
            cmr->base < end)
            return false;
        end = last + 1;
    }
    return true;
}

/* One run of ones down from bit 31, and a base that such a mask can have. */
static bool smrr_is_valid(u64 base, u64 mask)
{
    u64 size = mask & -mask;
    return mask && mask == (SMRR_ADDRESS_MASK & -size) && !(base & ~mask);
}

static u64 smrr_check(u32 number, u64 base, u64 mask)
{
    const struct soft_platform *p = platform();
    if (!(mask & SMRR_MASK_VALID))
        return 0;
    base &= SMRR_ADDRESS_MASK;
    mask &= SMRR_ADDRESS_MASK;
    if (!smrr_is_valid(base, mask))
        return completion(TDX_INVALID_SMRR_CONFIGURATION, number);
    u64 end = base + (mask & -mask);
    for (u32 i = 0; i < p->cmr_count; i++)
        if (p->cmrs[i].bytes && p->cmrs[i].base < end && base < p->cmrs[i].base + p->cmrs[i].bytes)
            return completion(TDX_SMRR_OVERLAPS_CMR, number | i << 8);
    return 0;
}

static u64 smrrs_check(void)
{
    u64 capability = sampled(MSR_MTRR_CAP);
    const u64 bases[] = {sampled(MSR_SMRR_BASE), sampled(MSR_SMRR2_BASE)};
    const u64 masks[] = {sampled(MSR_SMRR_MASK), sampled(MSR_SMRR2_MASK)};
    u32 count = capability & MTRR_CAP_SMRR2 ? 2 : 1;
    u64 status = 0;
    if (!(capability & MTRR_CAP_SMRR))
        return completion(TDX_SMRR_NOT_SUPPORTED, 0);
    if (!(capability & MTRR_CAP_SMRR_LOCK))
        return completion(TDX_SMRR_LOCK_NOT_SUPPORTED, 0);
    for (u32 i = 0; i < count; i++)
        if (!(masks[i] & SMRR_MASK_LOCK))
            return completion(TDX_SMRR_NOT_LOCKED, i);
    for (u32 i = 0; i < count && !status; i++)
        status = smrr_check(i, bases[i], masks[i]);
    return status;
}

u64 platform_check(void)
{
    u64 status;
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        soft_system.msrs[i] = value_of(&rows[i]);
    status = msrs_check();
    if (!status)
        status = cpuid_limit_check();
    if (!status)
        status = vmx_check();
    if (!status && sampled(MSR_WBINVDP) != sampled(MSR_WBNOINVDP))
        status = completion(TDX_INCORRECT_MSR_VALUE, MSR_WBNOINVDP);
    if (!status && !cmrs_are_valid())
        status = completion(TDX_CMR_LIST_INVALID, 0);
    return status ? status : smrrs_check();
}

u64 platform_lp_check(void)
{
    bool has_smrr2 = sampled(MSR_MTRR_CAP) & MTRR_CAP_SMRR2;
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        bool is_smrr2 = rows[i].index == MSR_SMRR2_BASE || rows[i].index == MSR_SMRR2_MASK;
        u64 status = rows[i].index == MSR_TSC_ADJUST ? cpuid_limit_check() : 0;
        if (status)
            return status;
        if ((!is_smrr2 || has_smrr2) && value_of(&rows[i]) != soft_system.msrs[i])
            return completion(TDX_INCONSISTENT_MSR, rows[i].index);
    }
    return 0;
}

u64 cpuid_limit_check(void)
{
    bool is_limited = processor_msr_read(MSR_MISC_ENABLE) & MISC_ENABLE_LIMIT_CPUID;
    return is_limited ? completion(TDX_LIMIT_CPUID_MAXVAL_SET, 0) : 0;
}

u64 tsc_adjust_check(void)
{
    u32 i = 0;
    while (rows[i].index != MSR_TSC_ADJUST)
        i++;
    return value_of(&rows[i]) == soft_system.msrs[i]
               ? 0
               : completion(TDX_INCONSISTENT_MSR, MSR_TSC_ADJUST);
}
