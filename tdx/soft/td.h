/* SPDX-License-Identifier: MIT */
/*
 * The module's own data: what it keeps in the pages that the VMM gave it (TDR, TDCS, TDVPS), and
 * the few tables of the module itself. The VMM never sees these layouts.
 *
 * Every lock is a try-lock; a leaf that does not get one answers OPERAND_BUSY with the operand.
 */
#ifndef TDX_SOFT_TD_H
#define TDX_SOFT_TD_H

#include <stdatomic.h>

#include "boot/vmx.h"
#include "tdx/soft/seam.h"
#include "tdx/soft/sha384.h"
#include "tdx/soft/soft.h"

#define TDCX_PAGES_BASE 6u
#define TDCX_PAGES_MAX 9
#define TDVPS_PAGES_BASE 6
#define TDVPS_PAGES_MAX_ 15
#define RTMR_COUNT 4
#define CPUID_CONFIG_COUNT 12
#define CPUID_TABLE_MAX 96
#define CPUID_FIELD_MAX 80    /* elements of the fields CPUID_VALID and CPUID_VALUES */
#define CPUID_CONTROL_MAX 128 /* of CPUID_CONTROL; the last ones stay 0 */
#define ZERO_STEP_PAGES_MAX 32
/* Of TD_CTLS: a PENDING page is the VMM's business, not a #VE. */
#define TD_CTLS_PENDING_VE_DISABLE (1ull << 0)
/* Those of newer modules: what CPUID answers itself. REDUCE_VE brings the other two with it. */
#define TD_CTLS_ENUM_TOPOLOGY (1ull << 1)
#define TD_CTLS_VIRT_CPUID2 (1ull << 2)
#define TD_CTLS_REDUCE_VE (1ull << 3)
#define TD_CTLS_CPUID (TD_CTLS_ENUM_TOPOLOGY | TD_CTLS_VIRT_CPUID2 | TD_CTLS_REDUCE_VE)

/* A shared/exclusive try-lock: 0 free, 0x8000 exclusive, else the number of sharers. */
typedef _Atomic u16 trylock_t;
bool trylock_share(trylock_t *lock);
void trylock_unshare(trylock_t *lock);
bool trylock_exclude(trylock_t *lock);
void trylock_unexclude(trylock_t *lock);

struct tdr {
    bool fatal;
    u8 lifecycle; /* enum td_lifecycle */
    u16 hkid;
    u32 num_tdcx;
    _Atomic u64 chldcnt;
    u64 package_config_bitmap;
    u64 tdcx[TDCX_PAGES_MAX];
    u64 uuid[4];
};
_Static_assert(sizeof(struct tdr) <= PAGE_BYTES, "TDR page");

/* The pages of a TDCS, and of a TDVPS. */
#define TDCS_PAGE_DATA 0
#define TDCS_PAGE_MEASURED 1
#define TDCS_PAGE_MSR_BITMAP 2
#define TDCS_PAGE_SEPT_ROOT 3
#define TDCS_PAGE_ZERO 4
#define TDCS_PAGE_X2APIC_IDS 5
#define X2APIC_IDS_MAX (PAGE_BYTES / sizeof(u32))
#define TDVPS_PAGE_VMCS 1
#define TDVPS_PAGE_APIC 2
#define TDVPS_PAGE_XSTATE 3

/* TDCS_PAGE_DATA. */
struct tdcs {
    trylock_t op_state_lock;
    trylock_t sept_lock;
    trylock_t epoch_lock;
    trylock_t rtmr_lock;
    u32 op_state; /* enum td_op_state */
    _Atomic u32 num_vcpus, num_assoc_vcpus;
    u32 max_vcpus;
    u64 attributes, xfam, config_flags, eptp;
    u64 arch_capabilities;
    u8 num_l2_vms;
    bool topology_is_configured; /* every vCPU so far has an x2APIC id that the VMM gave */
    u32 gpa_bits;                /* SHARED is bit gpa_bits - 1 */
    u16 tsc_frequency;
    u64 tsc_offset, tsc_multiplier;
    _Atomic u64 td_epoch;
    _Atomic u64 epoch_refcount[2];
    u64 notify_enables, td_ctls, hp_lock_timeout_us, vm_ctls[4];
    u8 mrconfigid[48], mrowner[48], mrownerconfig[48];
    u8 mrtd[48], rtmr[RTMR_COUNT][48], servtd_hash[48];
};
_Static_assert(sizeof(struct tdcs) <= PAGE_BYTES, "TDCS page 0");

