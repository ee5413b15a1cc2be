/* SPDX-License-Identifier: MIT */
/* What a virtio device shows on the bus: capabilities, registers, configuration. */
#include "boot/assert.h"
#include "vmm/virtio.h"
#include "vmm/virtio_parts.h"

#define VENDOR 0x1af4
#define DEVICE_MODERN 0x1040 /* plus the device type */
#define REVISION_MODERN 1

/* struct virtio_pci_cap, its type, and what follows it. */
#define CAPABILITY_BYTES 16u
#define CAPABILITY_LEN 2u
#define CAPABILITY_TYPE 3u
#define CAPABILITY_BAR 4u
#define CAPABILITY_OFFSET 8u
#define CAPABILITY_LENGTH 12u
#define CAPABILITY_MORE 16u /* notify: the multiplier; window: the data */
#define TYPE_COMMON 1
#define TYPE_NOTIFY 2
#define TYPE_INTERRUPTS 3
#define TYPE_DEVICE 4
#define TYPE_WINDOW 5

#define COMMON_BYTES 0x40u

static struct virtio_device *device_of(struct pci_device *pci)
{
    return CONTAINER_OF(pci, struct virtio_device, pci);
}

static u32 feature_word(u64 features, u32 select)
{
    return select < 2 ? (u32)(features >> 32 * select) : 0;
}

/* --- The common configuration structure ------------------------------------------------------ */

static u32 register_bytes(u32 offset)
{
    switch (offset) {
#define REGISTER(name, offset_, bytes) \
    case offset_:                      \
        return bytes;
#include "vmm/virtio_registers.def"
#undef REGISTER
    default:
        return 0;
    }
}

static u32 queue_read(const struct virtio_device *device, u32 offset)
{
    u32 index = device->queue_select;
    if (index >= device->kind->queues)
        return 0;
    const struct virtqueue *queue = &device->queues[index];
    switch (offset) {
    case VIRTIO_QUEUE_SIZE:
        return queue->size;
    case VIRTIO_QUEUE_VECTOR:
        return device->vectors[index];
    case VIRTIO_QUEUE_ENABLE:
        return queue->is_enabled;
    case VIRTIO_QUEUE_NOTIFY_OFFSET:
        return index;
    case VIRTIO_QUEUE_DESCRIPTORS:
        return (u32)queue->descriptors.raw;
    case VIRTIO_QUEUE_DESCRIPTORS_HIGH:
        return (u32)(queue->descriptors.raw >> 32);
    case VIRTIO_QUEUE_AVAILABLE:
        return (u32)queue->available.raw;
    case VIRTIO_QUEUE_AVAILABLE_HIGH:
        return (u32)(queue->available.raw >> 32);
    case VIRTIO_QUEUE_USED:
        return (u32)queue->used.raw;
    default:
        return (u32)(queue->used.raw >> 32);
    }
}

static u32 common_read(struct virtio_device *device, u32 offset, u32 size)
{
    if (register_bytes(offset) != size)
        return 0;
    switch (offset) {
    case VIRTIO_DEVICE_FEATURE_SELECT:
        return device->offered_select;
    case VIRTIO_DEVICE_FEATURE:
        return feature_word(device->offered, device->offered_select);
    case VIRTIO_DRIVER_FEATURE_SELECT:
        return device->accepted_select;
    case VIRTIO_DRIVER_FEATURE:
        return feature_word(device->accepted, device->accepted_select);
    case VIRTIO_CONFIG_VECTOR:
        return device->config_vector;
    case VIRTIO_QUEUES:
        return device->kind->queues;
    case VIRTIO_STATUS:
        return device->status;
    case VIRTIO_CONFIG_GENERATION:
        return device->generation;
    case VIRTIO_QUEUE_SELECT:
        return device->queue_select;
    default:
        return queue_read(device, offset);
    }
}

static void queue_enable(struct virtio_device *device, u32 index, u32 value)
{
    struct virtqueue *queue = &device->queues[index];
    if (value != 1) {
        virtio_break(device, index, "enabled with another value than 1", value);
    } else if (!(device->status & VIRTIO_STATUS_FEATURES_OK)) {
        virtio_break(device, index, "enabled without features agreed on", device->accepted);
    } else if (queue->size > device->kind->queue_size) {
        virtio_break(device, index, "larger than it may be", queue->size);
    } else if (!queue->is_enabled) {
        queue->event_index = device->accepted & VIRTIO_FEATURE_EVENT_INDEX;
        queue->indirect = device->accepted & VIRTIO_FEATURE_INDIRECT;
        if (!virtqueue_enable(queue))
            virtio_queue_break(device, index);
    }
}

static void address_write(gpa_t *address, u32 value)
{
    address->raw = (address->raw & 0xffffffff00000000ull) | value;
}

static void address_write_high(gpa_t *address, u32 value)
{
    address->raw = (u64)value << 32 | (u32)address->raw;
}

