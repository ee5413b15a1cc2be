/* SPDX-License-Identifier: MIT */
/*
 * Drivers that do what no correct one does, to every queue of every device. Each time: the device
 * needs a reset, one line says why, memory is as it was, the other devices work, and so does this
 * one after its reset.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/device_set.h"

#define NEXT DESCRIPTOR_NEXT
#define WRITE DESCRIPTOR_WRITE
#define INDIRECT DESCRIPTOR_INDIRECT
/* Addresses in the tables below, relative to a device's memory; others are meant as they are. */
#define BUFFER 1ull
#define TABLE 2ull
#define PRIVATE 3ull
#define RAM_END 4ull /* the last four bytes */

static const struct target {
    enum set_slot slot;
    u32 queue;
    const char *name;
} targets[] = {
    {SET_BLOCK, 0, "block"},     {SET_CONSOLE, 0, "console"}, {SET_CONSOLE, 1, "console"},
    {SET_ENTROPY, 0, "entropy"}, {SET_NET, 0, "net"},         {SET_NET, 1, "net"},
};

static struct device_set *set;
static u8 *before;

static int set_up(void **state)
{
    (void)state;
    set = malloc(sizeof *set);
    before = malloc(GUEST_RAM_BYTES);
    device_set_init(set);
    host_log_clear();
    for (u32 slot = SET_BLOCK; slot < SET_SLOTS; slot++)
        set_start(set, slot);
    set_send_to_guest(set);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_set_destroy(set);
    free(before);
    free(set);
    return 0;
}

static void remember(void)
{
    memcpy(before, set->guest.ram, GUEST_RAM_BYTES);
    set->guest.copies = 0;
}

static void check_broken(const struct target *target, const char *what, bool was_started)
{
    struct virtio_driver *driver = &set->drivers[target->slot];
    u32 config_vector = set_queues(target->slot);
    char line[200];
    int len = snprintf(line, sizeof line, "guest g: virtio-%s, slot %u, queue %u: %s (",
                       target->name, target->slot, target->queue, what);
    assert_true(driver_needs_reset(driver));
    if (strncmp(host_log(), line, (size_t)len) != 0)
        fail_msg("expected '%s', not '%s'", line, host_log());
    assert_string_equal(strchr(host_log(), ')'), "): needs a reset\n");
    assert_memory_equal(before, set->guest.ram, GUEST_RAM_BYTES);
    assert_true(set->guest.copies <= 2 * VIRTQUEUE_CHAIN_MAX);
    assert_int_equal(set->guest.messages[config_vector], was_started);

    /* It stays so, and does nothing. */
    set->guest.copies = 0;
    driver_kick(driver, target->queue);
    pci_poll(&set->guest.bus);
    driver_set(driver, VIRTIO_STATUS, 0x8f);
    assert_true(driver_needs_reset(driver));
    set->guest.private_end = 0;
    for (u32 slot = SET_BLOCK; slot < SET_SLOTS; slot++)
        if (slot != target->slot)
            set_check_works(set, slot);
    set_start(set, target->slot);
    set_check_works(set, target->slot);
    assert_string_equal(strchr(host_log(), ')'), "): needs a reset\n");
    assert_int_equal(set->guest.bad_messages, 0);
}

/* --- Chains ---------------------------------------------------------------------------------- */

