/* SPDX-License-Identifier: MIT */
#ifndef BOOT_POWER_H
#define BOOT_POWER_H

/*
 * Says "tain: exit STATUS" as the last line, and switches the machine off through the firmware's
 * ResetSystem; halts if that returns.
 */
__attribute__((noreturn)) void power_off(int status);

#endif
