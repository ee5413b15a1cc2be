/* SPDX-License-Identifier: MIT */
/*
 * The TDX ABI in numbers: what the VMM's driver (tdx/) and the software module (tdx/soft/) both
 * read. Tables and layouts only; neither side's code lives here.
 */
#ifndef TDX_ABI_ABI_H
#define TDX_ABI_ABI_H

#include "boot/types.h"

enum tdh_leaf {
#define TDH_LEAF(leaf, number, name) leaf = number,
#include "tdx/abi/tdh_leaves.def"
#undef TDH_LEAF
};
#define TDH_LEAF_LIMIT 128

enum tdg_leaf {
#define TDG_LEAF(leaf, number, name) leaf = number,
#include "tdx/abi/tdg_leaves.def"
#undef TDG_LEAF
};

enum tdx_operand {
#define TDX_OPERAND(operand, id) operand = id,
#include "tdx/abi/operands.def"
#undef TDX_OPERAND
};

/* Upper halves (bits 63:32) of a completion status. */
enum tdx_status_code {
#define TDX_STATUS(status, value) status = value,
#include "tdx/abi/status.def"
#undef TDX_STATUS
};

#define TDX_STATUS_ERROR (1ull << 63)
#define TDX_STATUS_NON_RECOVERABLE (1ull << 62)
#define TDX_STATUS_FATAL (1ull << 61)
#define TDX_STATUS_HOST_HINT (1ull << 60)

/* Pseudo status of a SEAMCALL that no module answered; class 0xff is never used by a module. */
#define TDX_STATUS_NO_MODULE 0x8000ff00ffff0000ull /* VMfailInvalid */
#define TDX_STATUS_SEAMCALL_GP 0x8000ff000000000dull
#define TDX_STATUS_SEAMCALL_UD 0x8000ff0000000006ull

/* RAX going in: leaf 15:0, version 23:16, the rest reserved. */
#define TDX_LEAF_MASK 0xffffull
#define TDX_VERSION_SHIFT 16
#define TDX_VERSION_MASK (0xffull << TDX_VERSION_SHIFT)
#define TDX_LEAF_RESERVED (~(TDX_LEAF_MASK | TDX_VERSION_MASK))

/* A GPR index as VMCALL's mask and the VMX instruction information number them. */
enum gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT,
};

/* The registers that SEAMCALL and TDCALL pass, by GPR index; the RSP slot is unused. */
struct tdx_regs {
    u64 gpr[GPR_COUNT];
};

/* PGINFO operand: level 2:0, GPA 51:12. */
#define TDX_GPA_LEVEL_MASK 7ull
#define TDX_ADDRESS_MASK 0x000ffffffffff000ull

/* Secure EPT entry states as RDX bits 15:8 report them. */
enum sept_state {
    SEPT_FREE = 0,
    SEPT_BLOCKED = 1,
    SEPT_PENDING = 2,
    SEPT_PENDING_BLOCKED = 3,
    SEPT_MAPPED = 4,
    SEPT_REMOVED = 5,
    SEPT_NL_BLOCKED = 129,
    SEPT_NL_MAPPED = 132,
};

enum td_op_state {
    TD_UNINITIALIZED = 0,
    TD_INITIALIZED = 1,
    TD_RUNNABLE = 2,
};

enum td_lifecycle {
    TD_HKID_ASSIGNED = 0,
    TD_KEYS_CONFIGURED = 1,
    TD_BLOCKED = 2,
    TD_TEARDOWN = 3,
};

/* Page types as PHYMEM.PAGE.RDMD and RECLAIM report them. */
enum pamt_type {
    PT_NDA = 0,
    PT_RSVD = 1,
    PT_REG = 3,
    PT_TDR = 4,
    PT_TDCX = 5,
    PT_TDVPR = 6,
    PT_EPT = 8,
    PT_PAMT = 15, /* Dynamic PAMT: a page of a pair, or a 2 MiB region that has one */
};

/* Bits of TD_PARAMS.ATTRIBUTES. */
#define TD_ATTRIBUTE_DEBUG (1ull << 0)
#define TD_ATTRIBUTE_SEPT_VE_DISABLE (1ull << 28)
#define TD_ATTRIBUTE_MIGRATABLE (1ull << 29)
#define TD_ATTRIBUTE_PKS (1ull << 30)
#define TD_ATTRIBUTE_PERFMON (1ull << 63)

/* Bits of TD_PARAMS.CONFIG_FLAGS. */
#define TD_CONFIG_GPAW_52 (1ull << 0)
#define TD_CONFIG_FLEXIBLE_PENDING_VE (1ull << 1)
#define TD_CONFIG_NO_RBP_MOD (1ull << 2)

/* Bits of TDX_FEATURES0. */
#define TDX_FEATURE_NO_RBP_MOD (1ull << 18)
#define TDX_FEATURE_TOPOLOGY_ENUM (1ull << 20)
#define TDX_FEATURE_CPUID2_VIRT (1ull << 29)
#define TDX_FEATURE_VE_REDUCTION (1ull << 30)
#define TDX_FEATURE_DYNAMIC_PAMT (1ull << 36)

/* VP.ENTER, extended exit qualification (RDX bits 3:0). */
enum td_exit_detail {
    TD_EXIT_DETAIL_NONE = 0,
    TD_EXIT_DETAIL_ACCEPT = 1,
    TD_EXIT_DETAIL_ATTR_WR = 5,
    TD_EXIT_DETAIL_PENDING_EPT_VIOLATION = 6,
};

