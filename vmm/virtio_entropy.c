/* SPDX-License-Identifier: MIT */
#include "vmm/virtio_entropy.h"

/* A request gets up to so many; a driver that wants more asks again. */
#define ANSWER_BYTES 256u

static bool serve(struct virtio_device *device, u32 index, u32 *written_bytes)
{
    struct virtio_entropy *entropy = CONTAINER_OF(device, struct virtio_entropy, device);
    struct virtqueue *queue = &device->queues[index];
    u64 room = device->chain.writable_bytes, value;
    if (!room)
        return virtqueue_is_wrong(queue, "a buffer that is not writable", device->chain.head);
    if (room > ANSWER_BYTES)
        room = ANSWER_BYTES;
    while (*written_bytes < room && entropy->random(entropy->context, &value)) {
        u64 left = room - *written_bytes, part = left < sizeof value ? left : sizeof value;
        if (!chain_write(queue, &device->chain, &value, part))
            return false;
        *written_bytes += (u32)part;
    }
    return true;
}

static const struct virtio_kind kind = {
    .name = "entropy",
    .id = 4,
    .class = 0x108000,
    .queues = 1,
    .queue_size = 16,
    .serve = serve,
};

void virtio_entropy_init(struct virtio_entropy *entropy, const struct device_host *host,
                         bool (*random)(void *context, u64 *value), void *context)
{
    memset(entropy, 0, sizeof *entropy);
    entropy->random = random;
    entropy->context = context;
    virtio_init(&entropy->device, host, &kind, 0, NULL);
}
