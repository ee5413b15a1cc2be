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
tdcall_handler tdg_mr_rtmr_extend, tdg_mr_report;

/*
 * tdcall_memory.c: a guest physical operand of `access` (EPT_VIOLATION_READ or _WRITE), which
 * lies in one page. Null where it is not mapped: the call then ends in an EPT violation.
 */
void *tdcall_operand(struct tdcall *call, u64 address, u64 access);

#endif
