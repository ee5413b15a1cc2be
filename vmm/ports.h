/* SPDX-License-Identifier: MIT */
/* I/O ports of a guest: one table says who answers. Takes the VM's lock. */
#ifndef VMM_PORTS_H
#define VMM_PORTS_H

#include "boot/types.h"

struct vm;

/* `size_bytes` is 1, 2 or 4. A port that nobody answers reads all ones. */
u32 ports_read(struct vm *vm, u16 port, u32 size_bytes);
void ports_write(struct vm *vm, u16 port, u32 size_bytes, u32 value);

#endif
