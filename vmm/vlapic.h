/* SPDX-License-Identifier: MIT */
/*
 * The part of a local APIC that orders interrupts, for the vCPUs of ordinary VMs: which vectors
 * wait (IRR), which are being served (ISR), and which comes next. A TD has hardware for it; timer,
 * LVTs and ICR are vmm/lapic.h's for both.
 *
 * vlapic_post and vlapic_signal may be called on any processor. The rest is the vCPU's own.
 */
#ifndef VMM_VLAPIC_H
#define VMM_VLAPIC_H

#include "boot/error.h"
#include "boot/types.h"

#define VLAPIC_WORDS 4 /* of 64 vectors */
#define VLAPIC_NONE (-1)

/* What does not wait for a priority. */
#define VLAPIC_NMI (1u << 8)
#define VLAPIC_INIT (1u << 9)
#define VLAPIC_STARTUP (1u << 10) /* bits 7:0: the page to start at */
#define VLAPIC_STARTUP_PAGE 0xffu

struct vlapic {
    _Atomic u64 waiting[VLAPIC_WORDS]; /* IRR */
    u64 served[VLAPIC_WORDS];          /* ISR */
    u32 task_priority;
    _Atomic u32 signals; /* VLAPIC_NMI... */
};

/* Nothing waits, as after INIT; signals that arrived since stay. */
void vlapic_reset(struct vlapic *apic);

/* A fixed interrupt; false if the vector was waiting already. */
bool vlapic_post(struct vlapic *apic, u8 vector);
/* VLAPIC_NMI, VLAPIC_INIT, or VLAPIC_STARTUP with its page. */
void vlapic_signal(struct vlapic *apic, u32 signal);
/* Takes all signals. */
u32 vlapic_take_signals(struct vlapic *apic);

/* The vector that may be delivered now, as far as priorities go; VLAPIC_NONE. */
int vlapic_next(const struct vlapic *apic);
/* It is delivered: no longer waits, is served. */
void vlapic_accept(struct vlapic *apic, u8 vector);
/* Its delivery failed: undoes vlapic_accept. */
void vlapic_return(struct vlapic *apic, u8 vector);
/* Any vector that waits, whatever its priority. */
bool vlapic_is_waiting(const struct vlapic *apic);

/* MSRs of the x2APIC that are kept here: TPR, PPR, EOI, ISR, TMR, IRR, self-IPI. */
bool vlapic_owns_msr(u32 msr);
/* ERR_INVALID: hardware would raise #GP. */
enum error vlapic_read(const struct vlapic *apic, u32 msr, u64 *value);
enum error vlapic_write(struct vlapic *apic, u32 msr, u64 value);

#endif
