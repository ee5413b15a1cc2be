/* SPDX-License-Identifier: MIT */
/*
 * The keys of the serial line, and the commands for whoever runs Tain. Ctrl-A is the VMM's key:
 * what follows it is no guest's. Processor 0 alone.
 */
#ifndef VMM_MONITOR_H
#define VMM_MONITOR_H

#include "boot/types.h"

/*
 * Runs the guests of tain.cfg, all together or in turn, and serves the line. Entered and left with
 * interrupts disabled; returns when the last has ended, unless the user is at the prompt: then
 * `poweroff` ends it.
 */
void monitor_run(bool in_turn);

/* In the middle of long work: what was typed is taken, and another guest gets a slice. */
void monitor_breathe(void);

/* The keys are not looked at before then. */
void monitor_poll_at(u64 tsc);

#endif
