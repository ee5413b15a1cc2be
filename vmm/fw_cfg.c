/* SPDX-License-Identifier: MIT */
#include "vmm/fw_cfg.h"

#include "vmm/vm.h"

#define ITEM_SIGNATURE 0x00
#define ITEM_ID 0x01
#define ITEM_RAM_BYTES 0x03
#define ITEM_CPUS 0x05
#define ITEM_CPUS_MAX 0x0f
#define SIGNATURE 0x554d4551u /* "QEMU" */
#define ID_TRADITIONAL 1u

static u64 item(const struct vm *vm)
{
    switch (vm->fw_cfg.selected) {
    case ITEM_SIGNATURE:
        return SIGNATURE;
    case ITEM_ID:
        return ID_TRADITIONAL;
    case ITEM_RAM_BYTES:
        return vm->config->memory_bytes;
    case ITEM_CPUS:
    case ITEM_CPUS_MAX:
        return vm->vcpu_count;
    default:
        return 0;
    }
}

u8 fw_cfg_read(struct vm *vm, u16 port)
{
    if (port != FW_CFG_DATA || vm->fw_cfg.at >= sizeof(u64))
        return 0;
    return (u8)(item(vm) >> (8 * vm->fw_cfg.at++));
}

/* A write of 16 bits is two of 8: the upper one has no meaning here. */
void fw_cfg_write(struct vm *vm, u16 port, u8 value)
{
    if (port == FW_CFG_SELECTOR)
        vm->fw_cfg = (struct fw_cfg){.selected = value};
}
