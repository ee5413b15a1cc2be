/* SPDX-License-Identifier: MIT */
/* What the machine is to a TDX module: hardware that has one, or facts for the software module. */
#ifndef TDX_PLATFORM_H
#define TDX_PLATFORM_H

#include "boot/error.h"
#include "tdx/soft/soft.h"

/* KeyIDs that are private to TDX, and where in a physical address a KeyID is. */
struct private_keyids {
    u16 first, count;
    u32 shift;
};

/*
 * Looks for Intel's module: KeyIDs, the SEAM range, and a SEAMCALL that somebody answers.
 * ERR_NOT_FOUND with one line that says what is missing.
 */
enum error hardware_find(struct private_keyids *keyids);

/*
 * Describes this machine to the software module: the convertible memory is what UEFI calls
 * memory, above 1 MiB; KeyIDs are made up, as nothing is encrypted. ERR_UNSUPPORTED with a line.
 */
enum error software_describe(struct soft_platform *platform);
struct private_keyids software_keyids(const struct soft_platform *platform);

#endif
