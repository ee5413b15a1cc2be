/* SPDX-License-Identifier: MIT */
/*
 * Random accesses to all devices of a guest, and random rings in its memory, under the sanitizers.
 * Drivers start over now and then, so that the devices get far. Whatever is done: memory that no
 * ring and no descriptor names stays as it is, the work of one access is bounded, the log is too,
 * and every device works after a reset.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/device_set.h"

#define OPERATIONS 60000u
#define SEEDS 4u
/* No address that is made up points there, or so near that a request reaches it; the end is one. */
#define GUARD_START (GUEST_RAM + 0xd0000)
#define GUARD_END (GUEST_RAM + GUEST_RAM_BYTES - 16)
/* Of guest memory, in one access: a run pays for 4096 buffers of each of the six queues. */
#define COPIES_MAX (6 * 4096 * 8u)

static struct device_set *set;
static u64 random_state;

static u32 any(u32 below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (u32)(random_state >> 24) % below;
}

static enum set_slot any_slot(void)
{
    return SET_BLOCK + any(SET_SLOTS - SET_BLOCK);
}

static u64 memory_of_any(void)
{
    return SET_MEMORY(any_slot());
}

/* Mostly inside the devices' memory, sometimes none at all. */
static u64 any_address(void)
{
    static const u64 odd[] = {
        0,          0x1000,     GUEST_RAM - 8, GUEST_RAM + GUEST_RAM_BYTES - 4,
        SET_BAR,    GUEST_ECAM, ~0ull,         ~0ull << 4,
        1ull << 63, ~0u};
    if (any(8) == 0)
        return odd[any(ARRAY_LENGTH(odd))] + any(3);
    return memory_of_any() + any(0x20000);
}

static u32 any_value(void)
{
    switch (any(6)) {
    case 0:
        return any(4);
    case 1:
        return 1u << any(32);
    case 2:
        return ~0u << any(32);
    case 3:
        return (u32)memory_of_any() + any(4) * 0x1000;
    case 4:
        return any(0x10000) << any(2) * 8 & 0xffff;
    default:
        return any(64);
    }
}

static u32 any_len(void)
{
    static const u32 lens[] = {0, 1, 11, 12, 16, 17, 71, 72, 512, 513, 1530, 4096, 0x10000, ~0u};
    return lens[any(ARRAY_LENGTH(lens))];
}

static u32 any_size(void)
{
    static const u32 sizes[] = {1, 2, 4, 8, 4, 2, 1, 0, 3, 16};
    return sizes[any(ARRAY_LENGTH(sizes))];
}

/* --- Operations ------------------------------------------------------------------------------ */

static void access_bar(void)
{
    static const u32 parts[] = {0, 0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7};
    u64 bar = SET_BAR + any_slot() * VIRTIO_BAR_BYTES, value;
    u64 at = bar + parts[any(ARRAY_LENGTH(parts))] * 0x1000 + any(0x48) - any(2);
    if (any(2))
        (void)pci_mmio_read(&set->guest.bus, gpa(at), any_size(), &value);
    else
        (void)pci_mmio_write(&set->guest.bus, gpa(at), any_size(),
                             any_value() | (u64)any(2) * any_value() << 32);
}

static void write_register(void)
{
    static const enum virtio_register registers[] = {
#define REGISTER(name, offset, bytes) VIRTIO_##name,
#include "vmm/virtio_registers.def"
#undef REGISTER
    };
    u64 bar = SET_BAR + any_slot() * VIRTIO_BAR_BYTES, value;
    u32 reg = registers[any(ARRAY_LENGTH(registers))];
    u32 size = 1u << any(3);
    (void)pci_mmio_write(&set->guest.bus, gpa(bar + reg), size, any_value());
    (void)pci_mmio_read(&set->guest.bus, gpa(bar + reg), size, &value);
}

static void access_config(void)
{
    u64 at = GUEST_ECAM + (any(SET_SLOTS + 1) << 15) + any(8) / 7 * 0x1000, value;
    u32 offset = any(0x110), size = any_size();
    if (any(2)) {
        (void)pci_mmio_read(&set->guest.bus, gpa(at + offset), size, &value);
    } else if (offset >= PCI_HEADER_BYTES || any(16) == 0) {
        (void)pci_mmio_write(&set->guest.bus, gpa(at + offset), size, any_value());
    }
}

static void access_ports(void)
{
    u32 value, address = 1u << 31 | any(SET_SLOTS + 1) << 11 | any(0x100) | any(8) / 7 << 16;
    (void)pci_port_write(&set->guest.bus, PCI_PORT_ADDRESS, 4, address);
    if (any(2))
        (void)pci_port_read(&set->guest.bus, (u16)(0xcf6 + any(12)), any_size(), &value);
    else if ((address & 0xff) >= PCI_HEADER_BYTES)
        (void)pci_port_write(&set->guest.bus, (u16)(0xcfc + any(4)), any_size(), any_value());
}

static void write_descriptor(void)
{
    enum set_slot slot = any_slot();
    u64 queue = SET_MEMORY(slot) + any(set_queues(slot)) * QUEUE_BYTES;
    driver_describe(&set->drivers[slot], queue + any(2) * QUEUE_TABLE, any(8),
                    (struct driver_descriptor){.address = any_address(),
                                               .len = any_len(),
                                               .flags = (u16)any(8),
                                               .next = (u16)(any(8) ? any(8) : any_value())});
}

static void restart(enum set_slot slot)
{
    guest_config_write(&set->guest, slot, PCI_BAR_0, 4, SET_BAR + slot * VIRTIO_BAR_BYTES);
    set_start(set, slot);
}

static void restart_any(void)
{
    restart(any_slot());
}

