/* SPDX-License-Identifier: MIT */
#include "tdx/soft/objects.h"

#include "boot/log.h"
#include "boot/string.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/system.h"

struct system soft_system;

const struct soft_platform *platform(void)
{
    return &soft_system.platform;
}

static u32 keyid_shift(void)
{
    return platform()->physical_address_bits - platform()->keyid_bits;
}

u64 platform_address(u64 address)
{
    return address & ((1ull << keyid_shift()) - 1);
}

u32 platform_keyid(u64 address)
{
    return (u32)((address >> keyid_shift()) & ((1ull << platform()->keyid_bits) - 1));
}

u32 platform_package(void)
{
    return platform()->lp_package[seam_lp()];
}

bool feature_is_there(u64 feature)
{
    return platform()->newer_features & feature;
}

u64 td_ctls_offered(void)
{
    return TD_CTLS_PENDING_VE_DISABLE |
           (feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM) ? TD_CTLS_ENUM_TOPOLOGY : 0) |
           (feature_is_there(TDX_FEATURE_CPUID2_VIRT) ? TD_CTLS_VIRT_CPUID2 : 0) |
           (feature_is_there(TDX_FEATURE_VE_REDUCTION) ? TD_CTLS_REDUCE_VE : 0);
}

u64 packages_all(void)
{
    return (1ull << platform()->package_count) - 1;
}

u64 lps_all(void)
{
    return ~0ull >> (64 - platform()->lp_count);
}

bool keyid_is_private(u64 keyid)
{
    const struct soft_platform *p = platform();
    return keyid >= p->shared_keyids && keyid < p->shared_keyids + p->private_keyids;
}

/* What the processor has, the module can switch and the ABI knows. */
u64 xfam_fixed0(void)
{
    return (XFAM_FIXED0 & platform()->xfam & processor_xfeatures()) | XFAM_FIXED1;
}

u64 operand_shared(u64 address, u64 align_bytes, enum tdx_operand operand)
{
    const struct soft_platform *p = platform();
    u64 plain = platform_address(address);
    bool in_seam = plain < p->seam_base + p->seam_bytes && plain + align_bytes > p->seam_base;
    if (!is_aligned(address, align_bytes) || address >> p->physical_address_bits || in_seam ||
        platform_keyid(address) >= p->shared_keyids)
        return completion(TDX_OPERAND_INVALID, operand);
    return 0;
}

static const char *platform_fault(const struct soft_platform *p)
{
    if (!p->lp_count || p->lp_count > CPU_MAX)
        return "number of processors";
    if (!p->package_count || p->package_count > SOFT_PACKAGES_MAX)
        return "number of packages";
    for (u32 i = 0; i < p->lp_count; i++)
        if (p->lp_package[i] >= p->package_count)
            return "package of a processor";
    if (p->physical_address_bits > 52 || p->keyid_bits >= p->physical_address_bits ||
        p->memory_address_bits > p->physical_address_bits - p->keyid_bits)
        return "width of an address";
    if (p->shared_keyids + p->private_keyids > SOFT_KEYIDS_MAX || p->private_keyids < 2 ||
        p->shared_keyids + p->private_keyids > 1u << p->keyid_bits)
        return "number of KeyIDs";
    if (p->msr_count > SOFT_MSRS_MAX)
        return "number of MSRs";
    if (p->newer_features & ~SOFT_NEWER_FEATURES)
        return "features of newer modules";
    if (p->cmr_count > TDX_CMR_MAX)
        return "number of convertible ranges";
    return NULL;
}

enum error soft_install(const struct soft_platform *described)
{
    const char *fault = platform_fault(described);
    if (fault) {
        log_line("soft: the platform's description is wrong: %s", fault);
        return ERR_INVALID;
    }
    memset(&soft_system, 0, sizeof soft_system);
    soft_system.platform = *described;
    return OK;
}
