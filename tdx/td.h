/* SPDX-License-Identifier: MIT */
/*
 * One TD and its vCPUs, as the module's leaves see them, in the order that the ABI demands.
 * Devices, exits' meanings and memory layout are vmm/'s.
 */
#ifndef TDX_TD_H
#define TDX_TD_H

#include "mm/mirror.h"
#include "tdx/module.h"

#define TD_VCPUS_MAX 64
#define TDCS_PAGES_MAX 16
#define TDVPS_PAGES_MAX 16

struct td_vcpu {
    struct td *td;
    u32 index;
    hpa_t tdvpr;
    hpa_t tdcx[TDVPS_PAGES_MAX]; /* HPA_NONE where not added */
    u32 tdcx_count;
    _Atomic i32 cpu; /* the processor it is associated with, -1: none */
    _Atomic bool in_guest;
    _Atomic u64 exits;       /* times it left VP.ENTER */
    hpa_t descriptor;        /* its posted-interrupt descriptor, in td->descriptors */
    bool wants_notification; /* tdx_module()->posted_wants_notification */
    /* Registers of the last exit, and what the next entry passes in. */
    struct tdx_regs regs;
};

struct td {
    hpa_t tdr;
    u16 hkid;
    bool hkid_assigned, finalized, has_mirror;
    u32 packages_configured;
    hpa_t tdcs[TDCS_PAGES_MAX];
    u32 tdcs_count;
    struct mirror mirror;
    struct lock track_lock; /* TRACK and the kick are one unit */
    _Atomic bool held;      /* vCPUs are kept out */
    _Atomic bool broken;    /* its memory is not what it should be: never enter it again */
    bool
        untracked; /* something was blocked and no TRACK came since: the mirror's lock, excluding */
    struct td_vcpu *vcpus[TD_VCPUS_MAX];
    u32 vcpu_count;
    u64 measured_pages;
    hpa_t descriptors; /* one page for all vCPUs; shared memory, the VMM's to write */
    hpa_t source;      /* what PAGE.ADD copies from, until the TD is finalized */
    /* Guest TSC = (host TSC * multiplier >> 48) + offset; MNG.RD after MNG.INIT. */
    u64 tsc_offset, tsc_multiplier;
};

struct td_options {
    u32 max_vcpus;
    u64 attributes; /* must fit the module's FIXED0/1 */
    u64 tsc_hz;
    /* Called for each CPUID leaf that the module lets us configure; returns the values wanted. */
    struct cpuid_values (*cpuid)(u32 leaf, u32 subleaf, struct cpuid_values mask);
};

/* MNG.CREATE, KEY.CONFIG on each package, ADDCX, MNG.INIT. On error nothing is left behind. */
enum error td_create(struct td *td, const struct td_options *options);

/* PAGE.ADD and MR.EXTEND of one page through the mirror; `content` is one page. */
enum error td_add_page(struct td *td, struct vcpu_caches *caches, gpa_t address,
                       const void *content);

/*
 * VP.CREATE, ADDCX, VP.INIT on this processor (`initial_rcx` is what the guest finds in RCX and
 * R8), then shared EPTP and posted interrupts through VP.WR; last VP.FLUSH, so that the vCPU is
 * nobody's until it is entered. On error what was added stays recorded, and td_destroy takes it
 * back.
 */
enum error td_vcpu_create(struct td *td, struct td_vcpu *vcpu, u64 initial_rcx,
                          hpa_t shared_ept_root);

/* MR.FINALIZE. On error the TD is as before. */
enum error td_finalize(struct td *td);

/*
 * An exit of a vCPU, decoded from VP.ENTER's output registers. Of a TD_EXIT_VMCALL only status,
 * kind and reason are set.
 */
struct td_exit {
    struct tdx_status status;
    enum td_exit_kind {
        TD_EXIT_RETRY,         /* BUSY: serve interrupts, enter again */
        TD_EXIT_VMCALL,        /* TDG.VP.VMCALL; vcpu->regs holds the guest's registers */
        TD_EXIT_EPT_VIOLATION, /* gpa (SHARED bit as in the guest), qualification, detail */
        TD_EXIT_EPT_MISCONFIGURATION,
        TD_EXIT_INTERRUPT, /* interrupt_info names the acknowledged vector */
        TD_EXIT_NMI,
        TD_EXIT_TRIPLE_FAULT,
        TD_EXIT_DEAD,  /* the TD cannot go on */
        TD_EXIT_OTHER, /* reason says which */
        TD_EXIT_KINDS,
    } kind;
    u32 reason;
    u64 qualification;
    enum td_exit_detail detail;
    enum level accept_level; /* TD_EXIT_DETAIL_ACCEPT: what the guest asked for */
    gpa_t address;
    u32 interrupt_info;
};

/*
 * VP.ENTER with vcpu->regs' VMCALL reply registers. Interrupts are disabled. Flushes the vCPU
 * (VP.FLUSH on the processor it is associated with) first if it last ran elsewhere.
 */
void td_vcpu_enter(struct td_vcpu *vcpu, struct td_exit *exit);

/*
 * The vCPU takes an NMI as soon as it can. On the processor that runs it, outside the guest;
 * ERR_BUSY: ask again. Another NMI that waits already is the same one.
 */
enum error td_vcpu_pend_nmi(struct td_vcpu *vcpu);

/* Posts `vector` in the vCPU's descriptor and notifies the processor it runs on, if any. */
void td_vcpu_post(struct td_vcpu *vcpu, u8 vector);
/* True if the vCPU has an interrupt to take: in the descriptor, or VP state details say so. */
bool td_vcpu_interrupt_is_pending(struct td_vcpu *vcpu);

/* The host TSC at which the guest's TSC reaches `guest_tsc`. */
u64 td_tsc_to_host(const struct td *td, u64 guest_tsc);

/* MRTD, readable once finalized. */
#define TD_MEASUREMENT_BYTES 48
enum error td_measurement(struct td *td, u8 mrtd[TD_MEASUREMENT_BYTES]);

/*
 * The whole teardown, in order, from any state of a td_create'd TD: VP.FLUSH, VPFLUSHDONE,
 * CACHE.WB per package, FREEID, mirror_destroy, reclaim of TDVPS, TDCS and last the TDR. What
 * the module refuses is leaked, counted (page_owner PAGE_LEAKED) and named. ERR_REFUSED if
 * anything leaked.
 */
enum error td_destroy(struct td *td);

#endif
