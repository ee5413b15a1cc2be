/* SPDX-License-Identifier: MIT */
#include "tests/vmm/device_set.h"

#include <string.h>

#include "boot/phys.h"
#include "mm/pages.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

#define MACHINE_PAGES 64
#define NET_HEADER_BYTES 12u

static const struct mac mine = {{0x52, 0x54, 0, 0, 0, 1}}, others = {{0x52, 0x54, 0, 0, 0, 2}};

static void print(void *context, const u8 *bytes, u32 len_bytes)
{
    struct device_set *set = context;
    (void)bytes;
    set->printed_bytes += len_bytes;
}

static bool random(void *context, u64 *value)
{
    (void)context;
    *value = 0x1122334455667788;
    return true;
}

static void ignore_wake(void *context)
{
    (void)context;
}

static struct pci_device *pci_of(struct device_set *set, enum set_slot slot)
{
    switch (slot) {
    case SET_BLOCK:
        return &set->block.device.pci;
    case SET_CONSOLE:
        return &set->console.device.pci;
    case SET_ENTROPY:
        return &set->entropy.device.pci;
    default:
        return &set->net.device.pci;
    }
}

void device_set_init(struct device_set *set)
{
    memset(set, 0, sizeof *set);
    host_memory_create(MACHINE_PAGES * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + MACHINE_PAGES * PAGE_BYTES));
    device_guest_init(&set->guest, "g");
    memset(set->image, 0x3c, sizeof set->image);
    struct block_image image = {.data = set->image, .len_bytes = sizeof set->image, .id = "disk"};
    const struct device_host *host = &set->guest.host;
    assert_int_equal(virtio_block_init(&set->block, host, &image), OK);
    virtio_console_init(&set->console, host, print, set);
    virtio_entropy_init(&set->entropy, host, random, set);
    net_switch_init(&set->net_switch);
    assert_int_equal(virtio_net_init(&set->net, host, &set->net_switch, &mine), OK);
    set->other.mac = others;
    set->other.wake = ignore_wake;
    assert_int_equal(switch_port_attach(&set->net_switch, &set->other), OK);
    for (u32 slot = SET_BLOCK; slot < SET_SLOTS; slot++) {
        pci_add(&set->guest.bus, pci_of(set, slot), slot, gpa(SET_BAR + slot * VIRTIO_BAR_BYTES),
                16 + slot);
        driver_find(&set->drivers[slot], &set->guest, slot);
    }
}

void device_set_destroy(struct device_set *set)
{
    virtio_block_destroy(&set->block);
    virtio_net_destroy(&set->net);
    switch_port_detach(&set->other);
    device_guest_destroy(&set->guest);
    host_memory_destroy();
}

u32 set_queues(enum set_slot slot)
{
    return slot == SET_CONSOLE || slot == SET_NET ? 2 : 1;
}

void set_start(struct device_set *set, enum set_slot slot)
{
    struct virtio_driver *driver = &set->drivers[slot];
    u32 queues = set_queues(slot);
    driver_start(driver, ~0ull, queues, SET_MEMORY(slot));
    driver_vectors(driver, queues);
}

void set_send_to_guest(struct device_set *set)
{
    u8 frame[60];
    memset(frame, 0x99, sizeof frame);
    memcpy(frame, &mine, sizeof mine);
    memcpy(frame + MAC_BYTES, &others, sizeof others);
    (void)virtio_console_type(&set->console, 't');
    switch_send(&set->other, frame, sizeof frame);
}

static u32 request(struct virtio_driver *driver, u32 queue, const struct driver_buffer *buffers,
                   u32 count)
{
    u32 head, len;
    u16 added = driver_add(driver, queue, buffers, count);
    driver_kick(driver, queue);
    assert_true(driver_take(driver, queue, &head, &len));
    assert_int_equal(head, added);
    return len;
}

void set_check_works(struct device_set *set, enum set_slot slot)
{
    struct virtio_driver *driver = &set->drivers[slot];
    const u64 at = SET_BUFFERS(slot);
    const struct driver_buffer disk[] = {{at, 16, DRIVER_READABLE},
                                         {at + 16, 513, DRIVER_WRITABLE}};
    const struct driver_buffer in[] = {{at, 2048, DRIVER_WRITABLE}},
                               out[] = {{at, 72, DRIVER_READABLE}};
    u64 printed = set->printed_bytes, sent = set->net.port.sent;
    memset(guest_at(&set->guest, at), 0, 0x1000);
    set_send_to_guest(set);
    switch (slot) {
    case SET_BLOCK:
        assert_int_equal(request(driver, 0, disk, 2), 513);
        if (!set->block.written_pages)
            assert_memory_equal(guest_at(&set->guest, at + 16), set->image, 512);
        break;
    case SET_CONSOLE:
        assert_int_equal(request(driver, 1, out, 1), 0);
        assert_int_equal(set->printed_bytes, printed + 72);
        assert_true(request(driver, 0, in, 1) >= 1);
        break;
    case SET_ENTROPY:
        assert_int_equal(request(driver, 0, in, 1), 256);
        break;
    default:
        assert_int_equal(request(driver, 1, out, 1), 0);
        assert_int_equal(set->net.port.sent, sent + 1);
        assert_int_equal(request(driver, 0, in, 1), NET_HEADER_BYTES + 60);
        break;
    }
    assert_false(driver_needs_reset(driver));
}
