/* SPDX-License-Identifier: MIT */
/*
 * Multiboot images (version 1), as bare-metal test programs are: ELF of 32 bits, or flat with
 * addresses in the header. Entered in 32-bit protected mode; for ordinary VMs alone.
 */
#ifndef VMM_MULTIBOOT_H
#define VMM_MULTIBOOT_H

#include "vmm/guest_image.h"

/* By the header in its first 8 KiB. */
bool multiboot_is_image(const struct file *file);

/*
 * Adds the image, its module (`initrd`, null: none), the command line and the information that it
 * is told, and sets the start's entry, RDI and flags. What is wrong is named in one line:
 * ERR_INVALID (the file), ERR_RANGE (it does not fit), ERR_UNSUPPORTED (a TD).
 */
enum error multiboot_load(struct guest_image *image, const struct file *kernel,
                          const struct file *initrd);

#endif
