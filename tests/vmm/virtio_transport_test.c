/* SPDX-License-Identifier: MIT */
/* What all virtio devices share, seen through a driver of a console. */
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/virtio_driver.h"
#include "vmm/virtio_console.h"

#define SLOT 2
#define BAR 0xc0010000u
#define PIN 17
#define RINGS (GUEST_RAM + 0x10000)
#define BUFFERS (GUEST_RAM + 0x40000)
#define RECEIVE 0
#define TRANSMIT 1
#define ALL_FEATURES ~0ull

static struct device_guest guest;
static struct virtio_console console;
static struct virtio_driver driver;
static char printed[4096];
static u32 printed_len;

static void print(void *context, const u8 *bytes, u32 len_bytes)
{
    assert_ptr_equal(context, &guest);
    if (printed_len + len_bytes < sizeof printed) {
        memcpy(printed + printed_len, bytes, len_bytes);
        printed[printed_len + len_bytes] = 0;
    }
    printed_len += len_bytes;
}

static int set_up(void **state)
{
    (void)state;
    printed_len = 0;
    printed[0] = 0;
    host_log_clear();
    device_guest_init(&guest, "g");
    virtio_console_init(&console, &guest.host, print, &guest);
    pci_add(&guest.bus, &console.device.pci, SLOT, gpa(BAR), PIN);
    driver_find(&driver, &guest, SLOT);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_guest_destroy(&guest);
    return 0;
}

static void add_text(const char *text)
{
    u32 len = (u32)strlen(text);
    u64 at = BUFFERS + driver.queues[TRANSMIT].offered % 8 * 0x100;
    memcpy(guest_at(&guest, at), text, len);
    driver_add(&driver, TRANSMIT, &(struct driver_buffer){at, len, DRIVER_READABLE}, 1);
}

static void a_device_says_what_it_is(void **state)
{
    (void)state;
    assert_int_equal(guest_config_read(&guest, SLOT, PCI_VENDOR, 4), 0x10431af4);
    assert_true(guest_config_read(&guest, SLOT, PCI_REVISION, 1) >= 1);
    assert_true(driver_offered(&driver) == 0x330000000ull);
    driver_set(&driver, VIRTIO_DEVICE_FEATURE_SELECT, 2);
    assert_int_equal(driver_get(&driver, VIRTIO_DEVICE_FEATURE), 0);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUES), 2);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_SIZE), 64);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_VECTOR), 0xffff);
    driver_set(&driver, VIRTIO_QUEUE_SELECT, 1);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_NOTIFY_OFFSET), 1);
    driver_set(&driver, VIRTIO_QUEUE_SELECT, 2);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_SIZE), 0);
    driver_set(&driver, VIRTIO_QUEUE_SIZE, 8);
    driver_set(&driver, VIRTIO_QUEUE_ENABLE, 1);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_ENABLE), 0);
    assert_int_equal(driver_get(&driver, VIRTIO_STATUS), 0);
    assert_string_equal(host_log(), "");
}

static void refuse_features(u64 features, u32 high_select)
{
    driver_set(&driver, VIRTIO_STATUS, 0);
    driver_set(&driver, VIRTIO_STATUS, 3);
    for (u32 i = 0; i < 2; i++) {
        driver_set(&driver, VIRTIO_DRIVER_FEATURE_SELECT, i ? high_select : 0);
        driver_set(&driver, VIRTIO_DRIVER_FEATURE, (u32)(features >> 32 * i));
    }
    driver_set(&driver, VIRTIO_STATUS, 11);
    assert_int_equal(driver_get(&driver, VIRTIO_STATUS), 3);
}

static void features_that_were_not_offered_are_refused(void **state)
{
    (void)state;
    refuse_features(0, 1);
    refuse_features(VIRTIO_FEATURE_INDIRECT, 1);
    refuse_features(VIRTIO_FEATURE_VERSION_1 | 1, 1);
    refuse_features(VIRTIO_FEATURE_VERSION_1 | 1ull << 34, 1);
    refuse_features(VIRTIO_FEATURE_VERSION_1, 2);
    driver_negotiate(&driver, VIRTIO_FEATURE_VERSION_1);
    /* What was agreed on stays. */
    driver_set(&driver, VIRTIO_DRIVER_FEATURE, 0);
    assert_int_equal(driver_get(&driver, VIRTIO_DRIVER_FEATURE), 1);
    assert_string_equal(host_log(), "");
}

