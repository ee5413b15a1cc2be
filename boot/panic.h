/* SPDX-License-Identifier: MIT */
/* The end of the VMM, told once, with everything that helps. */
#ifndef BOOT_PANIC_H
#define BOOT_PANIC_H

#include "boot/assert.h"
#include "boot/exceptions.h"

/* panic() with the registers of an exception. */
__attribute__((noreturn, format(printf, 2, 3))) void panic_with(const struct exception_frame *frame,
                                                                const char *format, ...);

/* In the NMI handler: stops this processor if another one panics. */
void panic_stop_if_wanted(void);

#endif
