/* SPDX-License-Identifier: MIT */
/* Model-specific registers as a guest sees them: tdx/soft/msr.def in action. */
#ifndef TDX_SOFT_MSR_H
#define TDX_SOFT_MSR_H

#include "tdx/soft/run.h"

/* Writes the MSR bitmap page of a TD whose attributes, XFAM and CPUID values are decided. */
void msr_bitmap_write(u8 *page, const struct tdcs *tdcs, const struct tdcs_measured *measured);

/* RDMSR and WRMSR exits. */
enum outcome msr_read_handle(struct run *run);
enum outcome msr_write_handle(struct run *run);

#endif
