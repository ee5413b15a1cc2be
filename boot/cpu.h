/* SPDX-License-Identifier: MIT */
/*
 * Processors: the per-processor block (GS base points at it), and running a function on another
 * processor. Index 0 is the one that booted.
 */
#ifndef BOOT_CPU_H
#define BOOT_CPU_H

#include <stdatomic.h>

#include "boot/error.h"
#include "boot/types.h"

#define CPU_MAX 64

/* What processors were asked to do, on the stack of the one that asked. */
struct cpu_call {
    void (*call)(void *argument);
    void *argument;
    u32 caller;       /* who is woken at the end */
    _Atomic u32 left; /* processors that have not done it yet */
};

struct cpu {
    struct cpu *self; /* at GS:0 */
    u32 index;        /* at GS:8 */
    u32 apic_id;
    u32 package;    /* 0-based, dense */
    u32 locks_held; /* bit per lock rank */
    hpa_t vmxon_region;
    _Atomic bool online;
    struct cpu_call *_Atomic call; /* null: none */
    _Atomic bool kicked;           /* a kick arrived since the flag was cleared */
    u64 timer_tsc;                 /* what the timer is armed for; 0: it is not */
};

#if __STDC_HOSTED__
struct cpu *cpu_this(void); /* of host tests */
#else
static inline struct cpu *cpu_this(void)
{
    struct cpu *cpu;
    __asm__("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}
#endif
struct cpu *cpu_at(u32 index);
u32 cpu_count(void);
u32 cpu_package_count(void);

/*
 * Runs `call` on processor `index`, and waits for its end. A processor serves calls while it idles
 * and while it waits for another's, so the caller must hold no lock that the other may be waiting
 * for. On the target, interrupts are disabled.
 */
void cpu_run_on(u32 index, void (*call)(void *argument), void *argument);
/* Runs `call` on every processor, us included, all at once, and waits for all. */
void cpu_run_on_all(void (*call)(void *argument), void *argument);

/*
 * What processors but the first do when no call waits: `work` runs with interrupts disabled, and
 * returns false if there is nothing to do until an interrupt. Null: nothing.
 */
void cpu_set_work(bool (*work)(void));
/* For the first processor, whose loop is the caller's: does the call that waits, if any. */
void cpu_serve_call(void);
bool cpu_call_is_waiting(void);

/* Makes the processor leave the guest it runs, if any (an IPI; the guest exits with it). */
void cpu_kick(u32 index);

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

#endif
