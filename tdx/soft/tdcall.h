/* SPDX-License-Identifier: MIT */
/* One TDCALL of a guest and its leaves. */
#ifndef TDX_SOFT_TDCALL_H
#define TDX_SOFT_TDCALL_H

#include "tdx/soft/run.h"

enum tdcall_end {
    TDCALL_COMPLETED, /* RAX is the status; the guest goes on behind the instruction */
    TDCALL_REPEATED,  /* an interrupt comes first; the guest executes the instruction again */
    TDCALL_FAULTED,   /* TD exit, then the guest executes the instruction again */
    TDCALL_EXITED,    /* TD exit, then the guest goes on behind the instruction */
};

struct tdcall {
    struct run *run;
    struct leaf *leaf; /* what it locks */
    u64 *gpr;          /* the guest's */
    u32 version;
    enum tdcall_end end; /* COMPLETED unless the leaf says otherwise */
};

/* A leaf answers its completion status. */
typedef u64 tdcall_handler(struct tdcall *call);

/* tdcall_memory.c */
tdcall_handler tdg_mem_page_accept, tdg_mem_page_attr_rd, tdg_mem_page_attr_wr;
/* tdcall_measurement.c */
tdcall_handler tdg_mr_rtmr_extend, tdg_mr_report, tdg_mr_verifyreport;
/* tdcall_fields.c */
tdcall_handler tdg_vm_rd, tdg_vm_wr, tdg_vp_rd, tdg_vp_wr, tdg_sys_rd, tdg_sys_rdall;

/* tdcall_operand.c: a guest physical operand, which lies in one page. */
struct tdcall_operand {
    u64 address;
    enum tdx_operand operand;
    u64 rights;      /* EPT_READ, or with EPT_WRITE */
    bool is_private; /* a shared address is refused */
};
/*
 * Null if it cannot be used: then *status is what the leaf answers, and call->end says how the
 * call ends, which may be a violation that the VMM or the guest has to serve first.
 */
void *tdcall_operand(struct tdcall *call, const struct tdcall_operand *operand, u64 *status);

#endif