static const struct chain_case {
    const char *what;
    u16 index, head;                    /* of the available ring; 0: the index is 1 */
    struct driver_descriptor direct[3]; /* a flag of 0 and no length: the end of the table */
    struct driver_descriptor indirect[3];
} chains[] = {
    {"the available index jumps", .index = 9},
    {"the available index jumps", .index = 0xffff},
    {"the available index jumps", .index = 0x8000},
    {"a descriptor beyond its table", .head = 8},
    {"a descriptor beyond its table", .head = 0xffff},
    {"a descriptor beyond its table", .direct = {{BUFFER, 4, NEXT, 8}}},
    {"a descriptor beyond its table", .direct = {{BUFFER, 4, NEXT | WRITE, 0xffff}}},
    {"a chain that is too long, or a loop", .direct = {{BUFFER, 4, NEXT, 0}}},
    {"a chain that is too long, or a loop",
     .direct = {{BUFFER, 4, NEXT, 1}, {BUFFER, 4, NEXT, 2}, {BUFFER, 4, NEXT, 1}}},
    {"a chain that is too long, or a loop",
     .direct = {{BUFFER, 4, NEXT | WRITE, 1}, {BUFFER, 4, NEXT | WRITE, 0}}},
    {"a buffer of no bytes", .direct = {{BUFFER, 0, WRITE, 0}}},
    {"a buffer of no bytes", .direct = {{BUFFER, 4, NEXT, 1}, {BUFFER, 0, WRITE, 0}}},
    {"a buffer that wraps", .direct = {{~0ull - 10, 16, 0, 0}}},
    {"a buffer that wraps", .direct = {{~0ull, ~0u, WRITE, 0}}},
    {"a chain of 4 GiB or more",
     .direct = {{BUFFER, ~0u, NEXT, 1}, {BUFFER, ~0u, NEXT, 2}, {BUFFER, ~0u, 0, 0}}},
    {"a chain of 4 GiB or more", .direct = {{BUFFER, 1, NEXT, 1}, {BUFFER, ~0u, WRITE, 0}}},
    {"a readable buffer after a writable one",
     .direct = {{BUFFER, 64, NEXT | WRITE, 1}, {BUFFER, 64, 0, 0}}},
    {"an indirect descriptor with a next one", .direct = {{TABLE, 16, INDIRECT | NEXT, 1}}},
    {"an indirect table's length", .direct = {{TABLE, 0, INDIRECT, 0}}},
    {"an indirect table's length", .direct = {{TABLE, 17, INDIRECT, 0}}},
    {"an indirect table's length", .direct = {{TABLE, ~0u, INDIRECT, 0}}},
    {"an indirect table that wraps", .direct = {{~0ull - 15, 32, INDIRECT, 0}}},
    {"an indirect descriptor in an indirect table", .direct = {{TABLE, 32, INDIRECT, 0}},
     .indirect = {{TABLE, 32, INDIRECT, 0}}},
    {"an indirect descriptor in an indirect table", .direct = {{TABLE, 32, INDIRECT, 0}},
     .indirect = {{BUFFER, 16, NEXT, 1}, {TABLE, 16, INDIRECT, 0}}},
    {"a descriptor beyond its table", .direct = {{TABLE, 32, INDIRECT, 0}},
     .indirect = {{BUFFER, 16, NEXT, 2}}},
    {"a chain that is too long, or a loop", .direct = {{TABLE, 0xfffffff0, INDIRECT, 0}},
     .indirect = {{BUFFER, 16, NEXT, 1}, {BUFFER, 16, NEXT, 0}}},
    {"a readable buffer after a writable one",
     .direct = {{BUFFER, 16, NEXT | WRITE, 1}, {TABLE, 16, INDIRECT, 0}},
     .indirect = {{BUFFER, 16, 0, 0}}},
    {"descriptors in no memory for devices", .direct = {{0x1000, 16, INDIRECT, 0}}},
    {"descriptors in no memory for devices", .direct = {{PRIVATE, 16, INDIRECT, 0}}},
    {"descriptors in no memory for devices", .direct = {{SET_BAR, 16, INDIRECT, 0}}},
    {"descriptors in no memory for devices", .direct = {{RAM_END, 16, INDIRECT, 0}}},
};

static void place_chain(const struct target *target, const struct chain_case *row)
{
    struct virtio_driver *driver = &set->drivers[target->slot];
    struct driver_queue *queue = &driver->queues[target->queue];
    const u64 addresses[] = {0, SET_BUFFERS(target->slot), queue->base + QUEUE_TABLE,
                             SET_BUFFERS(target->slot) + 0x1000, GUEST_RAM + GUEST_RAM_BYTES - 4};
    for (u32 i = 0; i < 6; i++) {
        struct driver_descriptor descriptor = i < 3 ? row->direct[i] : row->indirect[i - 3];
        if (descriptor.address < ARRAY_LENGTH(addresses))
            descriptor.address = addresses[descriptor.address];
        driver_describe(driver, i < 3 ? queue->base : queue->base + QUEUE_TABLE, i % 3, descriptor);
    }
    driver_put16(driver, queue->base + QUEUE_AVAILABLE + 4, row->head);
    driver_put16(driver, queue->base + QUEUE_AVAILABLE + 2, row->index ? row->index : 1);
    set->guest.private_start = SET_BUFFERS(target->slot) + 0x1000;
    set->guest.private_end = set->guest.private_start + 0x1000;
}

static void run_chain(void **state, const struct target *target, const struct chain_case *row)
{
    set_up(state);
    place_chain(target, row);
    remember();
    driver_kick(&set->drivers[target->slot], target->queue);
    check_broken(target, row->what, true);
    tear_down(state);
}

