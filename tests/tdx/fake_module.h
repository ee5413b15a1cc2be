/* SPDX-License-Identifier: MIT */
/*
 * A module that records what it is asked, agrees to everything, and describes itself as
 * Intel's 1.5 does. What it should refuse, a test says.
 */
#ifndef TESTS_TDX_FAKE_MODULE_H
#define TESTS_TDX_FAKE_MODULE_H

#include "tdx/soft/soft.h"

#define FAKE_CALLS_MAX 65536

struct fake_call {
    u32 leaf;
    u8 version;
    u32 cpu;
    struct tdx_regs in;
};

extern struct fake_call fake_calls[FAKE_CALLS_MAX];
extern u32 fake_call_count;
/* Answers in RAX (and the rest) and returns true, or leaves it to the defaults. */
extern bool (*fake_answer)(u32 leaf, struct tdx_regs *regs);
/* The next calls come back with carry set. */
extern bool fake_carry;
extern u32 fake_gpa_bits;                  /* 0: the field is unknown */
extern struct soft_platform fake_platform; /* what soft_install was given */

void fake_reset(void);
u32 fake_count(u32 leaf);
/* The nth call of the leaf, from 0; null if there was none. */
const struct fake_call *fake_find(u32 leaf, u32 nth);

#endif
