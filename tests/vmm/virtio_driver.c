/* SPDX-License-Identifier: MIT */
#include "tests/vmm/virtio_driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/host/cmocka.h"

/* Both sides here have these numbers from one table; Linux has them from its own. */
#define SAME_AS_LINUX(ours, theirs) _Static_assert((ours) == (theirs), #ours)
SAME_AS_LINUX(VIRTIO_DEVICE_FEATURE_SELECT, VIRTIO_PCI_COMMON_DFSELECT);
SAME_AS_LINUX(VIRTIO_DEVICE_FEATURE, VIRTIO_PCI_COMMON_DF);
SAME_AS_LINUX(VIRTIO_DRIVER_FEATURE_SELECT, VIRTIO_PCI_COMMON_GFSELECT);
SAME_AS_LINUX(VIRTIO_DRIVER_FEATURE, VIRTIO_PCI_COMMON_GF);
SAME_AS_LINUX(VIRTIO_CONFIG_VECTOR, VIRTIO_PCI_COMMON_MSIX);
SAME_AS_LINUX(VIRTIO_QUEUES, VIRTIO_PCI_COMMON_NUMQ);
SAME_AS_LINUX(VIRTIO_STATUS, VIRTIO_PCI_COMMON_STATUS);
SAME_AS_LINUX(VIRTIO_CONFIG_GENERATION, VIRTIO_PCI_COMMON_CFGGENERATION);
SAME_AS_LINUX(VIRTIO_QUEUE_SELECT, VIRTIO_PCI_COMMON_Q_SELECT);
SAME_AS_LINUX(VIRTIO_QUEUE_SIZE, VIRTIO_PCI_COMMON_Q_SIZE);
SAME_AS_LINUX(VIRTIO_QUEUE_VECTOR, VIRTIO_PCI_COMMON_Q_MSIX);
SAME_AS_LINUX(VIRTIO_QUEUE_ENABLE, VIRTIO_PCI_COMMON_Q_ENABLE);
SAME_AS_LINUX(VIRTIO_QUEUE_NOTIFY_OFFSET, VIRTIO_PCI_COMMON_Q_NOFF);
SAME_AS_LINUX(VIRTIO_QUEUE_DESCRIPTORS, VIRTIO_PCI_COMMON_Q_DESCLO);
SAME_AS_LINUX(VIRTIO_QUEUE_DESCRIPTORS_HIGH, VIRTIO_PCI_COMMON_Q_DESCHI);
SAME_AS_LINUX(VIRTIO_QUEUE_AVAILABLE, VIRTIO_PCI_COMMON_Q_AVAILLO);
SAME_AS_LINUX(VIRTIO_QUEUE_USED, VIRTIO_PCI_COMMON_Q_USEDLO);
SAME_AS_LINUX(VIRTIO_QUEUE_USED_HIGH, VIRTIO_PCI_COMMON_Q_USEDHI);
SAME_AS_LINUX(VIRTIO_NO_VECTOR, VIRTIO_MSI_NO_VECTOR);
SAME_AS_LINUX(VIRTIO_STATUS_DRIVER_OK, VIRTIO_CONFIG_S_DRIVER_OK);
SAME_AS_LINUX(VIRTIO_STATUS_FEATURES_OK, VIRTIO_CONFIG_S_FEATURES_OK);
SAME_AS_LINUX(VIRTIO_STATUS_NEEDS_RESET, VIRTIO_CONFIG_S_NEEDS_RESET);
SAME_AS_LINUX(VIRTIO_STATUS_FAILED, VIRTIO_CONFIG_S_FAILED);
SAME_AS_LINUX(VIRTIO_FEATURE_VERSION_1, 1ull << VIRTIO_F_VERSION_1);
SAME_AS_LINUX(VIRTIO_FEATURE_ACCESS_PLATFORM, 1ull << VIRTIO_F_ACCESS_PLATFORM);
SAME_AS_LINUX(VIRTIO_FEATURE_INDIRECT, 1ull << VIRTIO_RING_F_INDIRECT_DESC);
SAME_AS_LINUX(VIRTIO_FEATURE_EVENT_INDEX, 1ull << VIRTIO_RING_F_EVENT_IDX);
SAME_AS_LINUX(DESCRIPTOR_NEXT, VRING_DESC_F_NEXT);
SAME_AS_LINUX(DESCRIPTOR_WRITE, VRING_DESC_F_WRITE);
SAME_AS_LINUX(DESCRIPTOR_INDIRECT, VRING_DESC_F_INDIRECT);
SAME_AS_LINUX(sizeof(struct driver_descriptor), sizeof(struct vring_desc));

#define DRIVER_STATUS (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER)

