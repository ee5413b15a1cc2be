/* SPDX-License-Identifier: MIT */
/* What stands for the machine around the driver: MSRs, interrupts between processors, memory. */
#ifndef TESTS_TDX_ENVIRONMENT_H
#define TESTS_TDX_ENVIRONMENT_H

#include "boot/machine.h"
#include "tdx/abi/abi.h"

/* tain.cfg says `module = new`; from the next environment_start on. */
extern bool environment_newer_module;
/* And `checker = no`. */
extern bool environment_checker_off;

/* MSRs: those that are not set fault. */
void environment_msr_set(u32 index, u64 value);
void environment_msrs_clear(void);

extern u32 environment_caches_written_back; /* calls, over all processors */
extern u32 environment_interrupts_sent;
extern u32 environment_interrupt_target;
extern u8 environment_interrupt_vector;

/*
 * A machine of `cpus` processors in `packages` packages with these ranges; the free ones go to
 * the page allocator. Everything starts afresh.
 */
void environment_start(u32 cpus, u32 packages, const struct memory_range *ranges, u32 count);
void environment_stop(void);

/* For td_options: a TD whose CPUID asks for nothing that may be configured. */
struct cpuid_values environment_cpuid_nothing(u32 leaf, u32 subleaf, struct cpuid_values mask);

#endif
