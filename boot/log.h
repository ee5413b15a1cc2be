/* SPDX-License-Identifier: MIT */
/*
 * The log: one line a call, to COM1 and to a ring in memory. Any processor, any context but NMI;
 * lines of several processors do not mix. A line starts with the area that speaks
 * ("tdx: ", "mirror: ").
 *
 * Formats: %s %.*s %c %d %u %x %p %% with l, ll, z, #, width and zero padding, as in the C library.
 */
#ifndef BOOT_LOG_H
#define BOOT_LOG_H

#include <stdarg.h>

#include "boot/types.h"

__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);

/* Raw bytes to the console (a guest's output); no newline is added. */
void log_console(const char *bytes, size_t len_bytes);

/* Moves queued console output on; called where the processor waits or polls anyway. */
void log_pump(void);

/* For panic alone: from now on lines are written without the lock. */
void log_break_lock(void);

/* snprintf's contract. */
__attribute__((format(printf, 3, 4))) int format_string(char *out, size_t out_bytes,
                                                        const char *format, ...);
int format_string_v(char *out, size_t out_bytes, const char *format, va_list arguments);

#endif