static struct virtio_device *device_of(enum set_slot slot)
{
    struct virtio_device *const devices[] = {&set->block.device, &set->console.device,
                                             &set->entropy.device, &set->net.device};
    return devices[slot - SET_BLOCK];
}

/* Mostly what a device wants to see first, so that it gets to the rest; the new count. */
static u32 shape(enum set_slot slot, u32 queue, struct driver_buffer *buffers, u32 count)
{
    u64 start = SET_BUFFERS(slot);
    if (slot == SET_BLOCK) {
        bool is_write = any(2);
        u32 words[4] = {is_write ? 1 : any(10) * any(2), 0,
                        any(9) ? any(SET_SECTORS + 2) : 0 - any(9),
                        any(8) / 7 * (any(2) ? ~0u : any_value())};
        memcpy(guest_at(&set->guest, start), words, sizeof words);
        buffers[0] = (struct driver_buffer){start, 16, DRIVER_READABLE};
        if (is_write) {
            buffers[1].side = DRIVER_READABLE;
            buffers[2] = (struct driver_buffer){start + 16, 1, DRIVER_WRITABLE};
            return 3;
        }
    } else if (slot == SET_NET && queue == 1) {
        memset(guest_at(&set->guest, start), 0, 12);
        buffers[0] = (struct driver_buffer){start, 72, DRIVER_READABLE};
    } else if (queue == 0) {
        for (u32 i = 0; i < count; i++)
            buffers[i].side = DRIVER_WRITABLE;
    }
    return count;
}

/* Chains that may be served. */
static void add_chain(void)
{
    enum set_slot slot = any_slot();
    if (any(2) && device_of(slot)->status != 0x0f)
        restart(slot);
    u32 queue = any(set_queues(slot)), count = 1 + any(4), readable = any(count + 1);
    struct driver_buffer buffers[4];
    for (u32 i = 0; i < ARRAY_LENGTH(buffers); i++)
        buffers[i] = (struct driver_buffer){
            .address = any(30) ? SET_BUFFERS(slot) + any(0x8000) : any_address(),
            .len = any(30) ? (any(2) ? 512 : 1 + any(1600)) : any_len(),
            .side = i < readable ? DRIVER_READABLE : DRIVER_WRITABLE};
    if (any(8))
        count = shape(slot, queue, buffers, count);
    if (set->drivers[slot].queues[queue].size == 0)
        return;
    if (any(2))
        driver_add(&set->drivers[slot], queue, buffers, count);
    else
        driver_add_indirect(&set->drivers[slot], queue, buffers, count);
    pci_mmio_write(&set->guest.bus, gpa(set->drivers[slot].notify + 4 * queue), 2, queue);
}

static void write_ring(void)
{
    u64 queue = memory_of_any() + any(2) * QUEUE_BYTES;
    u64 at = queue + QUEUE_AVAILABLE + any(3) * 2;
    u16 value;
    memcpy(&value, guest_at(&set->guest, at), sizeof value);
    value = any(3) ? value + 1 : (u16)any_value();
    memcpy(guest_at(&set->guest, at), &value, sizeof value);
}

static void change_memory(void)
{
    set->guest.private_start = any_address();
    set->guest.private_end = set->guest.private_start + any(3) * 0x1000;
}

static void (*const operations[])(void) = {
    access_bar, write_register, access_config, access_ports, write_descriptor,
    add_chain,  add_chain,      add_chain,     add_chain,    write_ring,
    add_chain,  add_chain,      change_memory, restart_any,
};

static void step(u32 number)
{
    set->guest.copies = 0;
    if (any(6) == 0)
        set_send_to_guest(set);
    if (any(10) == 0)
        pci_poll(&set->guest.bus);
    operations[any(ARRAY_LENGTH(operations))]();
    if (set->guest.copies > COPIES_MAX)
        fail_msg("operation %u: %llu copies of guest memory", number,
                 (unsigned long long)set->guest.copies);
}

static u64 total_breaks(void)
{
    u64 total = 0;
    for (u32 slot = SET_BLOCK; slot < SET_SLOTS; slot++)
        total += device_of(slot)->breaks;
    return total;
}

static void check_end(void)
{
    u32 lines = 0;
    for (const char *text = host_log(); (text = strchr(text, '\n')); text++)
        lines++;
    assert_true(lines <= 4 * 8);
    for (u64 at = GUARD_START; at < GUARD_END; at++)
        if (*(u8 *)guest_at(&set->guest, at) != GUEST_PATTERN)
            fail_msg("memory at %#llx was changed", (unsigned long long)at);
    set->guest.private_end = 0;
    for (u32 slot = SET_BLOCK; slot < SET_SLOTS; slot++) {
        set->console.input_start = set->console.input_end;
        restart(slot);
        set_check_works(set, slot);
    }
}

static void whatever_is_done_stays_inside(void **state)
{
    (void)state;
    u64 printed = 0, sent = 0, breaks = 0, written = 0;
    for (u32 seed = 1; seed <= SEEDS; seed++) {
        random_state = seed * 0x9e3779b97f4a7c15ull;
        set = malloc(sizeof *set);
        device_set_init(set);
        host_log_clear();
        for (u32 i = 0; i < OPERATIONS; i++)
            step(i);
        printed += set->printed_bytes;
        sent += set->net.port.sent;
        written += set->block.written_pages;
        breaks += total_breaks();
        check_end();
        device_set_destroy(set);
        free(set);
    }
    printf("%llu bytes printed, %llu frames sent, %llu pages written, %llu devices broken\n",
           (unsigned long long)printed, (unsigned long long)sent, (unsigned long long)written,
           (unsigned long long)breaks);
    /* It got far enough to mean something. */
    assert_true(printed && sent && written && breaks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_is_done_stays_inside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
