/* SPDX-License-Identifier: MIT */
#ifndef BOOT_TIME_H
#define BOOT_TIME_H

#include "boot/types.h"

/*
 * The TSC's frequency: measured against the PIT, or CPUID's word for it where no PIT ticks.
 * Interrupts are disabled.
 */
u64 time_measure_tsc_hz(void);
/* Busy waiting; good after time_measure_tsc_hz. */
void time_wait_us(u64 us);
u64 time_us_to_tsc(u64 us);

#endif
