/* SPDX-License-Identifier: MIT */
/* A source of random bytes. */
#ifndef VMM_VIRTIO_ENTROPY_H
#define VMM_VIRTIO_ENTROPY_H

#include "boot/types.h"
#include "vmm/virtio.h"

struct virtio_entropy {
    struct virtio_device device;
    /* The processor's RDRAND; false: it has none to give now. */
    bool (*random)(void *context, u64 *value);
    void *context;
};

void virtio_entropy_init(struct virtio_entropy *entropy, const struct device_host *host,
                         bool (*random)(void *context, u64 *value), void *context);

#endif
