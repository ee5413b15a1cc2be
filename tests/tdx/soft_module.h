/* SPDX-License-Identifier: MIT */
/* The software module's core, called directly, on memory and processors that are not there. */
#ifndef TESTS_TDX_SOFT_MODULE_H
#define TESTS_TDX_SOFT_MODULE_H

#include "boot/types.h"

/* Calls of each leaf that reached the module, since soft_module_counts_clear. */
u32 soft_module_count(u32 leaf);
void soft_module_counts_clear(void);
/* The next `count` calls of PHYMEM.CACHE.WB find an interrupt waiting. */
extern u32 soft_module_interrupts;

#endif
