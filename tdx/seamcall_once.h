/* SPDX-License-Identifier: MIT */
/*
 * One call, inline: for tdx/seamcall.c, and for the two places that make it at each exit of a
 * guest and for each of its pages. Whoever includes this has set RAX, and retries nothing.
 */
#ifndef TDX_SEAMCALL_ONCE_H
#define TDX_SEAMCALL_ONCE_H

#include <stdatomic.h>

#include "boot/cpu.h"
#include "boot/x86.h"
#include "tdx/seamcall.h"

#pragma GCC visibility push(hidden) /* in the image, and so without a table of addresses */
/* What a call looks at and counts; tdx/seamcall.c's own. */
extern struct seamcall_count seamcall_count_table[TDH_LEAF_LIMIT];
extern bool seamcall_is_measured; /* written before the first call */
extern struct seamcall_clock seamcall_clocks[CPU_MAX];
extern _Atomic u32 seamcall_injections;
#pragma GCC visibility pop
/* The status that this call is made to fail with, or 0. */
struct tdx_status seamcall_injection_find(u32 leaf);
void seamcall_failure_count(enum tdh_leaf leaf, struct tdx_status status);

/* The registers of a call, as many of them as it takes; RAX is the first of both. */
union seamcall_registers {
    struct tdx_regs *all;
    struct tdx_short *few;
};

static inline bool seamcall_plain(bool is_short, union seamcall_registers regs)
{
    return is_short ? tdx_call_short(regs.few) : tdx_call(regs.all);
}

__attribute__((always_inline)) static inline bool
seamcall_measured(enum tdh_leaf leaf, bool is_short, union seamcall_registers regs)
{
    struct seamcall_clock *clock = &seamcall_clocks[cpu_this()->index];
    u64 start = tsc_read();
    if (leaf == TDH_VP_ENTER)
        clock->enter_tsc = start;
    bool carry = seamcall_plain(is_short, regs);
    if (leaf == TDH_VP_ENTER)
        clock->return_tsc = tsc_read();
    else
        clock->module_ticks += tsc_read() - start;
    return carry;
}

__attribute__((always_inline)) static inline struct tdx_status
seamcall_once(enum tdh_leaf leaf, bool is_short, union seamcall_registers regs)
{
    struct tdx_status status = {0};
    atomic_fetch_add_explicit(&seamcall_count_table[leaf].calls, 1, memory_order_relaxed);
    if (atomic_load_explicit(&seamcall_injections, memory_order_acquire))
        status = seamcall_injection_find(leaf);
    if (status.raw == 0) {
        bool carry = seamcall_is_measured ? seamcall_measured(leaf, is_short, regs)
                                          : seamcall_plain(is_short, regs);
        status.raw = carry      ? TDX_STATUS_NO_MODULE
                     : is_short ? regs.few->rax
                                : regs.all->gpr[GPR_RAX];
    }
    if (tdx_status_is_error(status))
        seamcall_failure_count(leaf, status);
    return status;
}

#endif
