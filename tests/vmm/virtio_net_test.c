/* SPDX-License-Identifier: MIT */
/* Three guests on one switch. */
#include "vmm/virtio_net.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/virtio_driver.h"

#define GUESTS 3
#define SLOT 5
#define BAR 0xc0000000u
#define RINGS (GUEST_RAM + 0x10000)
#define SEND (GUEST_RAM + 0x30000)
#define RECEIVE (GUEST_RAM + 0x40000)
#define BUFFER_BYTES 0x800u
#define HEADER_BYTES 12u
#define RX 0
#define TX 1

static struct net_switch net;
static struct member {
    struct device_guest guest;
    struct virtio_net *card;
    struct virtio_driver driver;
    struct lock lock; /* of its devices */
} members[GUESTS];
static const char *const names[GUESTS] = {"a", "b", "c"};

static struct mac mac_of(u32 index)
{
    return (struct mac){{0x52, 0x54, 0, 0, 0, (u8)(index + 1)}};
}

static void give_buffers(struct member *to, u32 count, u32 len)
{
    for (u32 i = 0; i < count; i++) {
        u64 at = RECEIVE + to->driver.queues[RX].offered % 8 * BUFFER_BYTES;
        driver_add(&to->driver, RX, &(struct driver_buffer){at, len, DRIVER_WRITABLE}, 1);
    }
    driver_kick(&to->driver, RX);
}

static void start(struct member *member)
{
    driver_start(&member->driver, ~0ull, 2, RINGS);
    driver_vectors(&member->driver, 2);
    give_buffers(member, 4, HEADER_BYTES + FRAME_BYTES_MAX);
}

