/* SPDX-License-Identifier: MIT */
/*
 * Which vCPU runs on which processor, and when. Each processor has a queue of its own: a vCPU stays
 * where it was put until somebody moves it. Among those that can run, the one that has run least
 * is next; it runs until it halts, until its slice is over, or until something else is due.
 *
 * A queue is touched by its own processor alone, so there is no lock: others ask it (cpu_run_on).
 */
#ifndef VMM_SCHEDULE_H
#define VMM_SCHEDULE_H

#include <stdatomic.h>

#include "boot/error.h"
#include "boot/types.h"

struct vcpu;

#define SCHEDULE_SLICE_US 10000

/* The processor with the fewest vCPUs; of several, the first at or after `from`. */
u32 schedule_place(u32 from);

/* vcpu->cpu names the processor. ERR_RANGE: its queue is full. Not from within a slice. */
enum error schedule_add(struct vcpu *vcpu);
/* The vCPU runs nowhere when this returns. Not from within a slice. */
void schedule_remove(struct vcpu *vcpu);
/* Both: the module hears of the new processor at the next entry. Not from within a slice. */
enum error schedule_move(struct vcpu *vcpu, u32 cpu);

/*
 * One slice on this processor, with interrupts disabled; false if no vCPU can run: then the timer
 * is armed for the first that will, or for `wake_tsc`. The slice ends by `wake_tsc` at the latest.
 */
bool schedule_run(u64 wake_tsc);

/* Makes the processor look at its queue again, soon. From anywhere. */
void schedule_kick(u32 cpu);

/*
 * For the loop of a vCPU; `kicked` is cpu_this()->kicked. Whatever ends a slice kicks the
 * processor: the guest's end, a pause or a halt, a call that waits, another vCPU that woke up. So
 * there is one thing to look at.
 */
static inline bool schedule_goes_on(const _Atomic bool *kicked)
{
    return !atomic_load_explicit(kicked, memory_order_relaxed);
}
/* True if the processor is wanted for something else. */
bool schedule_must_yield(u64 now);
/* When that will be, unless somebody kicks first. */
u64 schedule_yield_tsc(void);

#endif
