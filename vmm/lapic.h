/* SPDX-License-Identifier: MIT */
/*
 * The VMM's part of a vCPU's x2APIC: timer, LVTs and ICR. TPR, EOI, ISR, TMR, IRR and self-IPIs
 * never come here: a TD has APIC virtualisation for them, a VM has vmm/vlapic.h.
 *
 * Touched by the vCPU's own processor alone: no lock.
 */
#ifndef VMM_LAPIC_H
#define VMM_LAPIC_H

#include "boot/error.h"
#include "boot/types.h"
#include "vmm/interrupt.h"

#define LAPIC_LVTS 6 /* timer, thermal, performance, LINT0, LINT1, error: MSRs 0x832...0x837 */

struct lapic {
    u32 apic_id;
    enum lapic_mode {
        LAPIC_OFF,
        LAPIC_XAPIC,
        LAPIC_X2APIC,
    } mode;
    u32 spurious; /* SVR */
    u32 lvt[LAPIC_LVTS];
    u32 lvt_cmci;
    u32 divide;
    u64 icr;
    u32 logical_id, destination_format; /* of xAPIC mode */
    u64 deadline;                       /* guest TSC; 0: not armed */
    /* Counting down, where the guest has no TSC deadline. */
    u32 initial_count;
    u64 count_end_tsc; /* host TSC at which it reaches 0; 0: it does not count */
};

/* The counting timer's clock, as CPUID(15h) tells it to the guest: the crystal's. */
#define LAPIC_TIMER_HZ 25000000ull

/* Power-up state in x2APIC mode; vCPU 0 is the bootstrap processor. */
void lapic_init(struct lapic *lapic, u32 apic_id);

/*
 * A VM's write of IA32_APIC_BASE: changes the mode where "x2APIC State Transitions" has an arrow;
 * the registers start anew behind LAPIC_OFF. ERR_INVALID: #GP.
 */
enum error lapic_base_write(struct lapic *lapic, u64 value);

/* True if the interrupt is for this one, in the mode that it is in; see interrupt_is_for. */
bool lapic_is_meant(const struct lapic *lapic, const struct interrupt *interrupt, u32 sender);

/* True if `msr` is one of ours; the others are somebody else's to answer. */
bool lapic_owns_msr(u32 msr);
/* ERR_INVALID: hardware would raise #GP. */
enum error lapic_read(const struct lapic *lapic, u32 msr, u64 *value);
/*
 * What the write sends is in *interrupt (INTERRUPT_NONE: nothing). Counting starts at the host's
 * present TSC.
 */
enum error lapic_write(struct lapic *lapic, u32 msr, u64 value, struct interrupt *interrupt);

/*
 * The timer has reached its deadline or the end of its count: disarms it, or counts on where it is
 * periodic; true with the vector to raise, false if the timer is masked.
 */
bool lapic_timer_expire(struct lapic *lapic, u8 *vector);

#endif