static void find_part(struct virtio_driver *driver, u32 at)
{
    u64 bar = guest_config_read(driver->guest, driver->slot, PCI_BAR_0, 4) & ~15u;
    u64 start = bar + guest_config_read(driver->guest, driver->slot, at + VIRTIO_PCI_CAP_OFFSET, 4);
    assert_int_equal(guest_config_read(driver->guest, driver->slot, at + VIRTIO_PCI_CAP_BAR, 1), 0);
    switch (guest_config_read(driver->guest, driver->slot, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        driver->common = start;
        break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        driver->notify = start;
        driver->notify_multiplier =
            guest_config_read(driver->guest, driver->slot, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
        break;
    case VIRTIO_PCI_CAP_ISR_CFG:
        driver->interrupts = start;
        break;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        driver->config = start;
        break;
    case VIRTIO_PCI_CAP_PCI_CFG:
        driver->window = at;
        break;
    default:
        fail_msg("a capability of no type");
    }
}

void driver_find(struct virtio_driver *driver, struct device_guest *guest, u32 slot)
{
    *driver = (struct virtio_driver){.guest = guest, .slot = slot};
    u32 at = guest_config_read(guest, slot, PCI_CAPABILITIES, 1);
    for (; at; at = guest_config_read(guest, slot, at + 1, 1)) {
        if (guest_config_read(guest, slot, at, 1) == PCI_CAPABILITY_VENDOR)
            find_part(driver, at);
        else
            driver->msix = at;
    }
    assert_true(driver->common && driver->notify && driver->interrupts && driver->window);
}

static u32 bytes_of(enum virtio_register reg)
{
    switch (reg) {
#define REGISTER(name, offset, bytes) \
    case offset:                      \
        return bytes;
#include "vmm/virtio_registers.def"
#undef REGISTER
    }
    fail();
    return 0;
}

u64 driver_get(struct virtio_driver *driver, enum virtio_register reg)
{
    return guest_mmio_read(driver->guest, driver->common + reg, bytes_of(reg));
}

void driver_set(struct virtio_driver *driver, enum virtio_register reg, u64 value)
{
    guest_mmio_write(driver->guest, driver->common + reg, bytes_of(reg), value);
}

u64 driver_offered(struct virtio_driver *driver)
{
    u64 offered = 0;
    for (u32 i = 0; i < 2; i++) {
        driver_set(driver, VIRTIO_DEVICE_FEATURE_SELECT, i);
        offered |= driver_get(driver, VIRTIO_DEVICE_FEATURE) << 32 * i;
    }
    return offered;
}

void driver_negotiate(struct virtio_driver *driver, u64 wanted)
{
    driver_set(driver, VIRTIO_STATUS, 0);
    assert_int_equal(driver_get(driver, VIRTIO_STATUS), 0);
    driver_set(driver, VIRTIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    driver_set(driver, VIRTIO_STATUS, DRIVER_STATUS);
    driver->accepted = wanted & driver_offered(driver);
    for (u32 i = 0; i < 2; i++) {
        driver_set(driver, VIRTIO_DRIVER_FEATURE_SELECT, i);
        driver_set(driver, VIRTIO_DRIVER_FEATURE, (u32)(driver->accepted >> 32 * i));
    }
    driver_set(driver, VIRTIO_STATUS, DRIVER_STATUS | VIRTIO_STATUS_FEATURES_OK);
    assert_true(driver_get(driver, VIRTIO_STATUS) & VIRTIO_STATUS_FEATURES_OK);
}

void driver_queue_start(struct virtio_driver *driver, u32 queue, u16 size, u64 base)
{
    driver->queues[queue] = (struct driver_queue){.base = base, .size = size};
    memset(guest_at(driver->guest, base), 0, QUEUE_BYTES);
    driver_set(driver, VIRTIO_QUEUE_SELECT, queue);
    assert_true(driver_get(driver, VIRTIO_QUEUE_SIZE) >= size);
    driver_set(driver, VIRTIO_QUEUE_SIZE, size);
    /* As two words, and as one of 8 bytes. */
    driver_set(driver, VIRTIO_QUEUE_DESCRIPTORS, (u32)base);
    driver_set(driver, VIRTIO_QUEUE_DESCRIPTORS_HIGH, base >> 32);
    guest_mmio_write(driver->guest, driver->common + VIRTIO_QUEUE_AVAILABLE, 8,
                     base + QUEUE_AVAILABLE);
    guest_mmio_write(driver->guest, driver->common + VIRTIO_QUEUE_USED, 8, base + QUEUE_USED);
    driver_set(driver, VIRTIO_QUEUE_ENABLE, 1);
    assert_int_equal(driver_get(driver, VIRTIO_QUEUE_ENABLE), 1);
}

void driver_ok(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_STATUS,
               DRIVER_STATUS | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(driver_get(driver, VIRTIO_STATUS) & ~VIRTIO_STATUS_NEEDS_RESET,
                     DRIVER_STATUS | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
}

void driver_start(struct virtio_driver *driver, u64 wanted, u32 queues, u64 base)
{
    guest_config_write(driver->guest, driver->slot, PCI_COMMAND, 2,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    driver_negotiate(driver, wanted | VIRTIO_FEATURE_VERSION_1 | VIRTIO_FEATURE_ACCESS_PLATFORM);
    for (u32 i = 0; i < queues; i++)
        driver_queue_start(driver, i, 8, base + i * QUEUE_BYTES);
    driver_ok(driver);
}

void driver_vectors(struct virtio_driver *driver, u32 queues)
{
    u64 table = guest_config_read(driver->guest, driver->slot, PCI_BAR_0, 4) +
                guest_config_read(driver->guest, driver->slot, driver->msix + 4, 4);
    for (u32 i = 0; i <= queues; i++) {
        guest_mmio_write(driver->guest, table + i * 16, 8, GUEST_MSI);
        guest_mmio_write(driver->guest, table + i * 16 + 8, 8, i); /* and unmasked */
    }
    guest_config_write(driver->guest, driver->slot, driver->msix + 2, 2, MSIX_CONTROL_ENABLE);
    for (u32 i = 0; i < queues; i++) {
        driver_set(driver, VIRTIO_QUEUE_SELECT, i);
        driver_set(driver, VIRTIO_QUEUE_VECTOR, i);
        assert_int_equal(driver_get(driver, VIRTIO_QUEUE_VECTOR), i);
    }
    driver_set(driver, VIRTIO_CONFIG_VECTOR, queues);
}

void driver_put16(struct virtio_driver *driver, u64 address, u16 value)
{
    memcpy(guest_at(driver->guest, address), &value, sizeof value);
}

u16 driver_get16(struct virtio_driver *driver, u64 address)
{
    u16 value;
    memcpy(&value, guest_at(driver->guest, address), sizeof value);
    return value;
}

void driver_describe(struct virtio_driver *driver, u64 table, u32 index,
                     struct driver_descriptor descriptor)
{
    memcpy(guest_at(driver->guest, table + index * sizeof descriptor), &descriptor,
           sizeof descriptor);
}

void driver_offer(struct virtio_driver *driver, u32 queue, u16 head)
{
    struct driver_queue *q = &driver->queues[queue];
    driver_put16(driver, q->base + QUEUE_AVAILABLE + 4 + q->offered % q->size * 2, head);
    driver_put16(driver, q->base + QUEUE_AVAILABLE + 2, ++q->offered);
}

static void describe_chain(struct virtio_driver *driver, u64 table, u16 first, u32 entries,
                           const struct driver_buffer *buffers, u32 count)
{
    for (u32 i = 0; i < count; i++)
        driver_describe(
            driver, table, (first + i) % entries,
            (struct driver_descriptor){
                .address = buffers[i].address,
                .len = buffers[i].len,
                .flags = (u16)((buffers[i].side == DRIVER_WRITABLE ? DESCRIPTOR_WRITE : 0) |
                               (i + 1 < count ? DESCRIPTOR_NEXT : 0)),
                .next = (u16)((first + i + 1) % entries)});
}

u16 driver_add(struct virtio_driver *driver, u32 queue, const struct driver_buffer *buffers,
               u32 count)
{
    struct driver_queue *q = &driver->queues[queue];
    u16 head = q->next_descriptor;
    assert_true(count <= q->size);
    describe_chain(driver, q->base, head, q->size, buffers, count);
    q->next_descriptor = (u16)((head + count) % q->size);
    driver_offer(driver, queue, head);
    return head;
}

u16 driver_add_indirect(struct virtio_driver *driver, u32 queue,
                        const struct driver_buffer *buffers, u32 count)
{
    struct driver_queue *q = &driver->queues[queue];
    u64 table = q->base + QUEUE_TABLE;
    u16 head = q->next_descriptor;
    describe_chain(driver, table, 0, count, buffers, count);
    driver_describe(driver, q->base, head,
                    (struct driver_descriptor){table, count * 16, DESCRIPTOR_INDIRECT, 0});
    q->next_descriptor = (u16)((head + 1) % q->size);
    driver_offer(driver, queue, head);
    return head;
}

void driver_kick(struct virtio_driver *driver, u32 queue)
{
    driver_set(driver, VIRTIO_QUEUE_SELECT, queue);
    u64 at = driver_get(driver, VIRTIO_QUEUE_NOTIFY_OFFSET) * driver->notify_multiplier;
    guest_mmio_write(driver->guest, driver->notify + at, 2, queue);
}

bool driver_take(struct virtio_driver *driver, u32 queue, u32 *head, u32 *len)
{
    struct driver_queue *q = &driver->queues[queue];
    u64 used = q->base + QUEUE_USED;
    if (driver_get16(driver, used + 2) == q->seen)
        return false;
    const u8 *element = guest_at(driver->guest, used + 4 + q->seen++ % q->size * 8);
    memcpy(head, element, sizeof *head);
    memcpy(len, element + 4, sizeof *len);
    return true;
}

bool driver_needs_reset(struct virtio_driver *driver)
{
    return driver_get(driver, VIRTIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET;
}
