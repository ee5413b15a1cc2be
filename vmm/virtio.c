/* SPDX-License-Identifier: MIT */
#include "vmm/virtio.h"

#include "boot/log.h"
#include "vmm/virtio_parts.h"

#define INTERRUPT_QUEUE 1u
#define INTERRUPT_CONFIG 2u
#define STATUS_WRITABLE                                                           \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK | \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

/* What one run serves of one queue: bytes, where a buffer costs some by itself. */
#define RUN_BYTES MIB
#define BUFFER_COST_BYTES 256u

/* A driver that breaks its device over and over fills no log. */
#define BREAKS_LOGGED 8u

/* --- Interrupts ------------------------------------------------------------------------------ */

void virtio_line_update(struct virtio_device *device)
{
    pci_set_interrupt(&device->pci, device->interrupts && !msix_is_enabled(&device->pci.msix));
}

static void interrupt(struct virtio_device *device, u8 cause, u16 vector)
{
    if (!msix_is_enabled(&device->pci.msix)) {
        device->interrupts |= cause;
        virtio_line_update(device);
    } else if (pci_is_master(&device->pci)) {
        msix_send(&device->pci.msix, vector);
    }
}

u32 virtio_interrupts_read(struct virtio_device *device, u32 offset, u32 size)
{
    if (offset || size != 1)
        return 0;
    u8 causes = device->interrupts;
    device->interrupts = 0;
    virtio_line_update(device);
    return causes;
}

