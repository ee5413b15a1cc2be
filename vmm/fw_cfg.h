/* SPDX-License-Identifier: MIT */
/*
 * As much of QEMU's configuration device as bare-metal test programs ask for: how many processors
 * there are, and how much memory. A selector of 16 bits, and a port that reads byte by byte.
 * Guarded by the VM's lock.
 */
#ifndef VMM_FW_CFG_H
#define VMM_FW_CFG_H

#include "boot/types.h"

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511

struct fw_cfg {
    u16 selected;
    u32 at; /* bytes that were read of it */
};

struct vm;

u8 fw_cfg_read(struct vm *vm, u16 port);
void fw_cfg_write(struct vm *vm, u16 port, u8 value);

#endif
