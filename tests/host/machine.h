/* SPDX-License-Identifier: MIT */
/*
 * The machine that host tests run on: an arena that stands for physical memory behind
 * boot/phys.h, a log on standard error (or captured), a panic that aborts, one "processor" a
 * thread.
 */
#ifndef TESTS_HOST_MACHINE_H
#define TESTS_HOST_MACHINE_H

#include "boot/types.h"

#define HOST_MEMORY_START 0x100000ull

/* (Re)creates `bytes` of zeroed memory at HOST_MEMORY_START. */
void host_memory_create(u64 bytes);
void host_memory_destroy(void);
/*
 * The memory behind an address, hidden or not: for what plays the TDX module or its guest. Under
 * ASan a hidden page is poisoned, so that whoever keeps a pointer to one that he gave away is found
 * as well; the report names the page and what it is. This opens the page until the next
 * host_memory_close, at the end of each call of the module.
 */
void *host_memory_at(u64 address);
void host_memory_close(void);

/* The processor that the calling thread plays, and how many there are. */
void host_cpu_set(u32 index);
void host_cpu_count_set(u32 count, u32 packages);

/* Everything logged since the last call of host_log_clear, NUL terminated. */
const char *host_log(void);
void host_log_clear(void);
/* Log lines also go to standard error (off at start). */
void host_log_echo(bool on);

/* Pages hidden now (boot/paging.h). */
u64 host_hidden_pages(void);

#endif
