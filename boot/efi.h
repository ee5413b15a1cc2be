/* SPDX-License-Identifier: MIT */
/* The firmware, as the rest of boot/ sees it. GNU-EFI's headers stay inside boot/efi.c. */
#ifndef BOOT_EFI_H
#define BOOT_EFI_H

#include "boot/machine.h"
#include "boot/processors.h"

/* What the firmware told, beyond struct machine. */
struct firmware {
    struct machine machine;
    struct processor processors[1024];
    u32 processor_count;
    u8 *trampoline_page; /* below 1 MiB */
};

/* boot/start.c: takes the machine over; boot services have ended, interrupts are disabled. */
__attribute__((noreturn)) void start_take_over(struct firmware *firmware);

/* ResetSystem(EfiResetShutdown). Returns only if the firmware cannot. */
void efi_shutdown(void);

#endif
