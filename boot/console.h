/* SPDX-License-Identifier: MIT */
/* COM1 of the machine: where the log goes and where a person types. */
#ifndef BOOT_CONSOLE_H
#define BOOT_CONSOLE_H

#include "boot/types.h"

/* What is queued; the console's own. */
struct console_ring {
    u32 start, end; /* free-running */
};
extern struct console_ring console_ring;

void console_init(void);
/* Queues the bytes; waits for the line only when the ring is full. Callers: the log, under its
 * lock. */
void console_write(const char *bytes, size_t len_bytes);
/* Moves queued bytes into the UART as far as it takes them now / until none is left. */
void console_pump(void);
/* Nothing is queued, as far as a look without the log's lock can tell. */
static inline bool console_is_idle(void)
{
    return __atomic_load_n(&console_ring.start, __ATOMIC_RELAXED) ==
           __atomic_load_n(&console_ring.end, __ATOMIC_RELAXED);
}
void console_flush(void);
/* The same, and waits until the last bit has left the line: before the power goes. */
void console_drain(void);
/* The next byte typed, or -1. Never waits. One processor at a time. */
int console_read(void);

#endif
