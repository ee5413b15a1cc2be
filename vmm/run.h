/* SPDX-License-Identifier: MIT */
/* The loop of a vCPU: enter, serve the exit, enter again. */
#ifndef VMM_RUN_H
#define VMM_RUN_H

struct vcpu;

/* Runs the vCPU (a struct vcpu) on this processor until its VM ends. */
void vcpu_run(void *vcpu);

/*
 * Makes every processor that runs a vCPU of this VM forget its translations of shared memory, and
 * waits until all have. Called on `vcpu`'s own processor, without the VM's locks.
 */
void vm_flush_shared(struct vcpu *vcpu);

const char *td_exit_kind_name(unsigned kind);

#endif
