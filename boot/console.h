/* SPDX-License-Identifier: MIT */
/* COM1 of the machine: where the log goes and where a person types. */
#ifndef BOOT_CONSOLE_H
#define BOOT_CONSOLE_H

#include "boot/types.h"

void console_init(void);
void console_write(const char *bytes, size_t len_bytes);
/* The next byte typed, or -1. Never waits. */
int console_read(void);

#endif
