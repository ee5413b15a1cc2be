/* SPDX-License-Identifier: MIT */
/*
 * The machine's serial line as the console of one guest at a time. What the others print is kept,
 * the last of it, until the line is theirs.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "boot/types.h"

struct vm;

#define CONSOLE_KEPT_BYTES 8192u

/* Guarded by the VM's lock. */
struct guest_console {
    bool in_line; /* the guest's output stands in the middle of a line */
    char kept[CONSOLE_KEPT_BYTES];
    u32 kept_start, kept_end; /* free-running */
};

/* It is nobody's: the first guest that is offered it has it. */
void guest_console_init(void);
/* The monitor's user has it. */
bool guest_console_is_the_monitors(void);
/* Whose the line is; null: no guest's. Processor 0 alone changes it. */
struct vm *guest_console_owner(void);
/*
 * Gives the line to a guest: one line says so, what was kept follows. Null: takes it for the
 * monitor, whose lines start on a line of their own.
 */
void guest_console_give(struct vm *vm);
/* The same, unless somebody has the line, the monitor's user included. */
void guest_console_offer(struct vm *vm);
/*
 * Its guest has ended: what was kept and never shown is printed, and the line is free for the next
 * that is offered it.
 */
void guest_console_take_back(struct vm *vm);

/* What a guest's UART sends; `context` is the VM, whose lock is held. */
void guest_console_output(void *context, u8 byte);
/* A key for the guest that has the line; false if its UART has no room now. */
bool guest_console_type(u8 key);

#endif