static void hostile_chains_break_any_device(void **state)
{
    for (u32 i = 0; i < ARRAY_LENGTH(targets); i++)
        for (u32 j = 0; j < ARRAY_LENGTH(chains); j++)
            run_chain(state, &targets[i], &chains[j]);
}

/* What a device finds when it serves the chain. */
static const struct {
    u32 target; /* index above */
    struct chain_case row;
} requests[] = {
    {0,
     {"a request that is too short to read",
      .direct = {{BUFFER, 15, NEXT, 1}, {BUFFER, 1, WRITE, 0}}}},
    {0, {"a request that is too short to read", .direct = {{BUFFER, 64, WRITE, 0}}}},
    {0, {"a request with no room for its status", .direct = {{BUFFER, 16, 0, 0}}}},
    {0,
     {"a buffer in no memory for devices",
      .direct = {{PRIVATE, 16, NEXT, 1}, {BUFFER, 1, WRITE, 0}}}},
    {0,
     {"a buffer in no memory for devices",
      .direct = {{BUFFER, 16, NEXT, 1}, {PRIVATE, 1, WRITE, 0}}}},
    {0,
     {"a buffer in no memory for devices",
      .direct = {{BUFFER, 16, NEXT, 1}, {RAM_END, 513, WRITE, 0}}}},
    {0, {"a buffer in no memory for devices", .direct = {{0, 16, NEXT, 1}, {BUFFER, 1, WRITE, 0}}}},
    {1, {"a receive buffer that is not writable", .direct = {{BUFFER, 16, 0, 0}}}},
    {1, {"a buffer in no memory for devices", .direct = {{PRIVATE, 16, WRITE, 0}}}},
    {2, {"a buffer in no memory for devices", .direct = {{PRIVATE, 16, 0, 0}}}},
    {2, {"a buffer in no memory for devices", .direct = {{SET_BAR, 4, 0, 0}}}},
    {2, {"more output at once than there may be", .direct = {{BUFFER, 0x7fffffff, 0, 0}}}},
    {3, {"a buffer that is not writable", .direct = {{BUFFER, 16, 0, 0}}}},
    {3, {"a buffer in no memory for devices", .direct = {{RAM_END, 16, WRITE, 0}}}},
    {3, {"a buffer in no memory for devices", .direct = {{~0ull >> 1, 16, WRITE, 0}}}},
    {4, {"a receive buffer that is too small", .direct = {{BUFFER, 71, WRITE, 0}}}},
    {4, {"a receive buffer that is too small", .direct = {{BUFFER, 4096, 0, 0}}}},
    {4, {"a buffer in no memory for devices", .direct = {{PRIVATE, 4096, WRITE, 0}}}},
    {5, {"a request that is too short to read", .direct = {{BUFFER, 11, 0, 0}}}},
    {5, {"a request that is too short to read", .direct = {{BUFFER, 4096, WRITE, 0}}}},
    {5, {"a buffer in no memory for devices", .direct = {{PRIVATE, 72, 0, 0}}}},
    {5, {"an offload that was not negotiated", .direct = {{BUFFER, 72, 0, 0}}}}, /* of a pattern */
};

static void hostile_requests_break_their_device(void **state)
{
    for (u32 i = 0; i < ARRAY_LENGTH(requests); i++)
        run_chain(state, &targets[requests[i].target], &requests[i].row);
}

static void rings_that_are_no_memory_break_any_device(void **state)
{
    static const struct {
        u64 offset;
        const char *what;
    } rings[] = {{0, "descriptors in no memory for devices"},
                 {QUEUE_AVAILABLE + 2, "the available ring is no memory for devices"},
                 {QUEUE_AVAILABLE + 4, "the available ring is no memory for devices"}};
    for (u32 i = 0; i < ARRAY_LENGTH(targets); i++) {
        for (u32 j = 0; j < ARRAY_LENGTH(rings); j++) {
            set_up(state);
            struct virtio_driver *driver = &set->drivers[targets[i].slot];
            driver_offer(driver, targets[i].queue, 0);
            set->guest.private_start = driver->queues[targets[i].queue].base + rings[j].offset;
            set->guest.private_end = set->guest.private_start + 1;
            remember();
            driver_kick(driver, targets[i].queue);
            check_broken(&targets[i], rings[j].what, true);
            tear_down(state);
        }
    }
}

/* --- Set-up ---------------------------------------------------------------------------------- */

static void features_agreed(struct virtio_driver *driver)
{
    driver_negotiate(driver, ~0ull);
}