void virtio_config_changed(struct virtio_device *device)
{
    device->generation++;
    if (device->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(device, INTERRUPT_CONFIG, device->config_vector);
}

/* --- Misdeeds -------------------------------------------------------------------------------- */

void virtio_break(struct virtio_device *device, u32 queue, const char *what, u64 value)
{
    if (device->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    device->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (device->breaks++ < BREAKS_LOGGED)
        log_line("guest %s: virtio-%s, slot %u, queue %u: %s (%#llx): needs a reset%s",
                 device->pci.host->guest, device->kind->name, device->pci.slot, queue, what,
                 (unsigned long long)value,
                 device->breaks == BREAKS_LOGGED ? "; no more of this is logged" : "");
    if (device->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(device, INTERRUPT_CONFIG, device->config_vector);
}

void virtio_queue_break(struct virtio_device *device, u32 queue)
{
    const struct virtqueue_wrong *wrong = &device->queues[queue].wrong;
    virtio_break(device, queue, wrong->what, wrong->value);
}

/* --- Requests -------------------------------------------------------------------------------- */

static bool can_run(const struct virtio_device *device)
{
    u8 bits = VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET;
    return (device->status & bits) == VIRTIO_STATUS_DRIVER_OK && pci_is_master(&device->pci);
}

static bool can_serve(struct virtio_device *device, u32 queue)
{
    return !device->kind->can_serve || device->kind->can_serve(device, queue);
}

/* Takes and answers the next request. */
static enum virtqueue_answer request_run(struct virtio_device *device, u32 index, u64 *budget)
{
    struct virtqueue *queue = &device->queues[index];
    struct virtqueue_chain *chain = &device->chain;
    u32 written_bytes = 0;
    enum virtqueue_answer answer = virtqueue_pop(queue, chain);
    if (answer != VIRTQUEUE_CHAIN)
        return answer;
    u64 cost = chain->readable_bytes + chain->writable_bytes + chain->count * BUFFER_COST_BYTES;
    *budget -= cost < *budget ? cost : *budget;
    if (!device->kind->serve(device, index, &written_bytes) ||
        !virtqueue_push(queue, chain->head, written_bytes))
        return VIRTQUEUE_WRONG;
    return VIRTQUEUE_CHAIN;
}

static void queue_run(struct virtio_device *device, u32 index)
{
    u64 budget = RUN_BYTES;
    enum virtqueue_answer answer = VIRTQUEUE_CHAIN;
    bool wanted;
    device->notified &= ~(1u << index);
    while (answer == VIRTQUEUE_CHAIN && budget && can_serve(device, index))
        answer = request_run(device, index, &budget);
    if (answer == VIRTQUEUE_WRONG || !virtqueue_interrupt(&device->queues[index], &wanted)) {
        virtio_queue_break(device, index);
        return;
    }
    if (!budget)
        device->notified |= 1u << index;
    if (wanted)
        interrupt(device, INTERRUPT_QUEUE, device->vectors[index]);
}

void virtio_run(struct virtio_device *device)
{
    for (u32 i = 0; i < device->kind->queues && can_run(device); i++)
        if ((device->notified & 1u << i) && device->queues[i].is_enabled)
            queue_run(device, i);
    if (device->notified && can_run(device))
        device->pci.host->wake(device->pci.host->context);
}

void virtio_poll(struct virtio_device *device)
{
    for (u32 i = 0; i < device->kind->queues; i++)
        if (device->queues[i].is_enabled)
            device->notified |= 1u << i;
    virtio_run(device);
}

/* The queue is where the notice was written; what was written is its number once more. */
void virtio_notify(struct virtio_device *device, u32 offset, u32 size)
{
    u32 queue = offset / VIRTIO_NOTIFY_MULTIPLIER;
    if (offset % VIRTIO_NOTIFY_MULTIPLIER || size == 1 || queue >= device->kind->queues ||
        !device->queues[queue].is_enabled)
        return;
    device->notified |= 1u << queue;
    virtio_run(device);
}

/* --- Status and features --------------------------------------------------------------------- */

void virtio_reset(struct virtio_device *device)
{
    if (device->kind->stop)
        device->kind->stop(device);
    device->status = 0;
    device->accepted = 0;
    device->offered_select = device->accepted_select = 0;
    device->queue_select = 0;
    device->config_vector = VIRTIO_NO_VECTOR;
    device->notified = 0;
    device->interrupts = 0;
    for (u32 i = 0; i < device->kind->queues; i++) {
        device->vectors[i] = VIRTIO_NO_VECTOR;
        device->queues[i] =
            (struct virtqueue){.host = device->pci.host, .size = device->kind->queue_size};
    }
    virtio_line_update(device);
}

static void device_start(struct virtio_device *device)
{
    if (!(device->status & VIRTIO_STATUS_FEATURES_OK)) {
        virtio_break(device, 0, "started without features agreed on", device->accepted);
        return;
    }
    device->status |= VIRTIO_STATUS_DRIVER_OK;
    if (device->kind->start)
        device->kind->start(device);
    virtio_poll(device);
}

/* Bits are added, and only by a reset taken away. */
void virtio_status_write(struct virtio_device *device, u8 value)
{
    u8 added = value & STATUS_WRITABLE & ~device->status;
    if (!value) {
        virtio_reset(device);
        return;
    }
    bool is_sound =
        !(device->accepted & ~device->offered) && (device->accepted & VIRTIO_FEATURE_VERSION_1);
    if ((added & VIRTIO_STATUS_FEATURES_OK) && !is_sound)
        added &= ~VIRTIO_STATUS_FEATURES_OK;
    device->status |= added & ~VIRTIO_STATUS_DRIVER_OK;
    if (added & VIRTIO_STATUS_DRIVER_OK)
        device_start(device);
}

/* Bits beyond 63 are none that we offer: they are kept as one that nobody offers. */
void virtio_feature_write(struct virtio_device *device, u32 value)
{
    u32 select = device->accepted_select;
    if ((device->status & VIRTIO_STATUS_FEATURES_OK) || (select >= 2 && !value))
        return;
    if (select >= 2)
        device->accepted |= 1ull << 63;
    else
        device->accepted =
            (device->accepted & ~(0xffffffffull << 32 * select)) | (u64)value << 32 * select;
}
