/* SPDX-License-Identifier: MIT */
/*
 * The software TDX module as the driver sees it: a description of the platform goes in, an entry
 * with the register ABI of SEAMCALL comes out. Nothing else of tdx/soft/ is for the driver.
 */
#ifndef TDX_SOFT_SOFT_H
#define TDX_SOFT_SOFT_H

#include "boot/cpu.h"
#include "boot/error.h"
#include "tdx/abi/abi.h"

#define SOFT_PACKAGES_MAX 8
/* What newer_features may have. */
#define SOFT_NEWER_FEATURES                                                           \
    (TDX_FEATURE_DYNAMIC_PAMT | TDX_FEATURE_TOPOLOGY_ENUM | TDX_FEATURE_CPUID2_VIRT | \
     TDX_FEATURE_VE_REDUCTION)

/* An MSR that is not as tdx/soft/platform_msrs.def says: of one processor, or of all. */
#define SOFT_MSRS_MAX 8
#define SOFT_ALL_LPS (~0u)
struct soft_msr {
    u32 lp, index;
    u64 value;
};

/* What the hardware and its BIOS tell a real module. Data: the same on a machine and in replay. */
struct soft_platform {
    u32 lp_count;
    u32 package_count;
    u32 lp_package[CPU_MAX];
    u32 physical_address_bits; /* with the KeyID bits: 52; pages themselves may need fewer */
    u32 memory_address_bits;   /* what the processor's EPT can hold: 40 on Bochs */
    u32 gpa_bits;              /* widest GPA offered: 48 or 52, less where EPT holds less */
    u32 keyid_bits;            /* at the top of a physical address */
    u32 shared_keyids; /* KeyIDs [0, shared) are MKTME's, [shared, shared + private) TDX's */
    u32 private_keyids;
    struct tdx_cmr cmrs[TDX_CMR_MAX];
    u32 cmr_count;
    u64 seam_base, seam_bytes; /* the SEAM range: no shared operand may overlap it */
    u64 tsc_hz;
    u64 xfam;                  /* extended state that the processor has: XCR0 and IA32_XSS bits */
    u32 family_model_stepping; /* CPUID(1).EAX */
    u32 wbinvd_blocks;         /* PHYMEM.CACHE.WB works in this many steps */
    struct soft_msr msrs[SOFT_MSRS_MAX];
    u32 msr_count;      /* 0: every MSR is as the module wants it */
    u64 newer_features; /* of later modules, as in TDX_FEATURES0; 0: just what 1.5.01 has */
    /* The module's own address space and what enters it. */
    hpa_t annex_root;
};

/* Takes the platform as it is and resets the module to "loaded, SYS.INIT pending". */
enum error soft_install(const struct soft_platform *platform);

/* The entry (tdx/soft/entry.asm): registers as SEAMCALL has them, reached by CALL. */
void soft_seamcall_entry(void);

#endif
