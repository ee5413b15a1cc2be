/* SPDX-License-Identifier: MIT */
/* The software module's core, called directly, on memory and processors that are not there. */
#ifndef TESTS_TDX_SOFT_MODULE_H
#define TESTS_TDX_SOFT_MODULE_H

#include <stdatomic.h>

#include "boot/types.h"

/* Calls of each leaf that reached the module, since soft_module_counts_clear. */
u32 soft_module_count(u32 leaf);
void soft_module_counts_clear(void);
/* The next `count` calls of PHYMEM.CACHE.WB find an interrupt waiting. */
extern _Atomic u32 soft_module_interrupts;

/* A VM exit of a guest that the test plays. */
struct tdvps;
struct guest_exit {
    u32 reason;
    u64 qualification, address;
    u64 interruption; /* of an external interrupt: the vector and its kind */
};
/*
 * What a guest does from its entry to its next VM exit, with its registers in vcpu->gpr; runs on
 * the thread that entered it. Null: no guest can be entered.
 */
extern void (*soft_module_guest)(struct tdvps *vcpu, struct guest_exit *exit);
/* Called, if not null, whenever the module looks at a page: a place to be interrupted. */
extern void (*soft_module_page_hook)(void);
/* Called, if not null, where this processor forgets its translations. */
extern void (*soft_module_invept_hook)(u64 eptp);

#endif