static int set_up(void **state)
{
    (void)state;
    host_log_clear();
    net_switch_init(&net);
    for (u32 i = 0; i < GUESTS; i++) {
        struct member *member = &members[i];
        struct mac mac = mac_of(i);
        device_guest_init(&member->guest, names[i]);
        member->card = malloc(sizeof *member->card);
        member->lock = LOCK_INIT(RANK_VM, "devices");
        assert_int_equal(virtio_net_init(member->card, &member->guest.host, &net, &mac), OK);
        pci_add(&member->guest.bus, &member->card->device.pci, SLOT, gpa(BAR), 16);
        driver_find(&member->driver, &member->guest, SLOT);
        start(member);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (u32 i = 0; i < GUESTS; i++) {
        virtio_net_destroy(members[i].card);
        free(members[i].card);
        device_guest_destroy(&members[i].guest);
    }
    return 0;
}

/* A frame of `len` bytes; its payload says from where it came. */
static void send_from(struct member *from, struct mac to, struct mac source, u32 len)
{
    u8 *bytes = guest_at(&from->guest, SEND);
    memset(bytes, 0, HEADER_BYTES);
    memcpy(bytes + HEADER_BYTES, &to, MAC_BYTES);
    memcpy(bytes + HEADER_BYTES + MAC_BYTES, &source, MAC_BYTES);
    memset(bytes + HEADER_BYTES + 12, names[from - members][0], 2000);
    struct driver_buffer buffers[] = {{SEND, HEADER_BYTES, DRIVER_READABLE},
                                      {SEND + HEADER_BYTES, len, DRIVER_READABLE}};
    driver_add_indirect(&from->driver, TX, buffers, 2);
    lock_take(&from->lock);
    driver_kick(&from->driver, TX);
    lock_release(&from->lock);
}

static void send(u32 from, struct mac to)
{
    send_from(&members[from], to, mac_of(from), 60);
}

/* What came, after a poll: 0 nothing, else the first byte of the payload; its buffer is given back.
 */
static char received(u32 index, u32 frame_bytes)
{
    struct member *member = &members[index];
    u32 head, len;
    lock_take(&member->lock);
    pci_poll(&member->guest.bus);
    lock_release(&member->lock);
    u64 at = RECEIVE + member->driver.queues[RX].seen % 8 * BUFFER_BYTES;
    if (!driver_take(&member->driver, RX, &head, &len))
        return 0;
    const u8 *bytes = guest_at(&member->guest, at);
    assert_int_equal(len, HEADER_BYTES + frame_bytes);
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0\0\0\1\0", HEADER_BYTES);
    assert_int_equal(bytes[HEADER_BYTES + frame_bytes - 1], bytes[HEADER_BYTES + 12]);
    give_buffers(member, 1, HEADER_BYTES + FRAME_BYTES_MAX);
    return (char)bytes[HEADER_BYTES + 12];
}

static void a_card_has_address_and_link(void **state)
{
    (void)state;
    struct virtio_driver *driver = &members[1].driver;
    assert_true(driver->accepted == 0x330010020ull);
    assert_int_equal(guest_mmio_read(&members[1].guest, driver->config, 4), 0x00005452);
    assert_int_equal(guest_mmio_read(&members[1].guest, driver->config + 4, 2), 0x0200);
    assert_int_equal(guest_mmio_read(&members[1].guest, driver->config + 6, 2), 1);
    assert_int_equal(guest_mmio_read(&members[1].guest, driver->config + 7, 1), 0);
}

static void a_frame_reaches_its_owner_alone(void **state)
{
    (void)state;
    send(0, mac_of(1));
    assert_int_equal(members[1].guest.wakes, 1);
    assert_int_equal(members[2].guest.wakes, 0);
    assert_null(net.learned[0].port); /* it was known */
    assert_int_equal(members[1].guest.messages[RX], 0);
    assert_int_equal(received(1, 60), 'a');
    assert_int_equal(members[1].guest.messages[RX], 1);
    assert_int_equal(received(1, 60), 0);
    assert_int_equal(received(2, 60), 0);
    send_from(&members[1], mac_of(0), mac_of(1), FRAME_BYTES_MAX);
    assert_int_equal(received(0, FRAME_BYTES_MAX), 'b');
    send(0, mac_of(0)); /* to itself: nowhere */
    for (u32 i = 0; i < GUESTS; i++)
        assert_int_equal(received(i, 60), 0);
}

static void groups_and_strangers_are_flooded(void **state)
{
    (void)state;
    static const struct mac everyone = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    static const struct mac group = {{0x33, 0x33, 0, 0, 0, 1}};
    static const struct mac stranger = {{0x02, 0, 0, 0, 0, 9}};
    const struct mac destinations[] = {everyone, group, stranger};
    for (u32 i = 0; i < ARRAY_LENGTH(destinations); i++) {
        send(1, destinations[i]);
        assert_int_equal(received(0, 60), 'b');
        assert_int_equal(received(1, 60), 0);
        assert_int_equal(received(2, 60), 'b');
    }
}

static void addresses_are_learned_but_not_taken_over(void **state)
{
    (void)state;
    const struct mac inner = {{0x02, 0, 0, 0, 0, 9}}, group = {{0x03, 0, 0, 0, 0, 9}};
    send_from(&members[2], mac_of(0), inner, 60);
    assert_int_equal(received(0, 60), 'c');
    send(0, inner);
    assert_int_equal(received(1, 60), 0);
    assert_int_equal(received(2, 60), 'a');
    /* It moves. */
    send_from(&members[1], mac_of(0), inner, 60);
    assert_int_equal(received(0, 60), 'b');
    send(0, inner);
    assert_int_equal(received(1, 60), 'a');
    assert_int_equal(received(2, 60), 0);
    /* Another guest's own address does not; nor is a group learned. */
    send_from(&members[2], mac_of(0), mac_of(1), 60);
    assert_int_equal(received(0, 60), 'c');
    send(0, mac_of(1));
    assert_int_equal(received(1, 60), 'a');
    assert_int_equal(received(2, 60), 0);
    send_from(&members[2], mac_of(0), group, 60);
    for (u32 i = 0; i < SWITCH_LEARNED; i++)
        assert_true(!net.learned[i].port || net.learned[i].mac.bytes[0] == inner.bytes[0]);
    send(0, group);
    assert_int_equal(received(1, 60), 'a');
    /* Many addresses: the oldest is forgotten, and flooded again. */
    for (u32 i = 0; i < SWITCH_LEARNED; i++)
        send_from(&members[2], mac_of(2), (struct mac){{0x02, 1, 0, 0, 0, (u8)i}}, 60);
    send(0, inner);
    assert_int_equal(received(1, 60), 'a');
    while (received(2, 60))
        ;
    /* An owner that leaves takes what was learned with it. */
    send_from(&members[2], mac_of(0), inner, 60);
    virtio_net_destroy(members[2].card);
    send(0, inner);
    assert_int_equal(received(1, 60), 'a');
}

static void a_full_queue_drops(void **state)
{
    (void)state;
    struct switch_port *port = &members[1].card->port;
    for (u32 i = 0; i < SWITCH_QUEUE_FRAMES + 7; i++)
        send(0, mac_of(1));
    assert_int_equal(port->dropped, 7);
    assert_int_equal(members[0].card->port.sent, SWITCH_QUEUE_FRAMES + 7);
    for (u32 i = 0; i < SWITCH_QUEUE_FRAMES; i++)
        assert_int_equal(received(1, 60), 'a');
    assert_int_equal(received(1, 60), 0);
    send(2, mac_of(1));
    assert_int_equal(received(1, 60), 'c');
    assert_int_equal(port->received, SWITCH_QUEUE_FRAMES + 1);
}

static void frames_wait_for_buffers(void **state)
{
    (void)state;
    u32 head, len;
    for (u32 i = 0; i < 6; i++)
        send(0, mac_of(1));
    pci_poll(&members[1].guest.bus);
    for (u32 i = 0; i < 4; i++)
        assert_true(driver_take(&members[1].driver, RX, &head, &len));
    assert_false(driver_take(&members[1].driver, RX, &head, &len));
    give_buffers(&members[1], 4, HEADER_BYTES + FRAME_BYTES_MAX);
    for (u32 i = 0; i < 2; i++)
        assert_true(driver_take(&members[1].driver, RX, &head, &len));
    assert_false(driver_take(&members[1].driver, RX, &head, &len));
}

static void a_link_that_is_down_carries_nothing(void **state)
{
    (void)state;
    struct member *member = &members[1];
    send(0, mac_of(1));
    virtio_net_set_link(member->card, NET_LINK_DOWN);
    assert_int_equal(member->guest.messages[2], 1);
    assert_int_equal(guest_mmio_read(&member->guest, member->driver.config + 6, 2), 0);
    assert_int_equal(received(1, 60), 0);
    send(0, mac_of(1));
    send(1, mac_of(0));
    assert_int_equal(received(0, 60), 0);
    assert_int_equal(received(1, 60), 0);
    virtio_net_set_link(member->card, NET_LINK_UP);
    assert_int_equal(member->guest.messages[2], 2);
    send(1, mac_of(0));
    send(2, mac_of(1));
    assert_int_equal(received(0, 60), 'b');
    assert_int_equal(received(1, 60), 'c');
}

static void without_a_driver_nothing_waits(void **state)
{
    (void)state;
    struct member *member = &members[1];
    send(0, mac_of(1));
    driver_set(&member->driver, VIRTIO_STATUS, 0);
    send(0, mac_of(1));
    virtio_net_set_link(member->card, NET_LINK_UP);
    send(0, mac_of(1));
    assert_int_equal(member->card->port.dropped, 2);
    start(member);
    assert_int_equal(received(1, 60), 0);
    send(0, mac_of(1));
    assert_int_equal(received(1, 60), 'a');
}

static void frames_that_are_none_are_dropped(void **state)
{
    (void)state;
    static const u32 lengths[] = {1, FRAME_BYTES_MIN - 1, FRAME_BYTES_MAX + 1, 0x8000, 0xfffffff0};
    u32 head, len;
    for (u32 i = 0; i < ARRAY_LENGTH(lengths); i++) {
        send_from(&members[0], mac_of(1), mac_of(0), lengths[i]);
        assert_true(driver_take(&members[0].driver, TX, &head, &len));
        assert_int_equal(len, 0);
    }
    assert_int_equal(members[0].card->malformed, ARRAY_LENGTH(lengths));
    assert_int_equal(members[0].card->port.sent, 0);
    assert_false(driver_needs_reset(&members[0].driver));
    send_from(&members[0], mac_of(1), mac_of(0), FRAME_BYTES_MIN);
    assert_int_equal(received(1, FRAME_BYTES_MIN), 'a');
    assert_string_equal(host_log(), "");
}

static void a_broken_card_leaves_the_others(void **state)
{
    (void)state;
    struct member *member = &members[1];
    u32 head, len;
    for (u32 i = 0; i < 4; i++) {
        send(0, mac_of(1));
        assert_int_equal(received(1, 60), 'a');
    }
    /* The fifth of its buffers is too small. */
    give_buffers(member, 1, HEADER_BYTES + 59);
    for (u32 i = 0; i < 5; i++)
        send(0, mac_of(1));
    pci_poll(&member->guest.bus);
    for (u32 i = 0; i < 4; i++)
        assert_true(driver_take(&member->driver, RX, &head, &len));
    assert_false(driver_take(&member->driver, RX, &head, &len));
    assert_true(driver_needs_reset(&member->driver));
    assert_string_equal(host_log(),
                        "guest b: virtio-net, slot 5, queue 0: a receive buffer that is "
                        "too small (0x47): needs a reset\n");
    send(1, mac_of(0));
    assert_int_equal(received(0, 60), 0);
    send(2, mac_of(0));
    assert_int_equal(received(0, 60), 'c');
    start(member);
    send(0, mac_of(1));
    assert_int_equal(received(1, 60), 'a');
}

static void offloads_are_not_offered(void **state)
{
    (void)state;
    struct driver_buffer buffer = {SEND, HEADER_BYTES + 60, DRIVER_READABLE};
    for (u32 i = 0; i < 2; i++) {
        u8 *bytes = guest_at(&members[0].guest, SEND);
        start(&members[0]);
        memset(bytes, 0, HEADER_BYTES);
        bytes[i] = 1; /* wants a checksum; segmentation */
        driver_add(&members[0].driver, TX, &buffer, 1);
        driver_kick(&members[0].driver, TX);
        assert_true(driver_needs_reset(&members[0].driver));
    }
    assert_string_equal(host_log(),
                        "guest a: virtio-net, slot 5, queue 1: an offload that was not negotiated "
                        "(0): needs a reset\n"
                        "guest a: virtio-net, slot 5, queue 1: an offload that was not negotiated "
                        "(0x1): needs a reset\n");
}

static void ports_are_taken_once(void **state)
{
    (void)state;
    struct virtio_net *card = malloc(sizeof *card);
    struct mac mac = mac_of(0), group = {{1, 0, 0, 0, 0, 0}};
    assert_int_equal(virtio_net_init(card, &members[0].guest.host, &net, &mac), ERR_EXISTS);
    assert_int_equal(virtio_net_init(card, &members[0].guest.host, &net, &group), ERR_INVALID);
    mac = mac_of(100);
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (!net.ports[i])
            net.ports[i] = &members[0].card->port;
    host_log_clear();
    assert_int_equal(virtio_net_init(card, &members[0].guest.host, &net, &mac), ERR_NO_MEMORY);
    assert_non_null(strstr(host_log(), "guest a: virtio-net: no port of the switch: "));
    free(card);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_card_has_address_and_link),
        TEST(a_frame_reaches_its_owner_alone),
        TEST(groups_and_strangers_are_flooded),
        TEST(addresses_are_learned_but_not_taken_over),
        TEST(a_full_queue_drops),
        TEST(frames_wait_for_buffers),
        TEST(a_link_that_is_down_carries_nothing),
        TEST(without_a_driver_nothing_waits),
        TEST(frames_that_are_none_are_dropped),
        TEST(a_broken_card_leaves_the_others),
        TEST(offloads_are_not_offered),
        TEST(ports_are_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