static void a_line_is_raised_and_read_away(void **state)
{
    (void)state;
    u32 head, len;
    driver_start(&driver, 0, 2, RINGS);
    add_text("hello ");
    add_text("world");
    assert_string_equal(printed, "");
    driver_kick(&driver, TRANSMIT);
    assert_string_equal(printed, "hello world");
    assert_true(driver_take(&driver, TRANSMIT, &head, &len));
    assert_int_equal(len, 0);
    assert_true(driver_take(&driver, TRANSMIT, &head, &len));
    assert_int_equal(head, 1);
    assert_false(driver_take(&driver, TRANSMIT, &head, &len));
    assert_int_equal(guest.rises[PIN], 1);
    assert_true(guest.lines[PIN]);
    assert_int_equal(guest_mmio_read(&guest, driver.interrupts, 1), 1);
    assert_false(guest.lines[PIN]);
    assert_int_equal(guest_mmio_read(&guest, driver.interrupts, 1), 0);
    add_text("!");
    driver_kick(&driver, TRANSMIT);
    assert_int_equal(guest.rises[PIN], 2);
}

static void messages_replace_the_line(void **state)
{
    (void)state;
    driver_start(&driver, 0, 2, RINGS);
    add_text("a");
    driver_kick(&driver, TRANSMIT);
    assert_true(guest.lines[PIN]);
    driver_vectors(&driver, 2);
    assert_false(guest.lines[PIN]);
    add_text("b");
    driver_kick(&driver, TRANSMIT);
    assert_int_equal(guest.messages[TRANSMIT], 1);
    virtio_config_changed(&console.device);
    assert_int_equal(guest.messages[2], 1);
    assert_int_equal(driver_get(&driver, VIRTIO_CONFIG_GENERATION), 1);
    /* A vector that there is not is none. */
    driver_set(&driver, VIRTIO_QUEUE_VECTOR, 3);
    assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_VECTOR), 0xffff);
    add_text("c");
    driver_kick(&driver, TRANSMIT);
    assert_string_equal(printed, "abc");
    assert_int_equal(guest.messages[TRANSMIT], 1);
    assert_int_equal(guest.bad_messages, 0);
    assert_int_equal(guest.rises[PIN], 1);
}

static void the_event_index_saves_interrupts(void **state)
{
    (void)state;
    const u64 used_event = RINGS + QUEUE_BYTES + QUEUE_AVAILABLE + 4 + 2 * 8;
    driver_start(&driver, ALL_FEATURES, 2, RINGS);
    driver_vectors(&driver, 2);
    driver_put16(&driver, used_event, 2);
    for (u32 i = 0; i < 5; i++) {
        add_text("x");
        driver_kick(&driver, TRANSMIT);
        assert_int_equal(guest.messages[TRANSMIT], i >= 2);
    }
    assert_int_equal(driver_get16(&driver, RINGS + QUEUE_BYTES + QUEUE_USED + 4 + 8 * 8), 5);
}

static void nothing_is_served_before_it_may_be(void **state)
{
    (void)state;
    driver_negotiate(&driver, ALL_FEATURES);
    driver_queue_start(&driver, TRANSMIT, 8, RINGS + QUEUE_BYTES);
    add_text("early ");
    driver_kick(&driver, TRANSMIT);
    pci_poll(&guest.bus);
    assert_string_equal(printed, "");
    driver_ok(&driver);
    assert_string_equal(printed, ""); /* it is no bus master yet */
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_string_equal(printed, "early ");
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    add_text("late");
    driver_kick(&driver, TRANSMIT);
    assert_string_equal(printed, "early ");
    guest_config_write(&guest, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_string_equal(printed, "early late");
    /* What was there before the start needs no notice. */
    driver_negotiate(&driver, ALL_FEATURES);
    driver_queue_start(&driver, TRANSMIT, 8, RINGS + QUEUE_BYTES);
    add_text("!");
    driver_ok(&driver);
    assert_string_equal(printed, "early late!");
    assert_string_equal(host_log(), "");
}

static void a_reset_forgets_everything(void **state)
{
    (void)state;
    driver_start(&driver, ALL_FEATURES, 2, RINGS);
    add_text("a");
    driver_kick(&driver, TRANSMIT);
    driver_set(&driver, VIRTIO_STATUS, 0);
    assert_false(guest.lines[PIN]);
    assert_int_equal(guest_mmio_read(&guest, driver.interrupts, 1), 0);
    for (u32 i = 0; i < 2; i++) {
        driver_set(&driver, VIRTIO_QUEUE_SELECT, i);
        assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_ENABLE), 0);
        assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_SIZE), 64);
        assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_DESCRIPTORS), 0);
        assert_int_equal(driver_get(&driver, VIRTIO_QUEUE_USED), 0);
    }
    driver_set(&driver, VIRTIO_DRIVER_FEATURE_SELECT, 1);
    assert_int_equal(driver_get(&driver, VIRTIO_DRIVER_FEATURE), 0);
    driver_kick(&driver, TRANSMIT);
    driver_start(&driver, ALL_FEATURES, 2, RINGS);
    add_text("b");
    driver_kick(&driver, TRANSMIT);
    assert_string_equal(printed, "ab");
}

