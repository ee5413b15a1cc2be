/* SPDX-License-Identifier: MIT */
/* Model-specific registers as a guest sees them. (The bitmap: tdx/soft/objects.h.) */
#ifndef TDX_SOFT_MSR_H
#define TDX_SOFT_MSR_H

#include "tdx/soft/run.h"

/* RDMSR and WRMSR exits. */
enum outcome msr_read_handle(struct run *run);
enum outcome msr_write_handle(struct run *run);

#endif
