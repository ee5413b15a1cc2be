/* SPDX-License-Identifier: MIT */
/*
 * One vCPU inside TDH.VP.ENTER: the objects it works on, and what handling a VM exit decides.
 * The vCPU's VMCS is the current one, its MSRs and extended state are in the processor.
 */
#ifndef TDX_SOFT_RUN_H
#define TDX_SOFT_RUN_H

#include "tdx/soft/objects.h"

struct run {
    struct leaf *leaf; /* TDH.VP.ENTER: what it holds stays locked while the guest runs */
    struct td td;
    struct tdvps *vcpu;
    struct tdcs *tdcs; /* td.tdcs and its second page */
    struct tdcs_measured *measured;
    struct tdx_regs *regs; /* the VMM's: a TD exit writes its image here */
    u64 entry_rip;         /* zero_step.c: where the guest was when it was entered last */
    u16 xmm_mask;          /* XMM registers that a TDVMCALL exit exposes */
};

enum outcome {
    OUTCOME_RESUME, /* enter the guest again */
    OUTCOME_EXIT,   /* run->regs holds the TD exit */
};

/* exits.c: the VM exit that just happened. */
enum outcome exit_handle(struct run *run);

/* exits.c: skips the instruction that exited, as if it had been executed. */
void instruction_skip(u64 len_bytes);

/* exits.c: the state of CPL and mode that rules depend on. */
bool guest_is_user_mode(void);
bool guest_is_64_bit(void);

/* td_exit.c: register images of TD exits. */
enum outcome td_exit_asynchronous(struct run *run, enum tdx_status_code status_code, u32 reason);
enum outcome td_exit_ept_violation(struct run *run, u64 address, u64 qualification, u64 detail);
enum outcome td_exit_ept_misconfiguration(struct run *run, u64 address);
enum outcome td_exit_vmcall(struct run *run);
/* Behind a TDCALL that has its status: no reason, and the VMM may add its hint at the next entry.
 */
enum outcome td_exit_trap(struct run *run, enum tdx_status_code status_code);
/* The vCPU (status NON_RECOVERABLE_VCPU) or the whole TD cannot run again. */
enum outcome td_exit_fatal(struct run *run, enum tdx_status_code status_code, u32 reason);

/* events.c */
void event_recover(void); /* at each VM exit, first: an event whose delivery was interrupted */
void event_exception(u8 vector);
void event_exception_code(u8 vector, u32 error_code);
bool event_is_queued(void);
/* #VE with what TDG.VP.VEINFO.GET will report; #DF if the last report was not fetched. */
struct ve_report {
    u32 reason;
    u64 qualification, gla, gpa;
};
enum outcome event_virtualization(struct run *run, const struct ve_report *report);
#define BLOCKED_BY_STI_OR_MOV_SS 3ull
#define BLOCKED_BY_NMI (1ull << 3)

/* Before each entry: an exit is asked for as soon as the guest can take the pending NMI. */
void event_nmi_prepare(struct run *run);
/* At that exit. */
void event_nmi_inject(struct run *run);

/* interrupts.c: posted interrupts, done in software. */
void interrupts_take_posted(struct tdvps *vcpu);
/*
 * Before each entry: the processor is shown the highest request, and that one alone, if the guest
 * can take it right there; otherwise the module asks for an exit as soon as it can. (Bochs delivers
 * what it is shown at an entry whatever IF says then, beside an injected event too, and later
 * whatever IF says when an interrupt of the machine arrives.)
 */
void interrupts_prepare(struct tdvps *vcpu);
/* After each stay: what the guest did not take is a request again. */
void interrupts_collect(struct tdvps *vcpu);
/* A request of the guest's own (self-IPI); vectors below 16 are none. */
void interrupts_request(struct tdvps *vcpu, u8 vector);
/* The guest's IRR, 32 vectors at a time. */
u32 interrupts_irr(const struct tdvps *vcpu, u32 word);
bool interrupts_is_notification(const struct tdvps *vcpu, u8 vector);
/* A virtual interrupt of higher priority than the guest's processor priority waits. */
bool interrupts_is_deliverable(const struct tdvps *vcpu);

/* tdcall.c */
enum outcome tdcall_handle(struct run *run);

/* instruction.c: TDCALL is at the guest's RIP. */
enum instruction {
    INSTRUCTION_OTHER,
    INSTRUCTION_TDCALL,
};
enum instruction instruction_recognise(const struct run *run);
#define TDCALL_BYTES 4

#endif
