/* SPDX-License-Identifier: MIT */
/* Processors as the firmware lists them, and starting them. For boot/ alone. */
#ifndef BOOT_PROCESSORS_H
#define BOOT_PROCESSORS_H

#include "boot/types.h"

struct processor {
    u32 apic_id;
    u32 package; /* the firmware's number */
};

#define CPU_STACK_PAGES 8
#define CPU_IST_PAGES 6

/* Arena pages for that many processors. */
u64 cpu_pages_needed(u32 processors);
/* Sets up the processor that booted, as index 0. */
void cpu_init_first(void);
/* Starts the others one after the other; `page` is below 1 MiB. Panics if one does not start. */
void cpu_start_others(const struct processor *processors, u32 processor_count, u8 *page);

#endif