static void set_and_enable(struct virtio_driver *driver, u16 size, u64 available)
{
    u64 base = SET_MEMORY(driver->slot);
    features_agreed(driver);
    driver_set(driver, VIRTIO_QUEUE_SIZE, size);
    driver_set(driver, VIRTIO_QUEUE_DESCRIPTORS, base);
    driver_set(driver, VIRTIO_QUEUE_AVAILABLE, available);
    driver_set(driver, VIRTIO_QUEUE_USED, base + QUEUE_USED);
    driver_set(driver, VIRTIO_QUEUE_ENABLE, 1);
}

static void size_of_nothing(struct virtio_driver *driver)
{
    set_and_enable(driver, 0, SET_MEMORY(driver->slot));
}
static void size_of_three(struct virtio_driver *driver)
{
    set_and_enable(driver, 3, SET_MEMORY(driver->slot));
}
static void size_of_too_many(struct virtio_driver *driver)
{
    set_and_enable(driver, 512, SET_MEMORY(driver->slot));
}
static void size_of_all(struct virtio_driver *driver)
{
    set_and_enable(driver, 0xffff, SET_MEMORY(driver->slot));
}
static void odd_ring(struct virtio_driver *driver)
{
    set_and_enable(driver, 8, SET_MEMORY(driver->slot) + 1);
}
static void enabled_by_two(struct virtio_driver *driver)
{
    features_agreed(driver);
    driver_set(driver, VIRTIO_QUEUE_ENABLE, 2);
}
static void disabled_by_hand(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_QUEUE_SELECT, 0);
    driver_set(driver, VIRTIO_QUEUE_ENABLE, 0);
}
static void enabled_early(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_STATUS, 0);
    driver_set(driver, VIRTIO_STATUS, 3);
    driver_set(driver, VIRTIO_QUEUE_ENABLE, 1);
}
static void started_early(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_STATUS, 0);
    driver_set(driver, VIRTIO_STATUS, 7);
}
static void size_changed_live(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_QUEUE_SELECT, 0);
    driver_set(driver, VIRTIO_QUEUE_SIZE, 4);
}
static void descriptors_changed_live(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_QUEUE_SELECT, 0);
    driver_set(driver, VIRTIO_QUEUE_DESCRIPTORS, 0x1000);
}
static void used_ring_changed_live(struct virtio_driver *driver)
{
    driver_set(driver, VIRTIO_QUEUE_SELECT, 0);
    driver_set(driver, VIRTIO_QUEUE_USED_HIGH, 1);
}

static void hostile_set_ups_break_any_device(void **state)
{
    static const struct {
        void (*prepare)(struct virtio_driver *driver);
        const char *what;
        bool was_started;
    } rows[] = {
        {size_of_nothing, "the size is no power of two in range", false},
        {size_of_three, "the size is no power of two in range", false},
        {size_of_too_many, "larger than it may be", false},
        {size_of_all, "larger than it may be", false},
        {odd_ring, "the available ring's address", false},
        {enabled_by_two, "enabled with another value than 1", false},
        {disabled_by_hand, "enabled with another value than 1", true},
        {enabled_early, "enabled without features agreed on", false},
        {started_early, "started without features agreed on", false},
        {size_changed_live, "changed while it is enabled", true},
        {descriptors_changed_live, "changed while it is enabled", true},
        {used_ring_changed_live, "changed while it is enabled", true},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(targets); i++) {
        if (targets[i].queue)
            continue;
        for (u32 j = 0; j < ARRAY_LENGTH(rows); j++) {
            set_up(state);
            remember();
            rows[j].prepare(&set->drivers[targets[i].slot]);
            check_broken(&targets[i], rows[j].what, rows[j].was_started);
            tear_down(state);
        }
    }
}

static void a_log_is_not_filled(void **state)
{
    set_up(state);
    for (u32 i = 0; i < 100; i++) {
        started_early(&set->drivers[SET_ENTROPY]);
        assert_true(driver_needs_reset(&set->drivers[SET_ENTROPY]));
    }
    u32 lines = 0;
    for (const char *text = host_log(); (text = strchr(text, '\n')); text++)
        lines++;
    assert_int_equal(lines, 8);
    assert_non_null(strstr(host_log(), ": needs a reset; no more of this is logged\n"));
    started_early(&set->drivers[SET_BLOCK]);
    assert_non_null(strstr(host_log(), "virtio-block"));
    tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_chains_break_any_device),
        cmocka_unit_test(hostile_requests_break_their_device),
        cmocka_unit_test(rings_that_are_no_memory_break_any_device),
        cmocka_unit_test(hostile_set_ups_break_any_device),
        cmocka_unit_test(a_log_is_not_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
