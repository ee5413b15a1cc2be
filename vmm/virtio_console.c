/* SPDX-License-Identifier: MIT */
#include "vmm/virtio_console.h"

#define QUEUE_RECEIVE 0u
#define QUEUE_TRANSMIT 1u
#define OUTPUT_BYTES 256u /* at a time */

static struct virtio_console *console_of(struct virtio_device *device)
{
    return CONTAINER_OF(device, struct virtio_console, device);
}

static u32 input_waiting(const struct virtio_console *console)
{
    return console->input_end - console->input_start;
}

bool virtio_console_type(struct virtio_console *console, u8 byte)
{
    if (input_waiting(console) == CONSOLE_INPUT_BYTES)
        return false;
    console->input[console->input_end++ % CONSOLE_INPUT_BYTES] = byte;
    return true;
}

static bool can_serve(struct virtio_device *device, u32 queue)
{
    return queue == QUEUE_TRANSMIT || input_waiting(console_of(device));
}

/* Up to the ring's end: the rest finds the next buffer. */
static bool receive(struct virtio_console *console, u32 *written_bytes)
{
    struct virtqueue_chain *chain = &console->device.chain;
    struct virtqueue *queue = &console->device.queues[QUEUE_RECEIVE];
    u32 start = console->input_start % CONSOLE_INPUT_BYTES, len = CONSOLE_INPUT_BYTES - start;
    if (len > input_waiting(console))
        len = input_waiting(console);
    if (len > chain->writable_bytes)
        len = (u32)chain->writable_bytes;
    if (!len)
        return virtqueue_is_wrong(queue, "a receive buffer that is not writable", chain->head);
    if (!chain_write(queue, chain, console->input + start, len))
        return false;
    console->input_start += len;
    *written_bytes = len;
    return true;
}

static bool transmit(struct virtio_console *console)
{
    struct virtqueue_chain *chain = &console->device.chain;
    struct virtqueue *queue = &console->device.queues[QUEUE_TRANSMIT];
    u8 bytes[OUTPUT_BYTES];
    u64 left = chain->readable_bytes;
    if (left > CONSOLE_REQUEST_BYTES)
        return virtqueue_is_wrong(queue, "more output at once than there may be", left);
    while (left) {
        u32 part = left < OUTPUT_BYTES ? (u32)left : OUTPUT_BYTES;
        if (!chain_read(queue, chain, bytes, part))
            return false;
        console->output(console->context, bytes, part);
        left -= part;
    }
    return true;
}

static bool serve(struct virtio_device *device, u32 index, u32 *written_bytes)
{
    struct virtio_console *console = console_of(device);
    return index == QUEUE_RECEIVE ? receive(console, written_bytes) : transmit(console);
}

static const struct virtio_kind kind = {
    .name = "console",
    .id = 3,
    .class = 0x078000,
    .queues = 2,
    .queue_size = 64,
    .config_bytes = sizeof(struct console_config),
    .serve = serve,
    .can_serve = can_serve,
};

void virtio_console_init(struct virtio_console *console, const struct device_host *host,
                         void (*output)(void *context, const u8 *bytes, u32 len_bytes),
                         void *context)
{
    memset(console, 0, sizeof *console);
    console->output = output;
    console->context = context;
    virtio_init(&console->device, host, &kind, 0, &console->config);
}
