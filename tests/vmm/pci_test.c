/* SPDX-License-Identifier: MIT */
/* The bus as firmware and Linux probe it, and accesses that make no sense. */
#include "vmm/pci.h"

#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/vmm/device_guest.h"

#define SLOT 3
#define BAR 0xc0000000u
#define BAR_BYTES 0x1000u
#define PIN 19
#define TABLE 0x800u
#define PENDING 0xc00u

static struct device_guest guest;
static struct pci_device device;
static struct {
    u32 offset, size, value, reads, writes, config_writes, polls;
} seen;

static u32 bar_read(struct pci_device *from, u32 offset, u32 size)
{
    assert_ptr_equal(from, &device);
    assert_true(offset + size <= BAR_BYTES);
    seen.reads++;
    if (offset >= PENDING)
        return msix_pending_read(&device.msix, offset - PENDING, size);
    if (offset >= TABLE)
        return msix_table_read(&device.msix, offset - TABLE, size);
    return offset;
}

static void bar_write(struct pci_device *to, u32 offset, u32 size, u32 value)
{
    assert_ptr_equal(to, &device);
    assert_true(offset + size <= BAR_BYTES);
    seen.writes++;
    seen.offset = offset;
    seen.size = size;
    seen.value = value;
    if (offset >= TABLE && offset < PENDING)
        msix_table_write(&device.msix, offset - TABLE, size, value);
}

static void config_written(struct pci_device *to, u32 offset, u32 size)
{
    (void)to;
    (void)offset;
    (void)size;
    seen.config_writes++;
}

static void poll(struct pci_device *polled)
{
    (void)polled;
    seen.polls++;
}

static const struct pci_ops ops = {
    .bar_read = bar_read, .bar_write = bar_write, .config_written = config_written, .poll = poll};

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    device_guest_init(&guest, "g");
    pci_device_init(
        &device, &guest.host, &ops,
        (struct pci_id){.vendor = 0x1234, .device = 0x5678, .revision = 9, .class = 0x020304});
    pci_set_bar(&device, BAR_BYTES);
    assert_int_equal(pci_add_capability(&device, PCI_CAPABILITY_VENDOR, 6), 0x40);
    pci_add_msix(&device, 3, TABLE, PENDING);
    pci_add(&guest.bus, &device, SLOT, gpa(BAR), PIN);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_guest_destroy(&guest);
    return 0;
}

static void a_scan_finds_bridge_and_device(void **state)
{
    (void)state;
    u32 value;
    /* Linux's test for configuration by ports: the address register keeps its value. */
    assert_true(pci_port_write(&guest.bus, 0xcf8, 4, 0x80000000));
    assert_true(pci_port_read(&guest.bus, 0xcf8, 4, &value));
    assert_int_equal(value, 0x80000000);
    assert_int_equal(guest_config_read(&guest, 0, PCI_CLASS + 1, 2), 0x0600);
    for (u32 slot = 1; slot < PCI_SLOTS; slot++)
        assert_int_equal(guest_config_read(&guest, slot, PCI_VENDOR, 4),
                         slot == SLOT ? 0x56781234u : ~0u);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_REVISION, 4), 0x02030409);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_INTERRUPT_LINE, 1), PIN);
    /* No other function, no other bus, nothing without the enable bit. */
    for (u32 address = 0x80001900; address < 0x80002000; address += 0x100) {
        assert_true(pci_port_write(&guest.bus, 0xcf8, 4, address));
        assert_true(pci_port_read(&guest.bus, 0xcfc, 4, &value));
        assert_int_equal(value, ~0u);
    }
    assert_true(pci_port_write(&guest.bus, 0xcf8, 4, 0x80011800));
    assert_true(pci_port_read(&guest.bus, 0xcfc, 4, &value));
    assert_int_equal(value, ~0u);
    assert_true(pci_port_write(&guest.bus, 0xcf8, 4, 0x00001800));
    assert_true(pci_port_read(&guest.bus, 0xcfc, 2, &value));
    assert_int_equal(value, 0xffff);
}

static void capabilities_are_a_list(void **state)
{
    (void)state;
    assert_true(guest_config_read(&guest, SLOT, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_CAPABILITIES, 1), 0x40);
    assert_int_equal(guest_config_read(&guest, SLOT, 0x40, 2), 0x4809);
    assert_int_equal(guest_config_read(&guest, SLOT, 0x48, 4), 0x00020011); /* three vectors */
    assert_int_equal(guest_config_read(&guest, SLOT, 0x4c, 4), TABLE);
    assert_int_equal(guest_config_read(&guest, SLOT, 0x50, 4), PENDING);
    assert_int_equal(guest_config_read(&guest, 0, PCI_CAPABILITIES, 1), 0);
}