/* Size and addresses. */
static void queue_place(struct virtio_device *device, u32 index, u32 offset, u32 value)
{
    struct virtqueue *queue = &device->queues[index];
    if (queue->is_enabled) {
        virtio_break(device, index, "changed while it is enabled", offset);
        return;
    }
    switch (offset) {
    case VIRTIO_QUEUE_SIZE:
        queue->size = (u16)value;
        break;
    case VIRTIO_QUEUE_DESCRIPTORS:
        address_write(&queue->descriptors, value);
        break;
    case VIRTIO_QUEUE_DESCRIPTORS_HIGH:
        address_write_high(&queue->descriptors, value);
        break;
    case VIRTIO_QUEUE_AVAILABLE:
        address_write(&queue->available, value);
        break;
    case VIRTIO_QUEUE_AVAILABLE_HIGH:
        address_write_high(&queue->available, value);
        break;
    case VIRTIO_QUEUE_USED:
        address_write(&queue->used, value);
        break;
    case VIRTIO_QUEUE_USED_HIGH:
        address_write_high(&queue->used, value);
        break;
    default: /* the notify offset is read-only */
        break;
    }
}

static u16 vector_of(const struct virtio_device *device, u32 value)
{
    return value < device->pci.msix.vectors ? (u16)value : VIRTIO_NO_VECTOR;
}

static void queue_write(struct virtio_device *device, u32 offset, u32 value)
{
    u32 index = device->queue_select;
    if (index >= device->kind->queues)
        return;
    if (offset == VIRTIO_QUEUE_VECTOR)
        device->vectors[index] = vector_of(device, value);
    else if (offset == VIRTIO_QUEUE_ENABLE)
        queue_enable(device, index, value);
    else
        queue_place(device, index, offset, value);
}

static void common_write(struct virtio_device *device, u32 offset, u32 size, u32 value)
{
    if (register_bytes(offset) != size)
        return;
    switch (offset) {
    case VIRTIO_DEVICE_FEATURE_SELECT:
        device->offered_select = value;
        break;
    case VIRTIO_DRIVER_FEATURE_SELECT:
        device->accepted_select = value;
        break;
    case VIRTIO_DRIVER_FEATURE:
        virtio_feature_write(device, value);
        break;
    case VIRTIO_CONFIG_VECTOR:
        device->config_vector = vector_of(device, value);
        break;
    case VIRTIO_STATUS:
        virtio_status_write(device, (u8)value);
        break;
    case VIRTIO_QUEUE_SELECT:
        device->queue_select = (u16)value;
        break;
    case VIRTIO_DEVICE_FEATURE:
    case VIRTIO_QUEUES:
    case VIRTIO_CONFIG_GENERATION:
        break; /* read-only */
    default:
        queue_write(device, offset, value);
        break;
    }
}

/* --- The BAR, and the window to it in the configuration space -------------------------------- */

static u32 config_read(const struct virtio_device *device, u32 offset, u32 size)
{
    u32 value = 0;
    for (u32 i = 0; i < size && offset + i < device->kind->config_bytes; i++)
        value |= (u32)((const u8 *)device->config)[offset + i] << 8 * i;
    return value;
}

static u32 bar_read(struct pci_device *pci, u32 offset, u32 size)
{
    struct virtio_device *device = device_of(pci);
    u32 inside = offset & (u32)PAGE_MASK;
    switch (offset / PAGE_BYTES) {
    case VIRTIO_PART_COMMON:
        return common_read(device, inside, size);
    case VIRTIO_PART_INTERRUPTS:
        return virtio_interrupts_read(device, inside, size);
    case VIRTIO_PART_DEVICE:
        return config_read(device, inside, size);
    case VIRTIO_PART_VECTORS:
        return msix_table_read(&pci->msix, inside, size);
    case VIRTIO_PART_PENDING:
        return msix_pending_read(&pci->msix, inside, size);
    default:
        return 0;
    }
}

static void bar_write(struct pci_device *pci, u32 offset, u32 size, u32 value)
{
    struct virtio_device *device = device_of(pci);
    u32 inside = offset & (u32)PAGE_MASK;
    switch (offset / PAGE_BYTES) {
    case VIRTIO_PART_COMMON:
        common_write(device, inside, size, value);
        break;
    case VIRTIO_PART_NOTIFY:
        virtio_notify(device, inside, size);
        break;
    case VIRTIO_PART_VECTORS:
        msix_table_write(&pci->msix, inside, size, value);
        break;
    default:
        break;
    }
}

