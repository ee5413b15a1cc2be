/* SPDX-License-Identifier: MIT */
/* Linux kernels as files: bzImage and ELF vmlinux, entered by the 64-bit boot protocol. */
#ifndef VMM_LINUX_H
#define VMM_LINUX_H

#include "vmm/guest_image.h"

bool linux_is_elf(const struct file *file);

/*
 * Adds kernel, initrd (null: none), boot parameters and command line to the image, and sets the
 * shim's entry, RSI and flags. What is wrong is named in one line: ERR_INVALID (the file),
 * ERR_RANGE (it does not fit into the guest's memory).
 */
enum error linux_load_bzimage(struct guest_image *image, const struct file *kernel,
                              const struct file *initrd);
enum error linux_load_elf(struct guest_image *image, const struct file *kernel,
                          const struct file *initrd);

#endif
