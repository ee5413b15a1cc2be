/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices over PCI, modern ones alone ("Virtual I/O Device (VIRTIO) Version 1.2", "Virtio
 * Over PCI Bus"). This is what all of them share: capabilities, feature negotiation, queue set-up,
 * status, interrupts. What a device does with a request is its kind's.
 *
 * A driver that does what no correct one does breaks its device: one line in the log,
 * DEVICE_NEEDS_RESET, and nothing more is done for it until it resets the device. The work of one
 * call is bounded; what is left is done in the next pci_poll, which `wake` asks for.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include "boot/types.h"
#include "vmm/device.h"
#include "vmm/pci.h"
#include "vmm/virtqueue.h"

#define VIRTIO_QUEUES_MAX 2u

#define VIRTIO_FEATURE_INDIRECT (1ull << 28)
#define VIRTIO_FEATURE_EVENT_INDEX (1ull << 29)
#define VIRTIO_FEATURE_VERSION_1 (1ull << 32)
#define VIRTIO_FEATURE_ACCESS_PLATFORM (1ull << 33) /* TDs insist on it: bounce buffers */

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER 0x02u
#define VIRTIO_STATUS_DRIVER_OK 0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED 0x80u

#define VIRTIO_NO_VECTOR 0xffffu

/* The one BAR: a page for each part, so that a guest may map each as it likes. */
enum virtio_part {
    VIRTIO_PART_COMMON,
    VIRTIO_PART_INTERRUPTS,
    VIRTIO_PART_DEVICE,
    VIRTIO_PART_NOTIFY,
    VIRTIO_PART_VECTORS,
    VIRTIO_PART_PENDING,
};
#define VIRTIO_BAR_BYTES (8 * (u32)PAGE_BYTES)
#define VIRTIO_NOTIFY_MULTIPLIER 4u

enum virtio_register {
#define REGISTER(name, offset, bytes) VIRTIO_##name = offset,
#include "vmm/virtio_registers.def"
#undef REGISTER
};

struct virtio_device;

struct virtio_kind {
    const char *name;
    u16 id;    /* of the device type */
    u32 class; /* PCI's */
    u32 queues;
    u16 queue_size;
    u32 config_bytes; /* of the device's own configuration, which is read-only */
    /*
     * Answers the request in device->chain, which came by that queue; *written_bytes is how much
     * of its writable part was written. False: wrong, as in vmm/virtqueue.h.
     */
    bool (*serve)(struct virtio_device *device, u32 queue, u32 *written_bytes);
    /* Whether a request of that queue could be served now; null: always. */
    bool (*can_serve)(struct virtio_device *device, u32 queue);
    /* The driver begins to use the device, or ends it by a reset; null: nothing to do. */
    void (*start)(struct virtio_device *device);
    void (*stop)(struct virtio_device *device);
};

struct virtio_device {
    struct pci_device pci;
    const struct virtio_kind *kind;
    const void *config;
    u64 offered, accepted;
    u32 offered_select, accepted_select;
    u32 window; /* offset of the capability that is a window to the BAR */
    u8 status, generation;
    u8 interrupts; /* ISR status */
    u16 config_vector, queue_select;
    u16 vectors[VIRTIO_QUEUES_MAX];
    struct virtqueue queues[VIRTIO_QUEUES_MAX];
    u32 notified; /* bit a queue: there may be requests */
    u64 breaks;
    struct virtqueue_chain chain; /* the request that is served */
};

/* `features`: the kind's own. `config` is read as long as the device lives. */
void virtio_init(struct virtio_device *device, const struct device_host *host,
                 const struct virtio_kind *kind, u64 features, const void *config);

/* Something can be served that could not be before. */
void virtio_poll(struct virtio_device *device);
/* The device's own configuration has changed. */
void virtio_config_changed(struct virtio_device *device);

#endif
