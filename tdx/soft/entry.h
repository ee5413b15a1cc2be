/* SPDX-License-Identifier: MIT */
/* What tdx/soft/entry.asm and the C behind it agree on. */
#ifndef TDX_SOFT_ENTRY_H
#define TDX_SOFT_ENTRY_H

#include "boot/cpu.h"
#include "tdx/abi/abi.h"

struct tdvps;

#define SOFT_STACK_BYTES 16384

/* At the top of a processor's module stack while a SEAMCALL is served. */
struct soft_frame {
    struct tdx_regs regs; /* the VMM's; what is here at the end goes back */
    u64 caller_rsp;
    u64 reserved; /* keeps the stack 16-byte aligned */
};
_Static_assert(sizeof(struct soft_frame) % 16 == 0, "stack alignment");

extern u8 soft_stacks[CPU_MAX][SOFT_STACK_BYTES];

/* Called by soft_seamcall_entry on the module's stack, still in the VMM's address space. */
void soft_frame_serve(struct soft_frame *frame);

/*
 * VMLAUNCH or VMRESUME of the current VMCS with the GPRs of `vcpu`; returns after the VM exit
 * that follows with the guest's GPRs back in `vcpu`.
 */
enum soft_run_result {
    SOFT_RUN_EXITED = 0,
    SOFT_RUN_FAILED = 1, /* the instruction itself failed: no entry was attempted */
};
enum soft_run_instruction {
    SOFT_RUN_LAUNCH = 0,
    SOFT_RUN_RESUME = 1,
};
enum soft_run_result soft_guest_run(struct tdvps *vcpu, enum soft_run_instruction instruction);
/* The guest's way back into soft_guest_run: HOST_RIP. */
void soft_guest_exit(void);

/*
 * Lets at most one waiting interrupt in, through the stubs below, and returns its vector;
 * ~0 when none came. The IDT must be the module's. No end of interrupt is signalled.
 */
u32 soft_interrupt_window(void);
#define SOFT_INTERRUPT_STUB_BYTES 16
extern u8 soft_interrupt_stubs[];

#endif