static void only_writable_bits_change(void **state)
{
    (void)state;
    for (u32 offset = 0; offset < PCI_CONFIG_BYTES; offset += 4)
        guest_config_write(&guest, SLOT, offset, 4, ~0u);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_VENDOR, 4), 0x56781234);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_COMMAND, 4), 0x00100406);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_INTERRUPT_LINE, 4), 0x000001ff);
    assert_int_equal(guest_config_read(&guest, SLOT, 0x48, 4), 0xc0020011);
    for (u32 bar = PCI_BAR_0 + 4; bar < PCI_BAR_0 + 24; bar += 4)
        assert_int_equal(guest_config_read(&guest, SLOT, bar, 4), 0);
    assert_int_equal(guest_config_read(&guest, SLOT, 0x30, 4), 0); /* no ROM */
}

static void a_bar_is_sized_and_moves(void **state)
{
    (void)state;
    u64 value;
    assert_int_equal(guest_mmio_read(&guest, BAR + 0x10, 4), 0x10);
    guest_config_write(&guest, SLOT, PCI_BAR_0, 4, ~0u);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_BAR_0, 4), ~(BAR_BYTES - 1));
    guest_config_write(&guest, SLOT, PCI_BAR_0, 4, 0xd0000123);
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_BAR_0, 4), 0xd0000000);
    assert_false(pci_mmio_read(&guest.bus, gpa(BAR + 0x10), 4, &value));
    assert_int_equal(guest_mmio_read(&guest, 0xd00007fc, 4), 0x7fc);
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, 0);
    assert_false(pci_mmio_read(&guest.bus, gpa(0xd0000010), 4, &value));
    assert_false(pci_mmio_write(&guest.bus, gpa(0xd0000010), 4, 1));
    assert_int_equal(seen.writes, 0);
}

