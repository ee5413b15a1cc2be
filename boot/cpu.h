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

struct cpu {
    struct cpu *self; /* at GS:0 */
    u32 index;        /* at GS:8 */
    u32 apic_id;
    u32 package;    /* 0-based, dense */
    u32 locks_held; /* bit per lock rank */
    hpa_t vmxon_region;
    _Atomic bool online;
    /* The call that another processor asked for; null when there is none. */
    void (*_Atomic call)(void *argument);
    void *call_argument;
    u32 caller;          /* who is woken at its end */
    _Atomic bool kicked; /* a kick arrived since the flag was cleared */
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

/* Runs `call` on processor `index` and waits for its end. The target must be idle or be us. */
void cpu_run_on(u32 index, void (*call)(void *argument), void *argument);
/* Runs `call` on every processor, us included, and waits for all. */
void cpu_run_on_all(void (*call)(void *argument), void *argument);
/* Starts `call` on an idle processor and returns at once; cpu_wait waits for its end. */
void cpu_start_on(u32 index, void (*call)(void *argument), void *argument);
void cpu_wait(u32 index);

/* Makes the processor leave the guest it runs, if any (an IPI; the guest exits with it). */
void cpu_kick(u32 index);

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

#endif
