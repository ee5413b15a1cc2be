/* SPDX-License-Identifier: MIT */
#include "boot/log.h"

#include "boot/console.h"
#include "boot/lock.h"
#include "boot/string.h"

#define LINE_BYTES 512

/* The last of what was said, for a debugger or a machine without a serial port. */
#define MEMORY_LOG_BYTES 65536u
char log_memory[MEMORY_LOG_BYTES];
u32 log_memory_end; /* free-running */

static struct lock log_lock = LOCK_INIT(RANK_LOG, "log");
/* Set by a panic: the lock's holder may never run again. */
static bool log_unlocked;

void log_break_lock(void)
{
    log_unlocked = true;
}

static void emit(const char *bytes, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes; i++)
        log_memory[log_memory_end++ % MEMORY_LOG_BYTES] = bytes[i];
    console_write(bytes, len_bytes);
}

void log_line(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int len = format_string_v(line, sizeof line - 2, format, arguments);
    va_end(arguments);
    if (len > (int)sizeof line - 3)
        len = (int)sizeof line - 3;
    line[len++] = '\r';
    line[len++] = '\n';

    bool locked = !log_unlocked;
    if (locked)
        lock_take(&log_lock);
    emit(line, (size_t)len);
    console_flush(); /* our own lines are there even if the next instruction is the last */
    if (locked)
        lock_release(&log_lock);
}

void log_console(const char *bytes, size_t len_bytes)
{
    lock_take(&log_lock);
    emit(bytes, len_bytes);
    lock_release(&log_lock);
}

void log_pump(void)
{
    if (console_is_idle()) /* who queues more now pumps it, or a later look finds it */
        return;
    if (lock_try(&log_lock)) {
        console_pump();
        lock_release(&log_lock);
    }
}