static void the_window_shows_the_same_space(void **state)
{
    (void)state;
    u64 at = GUEST_ECAM + (SLOT << 15);
    assert_int_equal(guest_mmio_read(&guest, at, 4), 0x56781234);
    assert_int_equal(guest_mmio_read(&guest, at, 8), 0x0010000256781234);
    guest_mmio_write(&guest, at + PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    assert_true(pci_is_master(&device));
    for (u32 offset = PCI_CONFIG_BYTES; offset < PAGE_BYTES; offset += 4) {
        guest_mmio_write(&guest, at + offset, 4, ~0u);
        assert_int_equal(guest_mmio_read(&guest, at + offset, 4), 0);
    }
    assert_int_equal(guest_mmio_read(&guest, at + 0x1000, 4), ~0u); /* its function 1 */
    assert_int_equal(guest_mmio_read(&guest, at + 0x8000, 4), ~0u); /* the next slot */
    u64 value;
    assert_false(pci_mmio_read(&guest.bus, gpa(GUEST_ECAM - 4), 4, &value));
    assert_false(pci_mmio_read(&guest.bus, gpa(GUEST_ECAM + PCI_ECAM_BYTES), 4, &value));
}

static void odd_accesses_are_all_ones(void **state)
{
    (void)state;
    static const struct {
        u64 address;
        u32 size;
    } odd[] = {
        {BAR + 1, 2},     {BAR + 2, 4},
        {BAR + 4, 8},     {BAR + 8, 3},
        {BAR + 8, 0},     {BAR + 0, 16},
        {BAR + 0xffc, 8}, {BAR + 0xfff, 2},
        {BAR, ~0u},       {GUEST_ECAM + (SLOT << 15) + 2, 4},
        {GUEST_ECAM, 5},  {GUEST_ECAM + (SLOT << 15) + 0xfff, 2},
    };
    u32 value;
    for (u32 i = 0; i < ARRAY_LENGTH(odd); i++) {
        u64 read = guest_mmio_read(&guest, odd[i].address, odd[i].size);
        assert_true(read == (odd[i].size >= 8 ? ~0ull : (1ull << 8 * odd[i].size) - 1));
        guest_mmio_write(&guest, odd[i].address, odd[i].size, 0);
    }
    assert_int_equal(seen.reads, 0);
    assert_int_equal(seen.writes, 0);
    assert_int_equal(seen.config_writes, 0);
    /* The reset register and others between are not the bus's. */
    assert_false(pci_port_write(&guest.bus, 0xcf9, 1, 6));
    assert_false(pci_port_read(&guest.bus, 0xcf8, 2, &value));
    assert_false(pci_port_read(&guest.bus, 0xcfe, 4, &value));
    assert_false(pci_port_read(&guest.bus, 0xd00, 1, &value));
    assert_true(pci_port_write(&guest.bus, 0xcf8, 4, 0x80001800));
    assert_true(pci_port_read(&guest.bus, 0xcfd, 2, &value)); /* unaligned */
    assert_int_equal(value, 0xffff);
}

static void eight_bytes_are_two_accesses(void **state)
{
    (void)state;
    assert_int_equal(guest_mmio_read(&guest, BAR + 0x20, 8), 0x0000002400000020);
    guest_mmio_write(&guest, BAR + 0x20, 8, 0x1122334455667788);
    assert_int_equal(seen.writes, 2);
    assert_int_equal(seen.offset, 0x24);
    assert_int_equal(seen.size, 4);
    assert_int_equal(seen.value, 0x11223344);
}

static void the_line_follows_the_guests_wish(void **state)
{
    (void)state;
    pci_set_interrupt(&device, true);
    assert_true(guest.lines[PIN]);
    assert_true(guest_config_read(&guest, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, PCI_COMMAND_NO_INTX);
    assert_false(guest.lines[PIN]);
    assert_true(guest_config_read(&guest, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, 0);
    assert_true(guest.lines[PIN]);
    pci_set_interrupt(&device, false);
    assert_false(guest.lines[PIN]);
    /* The bridge has no pin. */
    guest_config_write(&guest, 0, PCI_COMMAND, 2, 0);
}

static void table_entry(u32 vector, u32 data, u32 control)
{
    u64 at = BAR + TABLE + 16 * vector;
    guest_mmio_write(&guest, at, 4, GUEST_MSI);
    guest_mmio_write(&guest, at + 4, 4, 0);
    guest_mmio_write(&guest, at + 8, 4, data);
    guest_mmio_write(&guest, at + 12, 4, control);
}

static void messages_wait_for_their_masks(void **state)
{
    (void)state;
    u64 table = BAR + TABLE;
    assert_int_equal(guest_mmio_read(&guest, table + 12, 4), 1);
    msix_send(&device.msix, 0); /* before it is enabled it waits */
    guest_config_write(&guest, SLOT, 0x4a, 2, MSIX_CONTROL_ENABLE);
    assert_int_equal(guest_mmio_read(&guest, BAR + PENDING, 4), 1);
    table_entry(0, 5, 0);
    assert_int_equal(guest.messages[5], 1);
    assert_int_equal(guest_mmio_read(&guest, BAR + PENDING, 4), 0);
    table_entry(1, 6, 1);
    msix_send(&device.msix, 1);
    msix_send(&device.msix, 1);
    guest_config_write(&guest, SLOT, 0x4a, 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
    msix_send(&device.msix, 0);
    guest_mmio_write(&guest, table + 28, 4, ~1u);
    assert_int_equal(guest_mmio_read(&guest, BAR + PENDING, 4), 3);
    assert_int_equal(guest.messages[6], 0);
    guest_config_write(&guest, SLOT, 0x4a, 2, MSIX_CONTROL_ENABLE);
    assert_int_equal(guest.messages[5], 2);
    assert_int_equal(guest.messages[6], 1);
    assert_int_equal(guest_mmio_read(&guest, table + 28, 4), 0);
    /* Vectors that there are not, and parts of entries. */
    msix_send(&device.msix, 3);
    msix_send(&device.msix, 0xffff);
    guest_mmio_write(&guest, table + 0x30, 4, 7);
    guest_mmio_write(&guest, table + 8, 2, 7);
    assert_int_equal(guest_mmio_read(&guest, table + 0x30, 4), 0);
    assert_int_equal(guest_mmio_read(&guest, table + 8, 4), 5);
    assert_int_equal(guest.bad_messages, 0);
}

static void a_poll_reaches_every_device(void **state)
{
    (void)state;
    pci_poll(&guest.bus);
    assert_int_equal(seen.polls, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_scan_finds_bridge_and_device),  TEST(capabilities_are_a_list),
        TEST(only_writable_bits_change),       TEST(a_bar_is_sized_and_moves),
        TEST(the_window_shows_the_same_space), TEST(odd_accesses_are_all_ones),
        TEST(eight_bytes_are_two_accesses),    TEST(the_line_follows_the_guests_wish),
        TEST(messages_wait_for_their_masks),   TEST(a_poll_reaches_every_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
