/* SPDX-License-Identifier: MIT */
/* A guest of the software module, played by a test: its way through the tables, its TDCALLs. */
#ifndef TESTS_TDX_GUEST_H
#define TESTS_TDX_GUEST_H

#include "tdx/td.h"
#include "tests/tdx/soft_module.h"

/* What the processor finds for a private GPA in the tables behind an EPTP. */
struct translation {
    u64 page; /* of the 4 KiB that the address lies in */
    enum level level;
};
/* As the processor walks: false where there is no right to read, write and execute. */
bool guest_translate(u64 eptp, u64 address, struct translation *translation);

/* The exit that TDCALL makes; vcpu->gpr are set for TDG.MEM.PAGE.ACCEPT. */
void guest_accept_begin(struct tdvps *vcpu, struct guest_exit *exit, gfn_t frame, enum level level);
/* In a guest's play: it is at another instruction than where it was entered. */
void guest_gets_on(void);
/* The exit of an interrupt that belongs to the VMM. */
void guest_interrupted(struct guest_exit *exit);

/*
 * Enters the vCPU for the one TDG.MEM.PAGE.ACCEPT and leaves. True: *status is what the guest saw;
 * false: the VMM was given `exit`.
 */
bool guest_accept(struct td_vcpu *vcpu, gfn_t frame, enum level level, u64 *status,
                  struct td_exit *exit);

#endif
