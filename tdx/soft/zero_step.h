/* SPDX-License-Identifier: MIT */
/*
 * The zero-step filter: a VMM that makes a guest fault at one instruction over and over, and lets
 * it make no progress, must give it the page before the guest is entered again.
 */
#ifndef TDX_SOFT_ZERO_STEP_H
#define TDX_SOFT_ZERO_STEP_H

#include "tdx/soft/run.h"

/*
 * A private EPT violation that exits the TD. Not those of a TDCALL: a guest that accepts its memory
 * in a loop faults at one RIP, and what the VMM then adds is PENDING.
 */
void zero_step_count(struct run *run, u64 address);
/*
 * A TDCALL: the guest got on. Without this a guest that accepts page after page in the #VE
 * handler of one instruction would be taken for a victim, and its PENDING pages never served.
 */
void zero_step_note_progress(struct run *run);

/*
 * Before an entry. True if every page that the guest waits for is accessible to it; else the
 * page that is not. The secure EPT is locked exclusive by the caller if zero_step_is_suspected.
 */
bool zero_step_is_suspected(const struct tdvps *vcpu);
bool zero_step_is_served(struct run *run, u64 *missing);

#endif