static u32 through_window(u32 offset, u32 size)
{
    guest_config_write(&guest, SLOT, driver.window + 4, 1, 0);
    guest_config_write(&guest, SLOT, driver.window + 8, 4, offset);
    guest_config_write(&guest, SLOT, driver.window + 12, 4, size);
    return guest_config_read(&guest, SLOT, driver.window + 16, 4);
}

static void the_window_reaches_the_bar(void **state)
{
    (void)state;
    assert_int_equal(through_window(VIRTIO_QUEUES, 2), 2);
    through_window(VIRTIO_STATUS, 1);
    guest_config_write(&guest, SLOT, driver.window + 16, 1, 3);
    assert_int_equal(driver_get(&driver, VIRTIO_STATUS), 3);
    assert_int_equal(through_window(VIRTIO_STATUS, 1), 3);
    /* A window that is none: the data is what it was. */
    assert_int_equal(through_window(VIRTIO_QUEUES, 3), 3);
    assert_int_equal(through_window(VIRTIO_QUEUES, 4), 3);
    assert_int_equal(through_window(VIRTIO_BAR_BYTES, 2), 3);
    assert_int_equal(through_window(~1u, 2), 3);
    assert_int_equal(through_window(VIRTIO_QUEUES, 2), 2);
    guest_config_write(&guest, SLOT, driver.window + 4, 1, 1);
    guest_config_write(&guest, SLOT, driver.window + 8, 4, VIRTIO_STATUS);
    guest_config_write(&guest, SLOT, driver.window + 16, 2, 0);
    assert_int_equal(driver_get(&driver, VIRTIO_STATUS), 3);
}

static void registers_have_their_own_size(void **state)
{
    (void)state;
    driver_start(&driver, ALL_FEATURES, 2, RINGS);
    for (u32 part = 0; part < VIRTIO_BAR_BYTES; part += 0x1000) {
        for (u32 offset = 0; offset < 0x48; offset++) {
            for (u32 size = 0; size <= 9; size++) {
                bool is_register = part == 0 && size && (size & (size - 1)) == 0;
                guest_mmio_read(&guest, BAR + part + offset, size);
                if (!is_register)
                    guest_mmio_write(&guest, BAR + part + offset, size, 0x5a);
            }
        }
    }
    guest_mmio_write(&guest, driver.common + VIRTIO_STATUS, 2, 0);
    guest_mmio_write(&guest, driver.common + VIRTIO_QUEUE_SIZE, 4, 0);
    guest_mmio_write(&guest, driver.common + VIRTIO_QUEUE_SIZE, 1, 0);
    assert_int_equal(guest_mmio_read(&guest, driver.common + VIRTIO_QUEUE_SIZE, 1), 0);
    assert_int_equal(driver_get(&driver, VIRTIO_STATUS), 15);
    assert_string_equal(host_log(), "");
}

static void a_long_queue_is_left_for_a_poll(void **state)
{
    (void)state;
    const u32 len = 200 * (u32)KIB; /* six exceed what one run does */
    u32 head, used;
    driver_start(&driver, ALL_FEATURES, 2, RINGS);
    for (u32 i = 0; i < 8; i++)
        driver_add(&driver, TRANSMIT, &(struct driver_buffer){BUFFERS, len, DRIVER_READABLE}, 1);
    driver_kick(&driver, TRANSMIT);
    assert_int_equal(printed_len, 6 * len);
    assert_int_equal(guest.wakes, 1);
    for (u32 i = 0; i < 6; i++)
        assert_true(driver_take(&driver, TRANSMIT, &head, &used));
    assert_false(driver_take(&driver, TRANSMIT, &head, &used));
    pci_poll(&guest.bus);
    assert_int_equal(printed_len, 8 * len);
    assert_int_equal(guest.wakes, 1);
    assert_false(driver_needs_reset(&driver));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_says_what_it_is),         TEST(features_that_were_not_offered_are_refused),
        TEST(a_line_is_raised_and_read_away),   TEST(messages_replace_the_line),
        TEST(the_event_index_saves_interrupts), TEST(nothing_is_served_before_it_may_be),
        TEST(a_reset_forgets_everything),       TEST(the_window_reaches_the_bar),
        TEST(registers_have_their_own_size),    TEST(a_long_queue_is_left_for_a_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
