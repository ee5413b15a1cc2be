/* SPDX-License-Identifier: MIT */
/* A guest with one device of each kind, for tests that do the same to all of them. */
#ifndef TESTS_VMM_DEVICE_SET_H
#define TESTS_VMM_DEVICE_SET_H

#include "tests/vmm/virtio_driver.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_entropy.h"
#include "vmm/virtio_net.h"

enum set_slot {
    SET_BLOCK = 1,
    SET_CONSOLE,
    SET_ENTROPY,
    SET_NET,
    SET_SLOTS,
};

#define SET_SECTORS 64u
#define SET_BAR 0xc0000000u
/* Rings and buffers of a device: it uses nothing else. */
#define SET_MEMORY(slot) (GUEST_RAM + (slot)*0x20000ull)
#define SET_BUFFERS(slot) (SET_MEMORY(slot) + 0x10000)

struct device_set {
    struct device_guest guest;
    struct virtio_block block;
    struct virtio_console console;
    struct virtio_entropy entropy;
    struct virtio_net net;
    struct net_switch net_switch;
    struct switch_port other; /* another guest's, which sends frames and takes none */
    struct virtio_driver drivers[SET_SLOTS];
    u8 image[SET_SECTORS * BLOCK_SECTOR_BYTES];
    u64 printed_bytes;
};

void device_set_init(struct device_set *set);
void device_set_destroy(struct device_set *set);
u32 set_queues(enum set_slot slot);
/* A correct driver's start of that device, with MSI-X. */
void set_start(struct device_set *set, enum set_slot slot);
/* Something waits for console and net. */
void set_send_to_guest(struct device_set *set);
/* The device does its work: a sector is read, a line printed, and so on. */
void set_check_works(struct device_set *set, enum set_slot slot);

#endif
