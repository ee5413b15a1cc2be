/* SPDX-License-Identifier: MIT */
#include "boot/power.h"

#include "boot/console.h"
#include "boot/efi.h"
#include "boot/log.h"

void power_off(int status)
{
    log_line("tain: exit %d", status);
    console_drain();
    efi_shutdown();
    for (;;)
        __asm__ volatile("cli; hlt");
}
