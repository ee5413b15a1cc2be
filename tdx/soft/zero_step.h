/* SPDX-License-Identifier: MIT */
/*
 * The zero-step filter: a VMM that makes a guest fault over and over at one instruction, and lets
 * it accept nothing, must give it the page before the guest is entered again.
 */
#ifndef TDX_SOFT_ZERO_STEP_H
#define TDX_SOFT_ZERO_STEP_H

#include "tdx/soft/run.h"

/* At each VM exit: a guest that has moved on by itself since its last fault gets on. */
void zero_step_exit(struct tdvps *vcpu);
/* The module moves RIP behind a TDCALL: that alone is no progress. */
void zero_step_skip(struct tdvps *vcpu, u64 len_bytes);
/* A private EPT violation that exits the TD. */
void zero_step_count(struct run *run, u64 address);
/* The guest got an answer to an ACCEPT, or leaves for another reason: it gets on. */
void zero_step_forget(struct tdvps *vcpu);

/*
 * Before an entry. True if every page that the guest waits for is accessible to it; else the
 * page that is not. The secure EPT is locked exclusive by the caller if zero_step_is_suspected.
 */
bool zero_step_is_suspected(const struct tdvps *vcpu);
bool zero_step_is_served(const struct run *run, u64 *missing);
/* The suspicion was unfounded: a TD that wants to know of it gets a #VE, if it can take one. */
void zero_step_notify(struct run *run);

#endif
