/* SPDX-License-Identifier: MIT */
/* The loop of a vCPU: enter, serve the exit, enter again. All on the processor of its queue. */
#ifndef VMM_RUN_H
#define VMM_RUN_H

#include "boot/types.h"

struct vcpu;

/* One slice: until the guest halts, ends or is paused, or the processor must yield. */
void vcpu_run(struct vcpu *vcpu);

/* False if it waits, is paused or has ended. Its timer is served; one that waited may wake up. */
bool vcpu_can_run(struct vcpu *vcpu, u64 now);
/* When one that cannot run will, if nobody posts an interrupt; ~0: never. */
u64 vcpu_wake_tsc(struct vcpu *vcpu);
/* Takes what this processor still holds of it. */
void vcpu_leave(const struct vcpu *vcpu);

/*
 * Makes every processor that runs a vCPU of this VM forget its translations of shared memory, and
 * waits until all have. Called on `vcpu`'s own processor, without the VM's locks.
 */
void vm_flush_shared(struct vcpu *vcpu);

const char *td_exit_kind_name(unsigned kind);

#endif
