/* SPDX-License-Identifier: MIT */
/* Console and entropy source. */
#include "vmm/virtio_console.h"

#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/virtio_driver.h"
#include "vmm/virtio_entropy.h"

#define CONSOLE_SLOT 1
#define ENTROPY_SLOT 2
#define RINGS (GUEST_RAM + 0x10000)
#define BUFFERS (GUEST_RAM + 0x40000)
#define RECEIVE 0
#define TRANSMIT 1

static struct device_guest guest;
static struct virtio_console console;
static struct virtio_entropy entropy;
static struct virtio_driver driver;
static char printed[2048];
static u32 printed_len, numbers_left;

static void print(void *context, const u8 *bytes, u32 len_bytes)
{
    assert_ptr_equal(context, &guest);
    assert_true(printed_len + len_bytes <= sizeof printed);
    memcpy(printed + printed_len, bytes, len_bytes);
    printed_len += len_bytes;
}

static bool random(void *context, u64 *value)
{
    assert_ptr_equal(context, &guest);
    if (!numbers_left)
        return false;
    numbers_left--;
    *value = 0x0807060504030201ull;
    return true;
}

static int set_up(void **state)
{
    (void)state;
    printed_len = 0;
    numbers_left = 1000;
    host_log_clear();
    device_guest_init(&guest, "g");
    virtio_console_init(&console, &guest.host, print, &guest);
    virtio_entropy_init(&entropy, &guest.host, random, &guest);
    pci_add(&guest.bus, &console.device.pci, CONSOLE_SLOT, gpa(0xc0000000), 16);
    pci_add(&guest.bus, &entropy.device.pci, ENTROPY_SLOT, gpa(0xc0008000), 17);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_guest_destroy(&guest);
    return 0;
}

static void start(u32 slot, u32 queues)
{
    driver_find(&driver, &guest, slot);
    driver_start(&driver, ~0ull, queues, RINGS);
}

static void output_may_be_long_and_in_pieces(void **state)
{
    (void)state;
    start(CONSOLE_SLOT, 2);
    struct driver_buffer buffers[] = {{BUFFERS, 700, DRIVER_READABLE},
                                      {BUFFERS + 0x1000, 3, DRIVER_READABLE}};
    for (u32 i = 0; i < 700; i++)
        *(u8 *)guest_at(&guest, BUFFERS + i) = (u8)(i % 251);
    memcpy(guest_at(&guest, BUFFERS + 0x1000), "end", 3);
    driver_add(&driver, TRANSMIT, buffers, 2);
    driver_kick(&driver, TRANSMIT);
    assert_int_equal(printed_len, 703);
    for (u32 i = 0; i < 700; i++)
        assert_int_equal((u8)printed[i], i % 251);
    assert_memory_equal(printed + 700, "end", 3);
}

static void type(const char *text)
{
    for (; *text; text++)
        assert_true(virtio_console_type(&console, (u8)*text));
    virtio_poll(&console.device);
}

static void what_is_typed_waits_for_room(void **state)
{
    (void)state;
    u32 head, len;
    type("hello");
    start(CONSOLE_SLOT, 2);
    driver_vectors(&driver, 2);
    assert_int_equal(guest.messages[RECEIVE], 0);
    driver_add(&driver, RECEIVE, &(struct driver_buffer){BUFFERS, 3, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, RECEIVE);
    assert_true(driver_take(&driver, RECEIVE, &head, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(guest_at(&guest, BUFFERS), "hel\xd5", 4);
    assert_int_equal(guest.messages[RECEIVE], 1);
    driver_add(&driver, RECEIVE, &(struct driver_buffer){BUFFERS, 16, DRIVER_WRITABLE}, 1);
    driver_add(&driver, RECEIVE, &(struct driver_buffer){BUFFERS + 16, 16, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, RECEIVE);
    assert_true(driver_take(&driver, RECEIVE, &head, &len));
    assert_int_equal(len, 2);
    assert_false(driver_take(&driver, RECEIVE, &head, &len));
    type("x");
    assert_true(driver_take(&driver, RECEIVE, &head, &len));
    assert_int_equal(len, 1);
    assert_memory_equal(guest_at(&guest, BUFFERS + 16), "x\xd5", 2);
}

static void the_input_ring_wraps_and_fills(void **state)
{
    (void)state;
    u32 head, len, got = 0;
    start(CONSOLE_SLOT, 2);
    console.input_start = console.input_end = CONSOLE_INPUT_BYTES - 10;
    for (u32 i = 0; i < CONSOLE_INPUT_BYTES; i++)
        assert_true(virtio_console_type(&console, (u8)(i % 251)));
    assert_false(virtio_console_type(&console, 0));
    driver_add(&driver, RECEIVE, &(struct driver_buffer){BUFFERS, 5000, DRIVER_WRITABLE}, 1);
    driver_add(&driver, RECEIVE, &(struct driver_buffer){BUFFERS + 5000, 5000, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, RECEIVE);
    for (u32 i = 0; i < 2; i++) {
        assert_true(driver_take(&driver, RECEIVE, &head, &len));
        for (u32 j = 0; j < len; j++)
            assert_int_equal(*(u8 *)guest_at(&guest, BUFFERS + i * 5000 + j), got++ % 251);
    }
    assert_int_equal(got, CONSOLE_INPUT_BYTES);
}

static void random_bytes_fill_what_there_is(void **state)
{
    (void)state;
    u32 head, len;
    start(ENTROPY_SLOT, 1);
    assert_int_equal(driver.config, 0);
    driver_add(&driver, 0, &(struct driver_buffer){BUFFERS, 11, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &len));
    assert_int_equal(len, 11);
    assert_memory_equal(guest_at(&guest, BUFFERS), "\1\2\3\4\5\6\7\10\1\2\3\xd5", 12);
    driver_add(&driver, 0, &(struct driver_buffer){BUFFERS, 0xfffffff0, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &len));
    assert_int_equal(len, 256);
    numbers_left = 2;
    driver_add(&driver, 0, &(struct driver_buffer){BUFFERS, 64, DRIVER_WRITABLE}, 1);
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &len));
    assert_int_equal(len, 16);
    assert_string_equal(host_log(), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_may_be_long_and_in_pieces),
        TEST(what_is_typed_waits_for_room),
        TEST(the_input_ring_wraps_and_fills),
        TEST(random_bytes_fill_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
