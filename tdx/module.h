/* SPDX-License-Identifier: MIT */
/*
 * Finding the TDX module and bringing it up: the one place that knows whether it is Intel's or
 * ours. Afterwards the two are the same.
 */
#ifndef TDX_MODULE_H
#define TDX_MODULE_H

#include "tdx/seamcall.h"

#define TDX_CPUID_CONFIG_MAX 48

/* What SYS.RD said; constant once the module is up. */
struct tdx_module {
    bool software;
    u16 major, minor, update;
    u64 features0;
    bool has_dynamic_pamt; /* it has, and tain.cfg lets us use it */
    u64 attributes_fixed0, attributes_fixed1, xfam_fixed0, xfam_fixed1, config_flags_fixed0;
    u32 tdcs_pages, tdvps_pages;
    u32 cpuid_config_count;
    struct {
        u32 leaf, subleaf;
        struct cpuid_values mask;
    } cpuid_config[TDX_CPUID_CONFIG_MAX];
    u32 gpa_bits;               /* width of a GPA; the SHARED bit is the highest: gpa_bits - 1 */
    u16 hkid_first, hkid_count; /* private KeyIDs; the first is the global one */
    u32 hkid_shift;             /* bit of a physical address where the KeyID starts */
    u64 convertible_pages, pamt_pages;
    /*
     * A processor looks at a posted interrupt when it is notified, so one that was posted while
     * the vCPU was out wants a notification at the entry. The software module looks by itself.
     */
    bool posted_wants_notification;
};

/*
 * Looks for Intel's module, else installs the software module; SYS.INIT, LP.INIT on every
 * processor, SYS.RD, TDMRs and PAMTs, SYS.CONFIG, KEY.CONFIG per package, TDMR.INIT.
 * Every processor is in VMX root operation; the page allocator is up. One line a stage.
 */
enum error tdx_module_start(void);
const struct tdx_module *tdx_module(void);

/*
 * How often each of the module's rules was broken since it came up (tdx/abi/soft_rules.def), and
 * the sum; false where nobody counts.
 */
struct broken_rules {
    u64 counts[SOFT_RULES], sum;
};
bool tdx_broken_rules(struct broken_rules *broken);
const char *tdx_rule_name(enum soft_rule rule);

/* One private KeyID for a TD; ERR_NO_MEMORY if all are taken. RANK_KEYS. */
enum error tdx_key_allocate(u16 *hkid);
void tdx_key_free(u16 hkid);

#endif
