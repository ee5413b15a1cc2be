/* SPDX-License-Identifier: MIT */
/*
 * A small virtio driver: finds its device as a kernel does, by the capabilities, negotiates, sets
 * queues up, and adds chains. What it does right, a test may then do wrong in its memory.
 */
#ifndef TESTS_VMM_VIRTIO_DRIVER_H
#define TESTS_VMM_VIRTIO_DRIVER_H

#include "tests/vmm/device_guest.h"
#include "vmm/virtio.h"

#define DESCRIPTOR_NEXT 1u
#define DESCRIPTOR_WRITE 2u
#define DESCRIPTOR_INDIRECT 4u

/* A queue's memory, from its base on. */
#define QUEUE_AVAILABLE 0x1000u
#define QUEUE_USED 0x2000u
#define QUEUE_TABLE 0x4000u /* an indirect one */
#define QUEUE_BYTES 0x6000u

struct driver_descriptor {
    u64 address;
    u32 len;
    u16 flags, next;
};

struct driver_queue {
    u64 base;
    u16 size, offered, seen; /* indices, free-running */
    u16 next_descriptor;
};

struct virtio_driver {
    struct device_guest *guest;
    u32 slot;
    u64 common, interrupts, config, notify;
    u32 notify_multiplier, window, msix;
    u64 accepted;
    struct driver_queue queues[VIRTIO_QUEUES_MAX];
};

struct driver_buffer {
    u64 address;
    u32 len;
    enum { DRIVER_READABLE, DRIVER_WRITABLE } side;
};

void driver_find(struct virtio_driver *driver, struct device_guest *guest, u32 slot);
u64 driver_get(struct virtio_driver *driver, enum virtio_register reg);
void driver_set(struct virtio_driver *driver, enum virtio_register reg, u64 value);
u64 driver_offered(struct virtio_driver *driver);
/* Resets, and agrees on what is both wanted and offered. */
void driver_negotiate(struct virtio_driver *driver, u64 wanted);
/* `base`: QUEUE_BYTES of guest memory. */
void driver_queue_start(struct virtio_driver *driver, u32 queue, u16 size, u64 base);
void driver_ok(struct virtio_driver *driver);
/* All of that: `queues` of 8 entries, from `base` on, and bus mastering. */
void driver_start(struct virtio_driver *driver, u64 wanted, u32 queues, u64 base);
/* MSI-X with vector n sending data n; queue n has vector n, configuration changes the next. */
void driver_vectors(struct virtio_driver *driver, u32 queues);

/* Chains: direct, and by one indirect descriptor. The result is the head. */
u16 driver_add(struct virtio_driver *driver, u32 queue, const struct driver_buffer *buffers,
               u32 count);
u16 driver_add_indirect(struct virtio_driver *driver, u32 queue,
                        const struct driver_buffer *buffers, u32 count);
void driver_offer(struct virtio_driver *driver, u32 queue, u16 head);
void driver_kick(struct virtio_driver *driver, u32 queue);
/* False: nothing new was used. */
bool driver_take(struct virtio_driver *driver, u32 queue, u32 *head, u32 *len);

void driver_describe(struct virtio_driver *driver, u64 table, u32 index,
                     struct driver_descriptor descriptor);
void driver_put16(struct virtio_driver *driver, u64 address, u16 value);
u16 driver_get16(struct virtio_driver *driver, u64 address);
bool driver_needs_reset(struct virtio_driver *driver);

#endif
