/* SPDX-License-Identifier: MIT */
/* Device memory of a guest: one table says who answers. Takes the VM's lock. */
#ifndef VMM_MMIO_H
#define VMM_MMIO_H

#include "boot/types.h"

struct vm;

/* True if a device is there. */
bool mmio_is_device(const struct vm *vm, gpa_t address);

/* `size_bytes` is 1, 2, 4 or 8. Where nobody answers all ones are read. */
u64 mmio_read(struct vm *vm, gpa_t address, u32 size_bytes);
void mmio_write(struct vm *vm, gpa_t address, u32 size_bytes, u64 value);

#endif