/* True if the window is set, and its data are in [offset, offset + size). */
static bool window_is_used(const struct virtio_device *device, u32 offset, u32 size, u32 *at,
                           u32 *len)
{
    const struct pci_device *pci = &device->pci;
    u32 data = device->window + CAPABILITY_MORE;
    *at = pci_config_get(pci, device->window + CAPABILITY_OFFSET, 4);
    *len = pci_config_get(pci, device->window + CAPABILITY_LENGTH, 4);
    return offset < data + sizeof(u32) && data < offset + size &&
           !pci_config_get(pci, device->window + CAPABILITY_BAR, 1) &&
           (*len == 1 || *len == 2 || *len == 4) && is_aligned(*at, *len) && *at < VIRTIO_BAR_BYTES;
}

static void space_read(struct pci_device *pci, u32 offset, u32 size)
{
    struct virtio_device *device = device_of(pci);
    u32 at, len;
    if (window_is_used(device, offset, size, &at, &len))
        pci_config_set(pci, device->window + CAPABILITY_MORE, 4, bar_read(pci, at, len));
}

static void space_written(struct pci_device *pci, u32 offset, u32 size)
{
    struct virtio_device *device = device_of(pci);
    u32 at, len;
    if (window_is_used(device, offset, size, &at, &len))
        bar_write(pci, at, len, pci_config_get(pci, device->window + CAPABILITY_MORE, len));
    virtio_line_update(device); /* MSI-X may have been enabled */
    virtio_run(device);         /* or the device may reach memory now */
}

static void poll(struct pci_device *pci)
{
    virtio_poll(device_of(pci));
}

/* --- The device ------------------------------------------------------------------------------ */

static u32 capability_add(struct virtio_device *device, u8 type, enum virtio_part part, u32 bytes)
{
    u32 len = CAPABILITY_BYTES;
    if (type == TYPE_NOTIFY || type == TYPE_WINDOW)
        len += (u32)sizeof(u32);
    u32 at = pci_add_capability(&device->pci, PCI_CAPABILITY_VENDOR, len);
    pci_config_set(&device->pci, at + CAPABILITY_LEN, 1, len);
    pci_config_set(&device->pci, at + CAPABILITY_TYPE, 1, type);
    pci_config_set(&device->pci, at + CAPABILITY_OFFSET, 4, part * (u32)PAGE_BYTES);
    pci_config_set(&device->pci, at + CAPABILITY_LENGTH, 4, bytes);
    return at;
}

static void capabilities_add(struct virtio_device *device)
{
    struct pci_device *pci = &device->pci;
    u32 queues = device->kind->queues;
    capability_add(device, TYPE_COMMON, VIRTIO_PART_COMMON, COMMON_BYTES);
    capability_add(device, TYPE_INTERRUPTS, VIRTIO_PART_INTERRUPTS, 1);
    if (device->kind->config_bytes)
        capability_add(device, TYPE_DEVICE, VIRTIO_PART_DEVICE, device->kind->config_bytes);
    u32 notify =
        capability_add(device, TYPE_NOTIFY, VIRTIO_PART_NOTIFY, queues * VIRTIO_NOTIFY_MULTIPLIER);
    pci_config_set(pci, notify + CAPABILITY_MORE, 4, VIRTIO_NOTIFY_MULTIPLIER);

    device->window = capability_add(device, TYPE_WINDOW, VIRTIO_PART_COMMON, 0);
    pci_set_writable(pci, device->window + CAPABILITY_BAR, 1, 0xff);
    pci_set_writable(pci, device->window + CAPABILITY_OFFSET, 4, ~0u);
    pci_set_writable(pci, device->window + CAPABILITY_LENGTH, 4, ~0u);
    pci_set_writable(pci, device->window + CAPABILITY_MORE, 4, ~0u);
    pci_add_msix(pci, queues + 1, VIRTIO_PART_VECTORS * (u32)PAGE_BYTES,
                 VIRTIO_PART_PENDING * (u32)PAGE_BYTES);
}

void virtio_init(struct virtio_device *device, const struct device_host *host,
                 const struct virtio_kind *kind, u64 features, const void *config)
{
    static const struct pci_ops ops = {.bar_read = bar_read,
                                       .bar_write = bar_write,
                                       .config_read = space_read,
                                       .config_written = space_written,
                                       .poll = poll};
    ASSERT(kind->queues <= VIRTIO_QUEUES_MAX && kind->queue_size <= VIRTQUEUE_SIZE_MAX);
    memset(device, 0, sizeof *device);
    device->kind = kind;
    device->config = config;
    device->offered = features | VIRTIO_FEATURE_INDIRECT | VIRTIO_FEATURE_EVENT_INDEX |
                      VIRTIO_FEATURE_VERSION_1 | VIRTIO_FEATURE_ACCESS_PLATFORM;
    pci_device_init(&device->pci, host, &ops,
                    (struct pci_id){.vendor = VENDOR,
                                    .device = (u16)(DEVICE_MODERN + kind->id),
                                    .revision = REVISION_MODERN,
                                    .class = kind->class});
    pci_set_bar(&device->pci, VIRTIO_BAR_BYTES);
    capabilities_add(device);
    virtio_reset(device);
}