#define TDX_MR_EXTEND_BYTES 256
#define TDX_TSC_UNIT_HZ 25000000ull
#define TDX_TSC_UNITS_MIN 4
#define TDX_TSC_UNITS_MAX 400

#define TDX_CMR_MAX 32
struct tdx_cmr {
    u64 base;
    u64 bytes;
};

#define TDMR_RESERVED_MAX 16
struct tdmr_info {
    u64 base, size;
    u64 pamt_1g_base, pamt_1g_size;
    u64 pamt_2m_base, pamt_2m_size;
    u64 pamt_4k_base, pamt_4k_size;
    struct {
        u64 offset, size;
    } reserved[TDMR_RESERVED_MAX];
};
_Static_assert(sizeof(struct tdmr_info) == 320, "TDMR_INFO");
#define TDMR_INFO_ALIGN 512

/* SYS.CONFIG, R8: the global KeyID 15:0, flags above. */
#define TDX_CONFIG_KEYID_MASK 0xffffull
#define TDX_CONFIG_DYNAMIC_PAMT (1ull << 16)
/* Dynamic PAMT: pages that describe the 4 KiB pages of 2 MiB. */
#define PAMT_PAIR_PAGES 2

struct cpuid_values {
    u32 eax, ebx, ecx, edx;
};

struct td_params {
    u64 attributes;
    u64 xfam;
    u16 max_vcpus;
    u8 num_l2_vms;
    u8 msr_config_ctls;
    u8 reserved_20[4];
    u64 eptp_controls;
    u64 config_flags;
    u16 tsc_frequency;
    u8 reserved_42[38];
    u8 mrconfigid[48];
    u8 mrowner[48];
    u8 mrownerconfig[48];
    u64 arch_capabilities_config;
    u8 reserved_232[24];
    struct cpuid_values cpuid[48];
};
_Static_assert(sizeof(struct td_params) == 1024, "TD_PARAMS");

/* Metadata field ids (SYS.RD, MNG.RD/WR, VP.RD/WR), as the ABI spells them in full. */
#define MD_SYS_MINOR_VERSION 0x0800000100000003ull
#define MD_SYS_MAJOR_VERSION 0x0800000100000004ull
#define MD_SYS_UPDATE_VERSION 0x0800000100000005ull
#define MD_SYS_TDX_FEATURES0 0x0a00000300000008ull
#define MD_SYS_NUM_CMRS 0x9000000100000000ull
#define MD_SYS_CMR_BASE 0x9000000300000080ull
#define MD_SYS_CMR_SIZE 0x9000000300000100ull
#define MD_SYS_MAX_TDMRS 0x9100000100000008ull
#define MD_SYS_MAX_RESERVED_PER_TDMR 0x9100000100000009ull
#define MD_SYS_PAMT_4K_ENTRY_SIZE 0x9100000100000010ull
#define MD_SYS_PAMT_2M_ENTRY_SIZE 0x9100000100000011ull
#define MD_SYS_PAMT_1G_ENTRY_SIZE 0x9100000100000012ull
#define MD_SYS_PAMT_PAGE_BITMAP_ENTRY_BITS 0x9100000100000013ull
#define MD_SYS_TDR_BASE_SIZE 0x9800000100000000ull
#define MD_SYS_TDCS_BASE_SIZE 0x9800000100000100ull
#define MD_SYS_TDVPS_BASE_SIZE 0x9800000100000200ull
#define MD_SYS_ATTRIBUTES_FIXED0 0x1900000300000000ull
#define MD_SYS_ATTRIBUTES_FIXED1 0x1900000300000001ull
#define MD_SYS_XFAM_FIXED0 0x1900000300000002ull
#define MD_SYS_XFAM_FIXED1 0x1900000300000003ull
#define MD_SYS_NUM_CPUID_CONFIG 0x9900000100000004ull
#define MD_SYS_CONFIG_FLAGS_FIXED0 0x9900000300000006ull
#define MD_SYS_CPUID_CONFIG_LEAVES 0x9900000300000400ull
#define MD_SYS_CPUID_CONFIG_VALUES 0x9900000300000500ull
/*
 * Of the software module alone, class 63 (non-architectural): the width of a guest physical
 * address on a machine whose own addresses are narrower than 48 bits. Intel's module answers
 * METADATA_FIELD_ID_INCORRECT.
 */
#define MD_SYS_SOFT_GPA_WIDTH 0xbf00000100000000ull

#define MD_TD_NUM_VCPUS 0x9010000200000001ull
#define MD_TD_TSC_OFFSET 0x111000030000000aull
#define MD_TD_TSC_MULTIPLIER 0x111000030000000bull
#define MD_TD_MRTD 0x1310000300000000ull

#define MD_VP_POSTED_INTR_NV 0x0024000100000002ull
#define MD_VP_POSTED_INTR_DESC 0x0024000300002016ull
#define MD_VP_SHARED_EPTP 0x002400030000203cull
#define MD_VP_PIN_CONTROLS 0x0024000200004000ull
#define MD_VP_PIN_POSTED_INTERRUPTS (1ull << 7)
#define MD_VP_PEND_NMI 0x202000000000000bull
#define MD_VP_STATE_DETAILS 0x9120000300000100ull
#define MD_VP_STATE_DETAILS_INTERRUPT (1ull << 0)

#endif
