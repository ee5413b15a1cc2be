/* SPDX-License-Identifier: MIT */
/*
 * The machine's serial line as a guest's console. Ctrl-A x ends the guest, Ctrl-A m audits its
 * memory; Ctrl-A a is a Ctrl-A of its own. Guarded by the VM's lock.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "boot/types.h"

struct vm;

struct guest_console {
    bool escaped; /* Ctrl-A was typed */
    bool in_line; /* the guest's output stands in the middle of a line */
    bool audit_wanted;
};

/* One line that says whose console it is from now on. */
void guest_console_begin(struct vm *vm);
/* After it, the VMM's lines start on a line of their own. */
void guest_console_end(struct vm *vm);
/* What the guest's UART sends; `context` is the VM. */
void guest_console_output(void *context, u8 byte);
/* Takes what was typed, as long as the guest's UART has room for it. */
void guest_console_poll(struct vm *vm);

#endif
