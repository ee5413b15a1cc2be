/* SPDX-License-Identifier: MIT */
/*
 * The zero-step filter: a VMM that enters a guest over and over, and lets it do nothing but fault
 * where it was entered, must give it the page before the guest is entered again.
 */
#ifndef TDX_SOFT_ZERO_STEP_H
#define TDX_SOFT_ZERO_STEP_H

#include "tdx/soft/run.h"

/* Around each stay in the guest: one that executed an instruction by itself has got on. */
void zero_step_enter(struct run *run);
void zero_step_leave(struct run *run);
/* A private EPT violation that exits the TD. */
void zero_step_count(struct run *run, u64 address);
/* The guest got an answer to an ACCEPT. */
void zero_step_forget(struct tdvps *vcpu);

/*
 * Before an entry. True if every page that the guest waits for is accessible to it; else the
 * page that is not. The secure EPT is locked exclusive by the caller if zero_step_is_suspected.
 */
bool zero_step_is_suspected(const struct tdvps *vcpu);
bool zero_step_is_served(struct run *run, u64 *missing);
/* The suspicion was unfounded: a TD that wants to know of it gets a #VE, if it can take one. */
void zero_step_notify(struct run *run);

#endif