/* TDCS_PAGE_MEASURED. */
struct tdcs_measured {
    struct sha384 mrtd_context;
    struct {
        u32 leaf, subleaf; /* subleaf ~0: not applicable */
        struct cpuid_values values;
    } cpuid[CPUID_TABLE_MAX];
    u32 cpuid_count;
};
_Static_assert(sizeof(struct tdcs_measured) <= PAGE_BYTES, "TDCS page 1");

enum vcpu_state {
    VCPU_UNINITIALIZED = 0,
    VCPU_READY = 2,
    VCPU_ACTIVE = 4,
    VCPU_DISABLED = 8,
};

/* Metadata of a vCPU that the module keeps, and nothing more: see tdx/soft/metadata.def. */
struct tdvps_kept {
#define MEMBER_KEPT(name, count) u64 name[count];
#define MEMBER_NONE(name, count)
#define MEMBER_VMCS(name, count)
#define MEMBER_TDVPS(name, count)
#define MEMBER_TDVPS_FIRST(name, count)
#define MEMBER_TDVPS_PAGE(name, count)
#define MEMBER_PIN_CONTROLS(name, count)
#define MEMBER_STATE_DETAILS(name, count)
#define MEMBER_LAST_TD_EXIT(name, count)
#define VP_FIELD(name, id, rows, fields, elements, access, source, argument) \
    MEMBER_##source(name, (rows) * (fields) * (elements))
#include "tdx/soft/metadata.def"
#undef VP_FIELD
#undef MEMBER_KEPT
#undef MEMBER_NONE
#undef MEMBER_VMCS
#undef MEMBER_TDVPS
#undef MEMBER_TDVPS_FIRST
#undef MEMBER_TDVPS_PAGE
#undef MEMBER_PIN_CONTROLS
#undef MEMBER_STATE_DETAILS
#undef MEMBER_LAST_TD_EXIT
};

/* TDVPS page 0 (TDVPR). The VM-entry code reads gpr by offset: keep it first. */
struct tdvps {
    u64 gpr[GPR_COUNT]; /* of the guest; RSP lives in the VMCS */
    u64 owner_tdr;      /* physical address */
    u64 tdvpr;          /* its own physical address */
    u32 num_pages;
    u64 pages[TDVPS_PAGES_MAX_]; /* physical addresses; [0] is tdvpr */
    u8 state;                    /* enum vcpu_state */
    u32 index;
    u32 x2apic_id;
    u32 assoc_lp; /* ~0: none */
    u64 vcpu_epoch;
    u64 last_exit_tsc;
    bool vmcs_launched;
    bool last_exit_was_vmcall; /* then vmcall_mask says what the next entry passes in */
    u64 vmcall_mask;
    bool last_exit_was_trap; /* the TDCALL is done: the VMM may add a hint to its status */
    bool gives_way;          /* since that TSC the guest waits for locks that the VMM wants */
    u64 gives_way_since;
    u8 pend_nmi; /* a flag, kept as the VMM wrote it */
    struct {
        u32 reason, valid; /* valid: 0xffffffff */
        u64 qualification, gla, gpa;
        u32 instruction_length, instruction_info;
    } ve;
    u8 cpuid_ve_supervisor, cpuid_ve_user; /* flags, kept as they were written */
    u8 cpuid_control[CPUID_CONTROL_MAX];   /* by cpuid_field_index() */
    u64 cr2, dr[4], dr6, xcr0;
    u64 msr_star, msr_lstar, msr_fmask, msr_kernel_gs_base, msr_tsc_aux, msr_xss, msr_cstar;
    u64 posted_descriptor; /* physical address; ~0: not set */
    u16 posted_vector;     /* 0xffff: not set */
    bool posted_enabled;
    u32 requests[8]; /* virtual interrupts that the processor is not shown yet */
    bool eoi_exits;  /* the processor says when one is over */
    u64 shared_eptp; /* the TD's page of zeros until the VMM gives one */
    /* Zero-step filter: private EPT violations in a row, and the last of their pages. */
    u32 fault_count;
    u32 fault_page_count;
    u64 fault_pages[ZERO_STEP_PAGES_MAX];
    struct tdvps_kept kept;
};
_Static_assert(sizeof(struct tdvps) <= PAGE_BYTES, "TDVPR page");

/* The physical memory's metadata: one entry a page, in the PAMTs that the VMM gave. */
struct pamt_entry {
    trylock_t lock;
    u8 type;     /* enum pamt_type */
    u8 owner[5]; /* TDR, bits 51:12 */
    u64 epoch;   /* BEPOCH */
};
_Static_assert(sizeof(struct pamt_entry) == 16, "PAMT entry");

#endif
