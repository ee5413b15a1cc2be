/* SPDX-License-Identifier: MIT */
/* Between vmm/virtio.c, what a device does, and vmm/virtio_pci.c, how its guest reaches it. */
#ifndef VMM_VIRTIO_PARTS_H
#define VMM_VIRTIO_PARTS_H

#include "vmm/virtio.h"

/* The driver did what no correct one does, to that queue: one line, DEVICE_NEEDS_RESET. */
void virtio_break(struct virtio_device *device, u32 queue, const char *what, u64 value);
/* The same, with what the queue says is wrong. */
void virtio_queue_break(struct virtio_device *device, u32 queue);

/* Serves the queues that have been notified of, if the driver has got so far. */
void virtio_run(struct virtio_device *device);
void virtio_reset(struct virtio_device *device);
/* The line's level, after MSI-X was switched on or off. */
void virtio_line_update(struct virtio_device *device);

/* Accesses: of the ISR status, the notification area, the status, the driver's feature word. */
u32 virtio_interrupts_read(struct virtio_device *device, u32 offset, u32 size);
void virtio_notify(struct virtio_device *device, u32 offset, u32 size);
void virtio_status_write(struct virtio_device *device, u8 value);
void virtio_feature_write(struct virtio_device *device, u32 value);

#endif
