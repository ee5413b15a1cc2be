/* SPDX-License-Identifier: MIT */
/* A disk on the real page allocator. */
#include "vmm/virtio_block.h"

#include <stdlib.h>
#include <string.h>

#include "boot/phys.h"
#include "mm/pages.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/virtio_driver.h"

#define SLOT 4
#define BAR 0xc0020000u
#define PIN 18
#define RINGS (GUEST_RAM + 0x10000)
#define HEADER (GUEST_RAM + 0x20000)
#define STATUS (GUEST_RAM + 0x21000)
#define DATA (GUEST_RAM + 0x30000)
#define SECTORS 85u /* the last page is a part of one */
#define IMAGE_BYTES (SECTORS * BLOCK_SECTOR_BYTES)
#define MACHINE_PAGES 64
#define NO_STATUS 0x77

#define READ 0u
#define WRITE 1u
#define FLUSH 4u
#define GET_ID 8u
#define OK_STATUS 0u
#define ERROR_STATUS 1u
#define UNSUPPORTED_STATUS 2u

static struct device_guest guest;
static struct virtio_block block;
static struct virtio_driver driver;
static struct pages_stats at_start;
static u8 *image, *pristine;

static void start(enum block_access access, const char *id)
{
    struct block_image disk = {.data = image, .len_bytes = IMAGE_BYTES, .access = access, .id = id};
    assert_int_equal(virtio_block_init(&block, &guest.host, &disk), OK);
    pci_add(&guest.bus, &block.device.pci, SLOT, gpa(BAR), PIN);
    driver_find(&driver, &guest, SLOT);
    driver_start(&driver, ~0ull, 1, RINGS);
}

static int set_up(void **state)
{
    (void)state;
    host_log_clear();
    host_memory_create(MACHINE_PAGES * PAGE_BYTES);
    memset(phys_to_virt(hpa(HOST_MEMORY_START)), 0xaa, MACHINE_PAGES * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + MACHINE_PAGES * PAGE_BYTES));
    pages_statistics(&at_start);
    device_guest_init(&guest, "g");
    image = malloc(IMAGE_BYTES); /* exactly: the sanitizer watches its end */
    pristine = malloc(IMAGE_BYTES);
    for (u32 i = 0; i < IMAGE_BYTES; i++)
        image[i] = (u8)(i * 7 + i / BLOCK_SECTOR_BYTES);
    memcpy(pristine, image, IMAGE_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct pages_stats now;
    virtio_block_destroy(&block);
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    assert_memory_equal(image, pristine, IMAGE_BYTES);
    free(image);
    free(pristine);
    device_guest_destroy(&guest);
    host_memory_destroy();
    return 0;
}

static void put_header(u32 type, u64 sector)
{
    u32 words[4] = {type, 0, (u32)sector, (u32)(sector >> 32)};
    memcpy(guest_at(&guest, HEADER), words, sizeof words);
    *(u8 *)guest_at(&guest, STATUS) = NO_STATUS;
}

/* One request whose data are one buffer at DATA; the result is its status. */
static u8 request(u32 type, u64 sector, u32 len)
{
    struct driver_buffer buffers[3] = {{HEADER, 16, DRIVER_READABLE}};
    u32 count = 1, head, used;
    put_header(type, sector);
    if (len)
        buffers[count++] =
            (struct driver_buffer){DATA, len, type == WRITE ? DRIVER_READABLE : DRIVER_WRITABLE};
    buffers[count++] = (struct driver_buffer){STATUS, 1, DRIVER_WRITABLE};
    driver_add_indirect(&driver, 0, buffers, count);
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &used));
    assert_int_equal(used, 1 + (type == WRITE ? 0 : len));
    assert_false(driver_needs_reset(&driver));
    return *(u8 *)guest_at(&guest, STATUS);
}

static void a_disk_says_its_size(void **state)
{
    (void)state;
    start(BLOCK_READ_WRITE, "");
    assert_int_equal(guest_mmio_read(&guest, driver.config, 8), SECTORS);
    assert_int_equal(guest_mmio_read(&guest, driver.config + 8, 4), BLOCK_SEGMENT_BYTES);
    assert_int_equal(guest_mmio_read(&guest, driver.config + 12, 4), BLOCK_SEGMENTS);
    assert_int_equal(guest_mmio_read(&guest, driver.config + 16, 4), 0);
    assert_true(driver.accepted == 0x330000206ull);
}

static void sectors_are_read(void **state)
{
    (void)state;
    start(BLOCK_READ_WRITE, "");
    assert_int_equal(request(READ, 0, IMAGE_BYTES), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), image, IMAGE_BYTES);
    assert_int_equal(*(u8 *)guest_at(&guest, DATA + IMAGE_BYTES), GUEST_PATTERN);
    assert_int_equal(request(READ, 7, 1024), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), image + 7 * 512, 1024);
    assert_int_equal(request(READ, SECTORS - 1, 512), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), image + IMAGE_BYTES - 512, 512);
}

static void data_may_be_in_any_pieces(void **state)
{
    (void)state;
    u32 head, used;
    struct driver_buffer buffers[] = {
        {HEADER, 5, DRIVER_READABLE},
        {HEADER + 5, 11, DRIVER_READABLE},
        {DATA, 1, DRIVER_WRITABLE},
        {DATA + 0x1000, 510, DRIVER_WRITABLE},
        {DATA + 0x2000, 514, DRIVER_WRITABLE}, /* the last byte is the status */
    };
    start(BLOCK_READ_WRITE, "");
    put_header(READ, 8);
    driver_add(&driver, 0, buffers, ARRAY_LENGTH(buffers));
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &used));
    assert_int_equal(used, 1025);
    assert_memory_equal(guest_at(&guest, DATA), image + 4096, 1);
    assert_memory_equal(guest_at(&guest, DATA + 0x1000), image + 4097, 510);
    assert_memory_equal(guest_at(&guest, DATA + 0x2000), image + 4607, 513);
    assert_int_equal(*(u8 *)guest_at(&guest, DATA + 0x2000 + 513), OK_STATUS);
    assert_int_equal(*(u8 *)guest_at(&guest, DATA + 0x2000 + 514), GUEST_PATTERN);
}

static void writes_go_to_pages_of_the_guests_own(void **state)
{
    (void)state;
    u8 expected[IMAGE_BYTES];
    start(BLOCK_READ_WRITE, "");
    memcpy(expected, image, IMAGE_BYTES);
    memset(guest_at(&guest, DATA), 0x11, 1024);
    memset(expected + 7 * 512, 0x11, 1024); /* over the end of a page */
    assert_int_equal(request(WRITE, 7, 1024), OK_STATUS);
    assert_int_equal(block.written_pages, 2);
    memset(guest_at(&guest, DATA), 0x22, 512);
    memset(expected + IMAGE_BYTES - 512, 0x22, 512);
    assert_int_equal(request(WRITE, SECTORS - 1, 512), OK_STATUS);
    assert_int_equal(request(WRITE, SECTORS - 1, 512), OK_STATUS);
    assert_int_equal(block.written_pages, 3);
    assert_int_equal(request(FLUSH, 0, 0), OK_STATUS);
    assert_int_equal(request(READ, 0, IMAGE_BYTES), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), expected, IMAGE_BYTES);
}

static void what_is_out_of_range_is_an_error(void **state)
{
    (void)state;
    static const struct {
        u64 sector;
        u32 len;
    } rows[] = {
        {SECTORS, 512},   {SECTORS - 1, 1024},    {~0ull, 512},
        {~0ull, 1024},    {1ull << 55, 512},      {0, 100},
        {0, 513},         {0, IMAGE_BYTES + 512}, {~0ull >> 9, 2 * 512},
        {SECTORS + 1, 0},
    };
    start(BLOCK_READ_WRITE, "");
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        assert_int_equal(request(READ, rows[i].sector, rows[i].len), ERROR_STATUS);
        assert_int_equal(request(WRITE, rows[i].sector, rows[i].len), ERROR_STATUS);
    }
    assert_int_equal(*(u8 *)guest_at(&guest, DATA), GUEST_PATTERN);
    assert_int_equal(block.written_pages, 0);
    assert_int_equal(request(READ, SECTORS, 0), OK_STATUS);
    assert_int_equal(request(3, 0, 512), UNSUPPORTED_STATUS);
    assert_int_equal(request(11, 0, 16), UNSUPPORTED_STATUS);
    assert_int_equal(request(~0u, 0, 0), UNSUPPORTED_STATUS);
    assert_string_equal(host_log(), "");
}

static void more_than_a_request_may_have_is_an_error(void **state)
{
    (void)state;
    struct driver_buffer buffers[8] = {{HEADER, 16, DRIVER_READABLE}};
    u32 head, used;
    start(BLOCK_READ_WRITE, "");
    block.config.capacity_sectors = 1 << 20; /* a larger image than a test has */
    put_header(READ, 0);
    for (u32 i = 1; i < 7; i++)
        buffers[i] = (struct driver_buffer){DATA, 3 * (u32)MIB, DRIVER_WRITABLE};
    buffers[7] = (struct driver_buffer){STATUS, 1, DRIVER_WRITABLE};
    driver_add(&driver, 0, buffers, 8);
    driver_kick(&driver, 0);
    assert_true(driver_take(&driver, 0, &head, &used));
    assert_int_equal(*(u8 *)guest_at(&guest, STATUS), ERROR_STATUS);
    assert_int_equal(*(u8 *)guest_at(&guest, DATA), GUEST_PATTERN);
}

static void a_disk_has_a_name(void **state)
{
    (void)state;
    start(BLOCK_READ_WRITE, "disk-of-a-name-that-is-long");
    assert_int_equal(request(GET_ID, 0, 20), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), "disk-of-a-name-that-\xd5", 21);
    memset(guest_at(&guest, DATA), 0x55, 32);
    assert_int_equal(request(GET_ID, 0, 6), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), "disk-o\x55", 7);
    assert_int_equal(request(GET_ID, 0, 32), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), "disk-of-a-name-that-\x55", 21);
}

static void a_read_only_disk_refuses_writes(void **state)
{
    (void)state;
    start(BLOCK_READ_ONLY, "");
    assert_true(driver.accepted & 1u << 5);
    assert_int_equal(request(WRITE, 0, 512), ERROR_STATUS);
    assert_int_equal(request(READ, 0, IMAGE_BYTES), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), image, IMAGE_BYTES);
}

static void without_memory_writes_fail_and_reads_go_on(void **state)
{
    (void)state;
    hpa_t taken[MACHINE_PAGES];
    start(BLOCK_READ_WRITE, "");
    memset(guest_at(&guest, DATA), 0x11, 512);
    assert_int_equal(request(WRITE, 0, 512), OK_STATUS);
    u32 count = pages_allocate_some(PAGE_SHARED, taken, MACHINE_PAGES);
    assert_int_equal(request(WRITE, 8, 512), ERROR_STATUS);
    assert_int_equal(request(WRITE, 16, 512), ERROR_STATUS);
    assert_string_equal(host_log(),
                        "guest g: virtio-block: no memory for what it writes; its writes fail\n");
    assert_int_equal(request(WRITE, 1, 512), OK_STATUS); /* a page that it has */
    assert_int_equal(request(READ, 8, 512), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA), image + 4096, 512);
    pages_free_some(taken, count);
    assert_int_equal(request(WRITE, 8, 512), OK_STATUS);
}

static void images_that_are_no_disk_are_refused(void **state)
{
    (void)state;
    struct block_image disk = {.data = image, .len_bytes = 513, .id = ""};
    hpa_t taken[MACHINE_PAGES];
    assert_int_equal(virtio_block_init(&block, &guest.host, &disk), ERR_INVALID);
    assert_string_equal(host_log(), "guest g: a disk of 513 bytes: not whole sectors of 512\n");
    disk.len_bytes = 0;
    assert_int_equal(virtio_block_init(&block, &guest.host, &disk), ERR_INVALID);
    disk.len_bytes = 512;
    u32 count = pages_allocate_some(PAGE_SHARED, taken, MACHINE_PAGES);
    assert_int_equal(virtio_block_init(&block, &guest.host, &disk), ERR_NO_MEMORY);
    pages_free_some(taken, count);
}

/* A write that fails half-way shows the guest nothing but the image and its own bytes. */
static void broken_requests_leak_nothing(void **state)
{
    (void)state;
    u32 head, used;
    struct driver_buffer buffers[] = {{HEADER, 16, DRIVER_READABLE},
                                      {DATA, 100, DRIVER_READABLE},
                                      {0x1000, 412, DRIVER_READABLE},
                                      {STATUS, 1, DRIVER_WRITABLE}};
    start(BLOCK_READ_WRITE, "");
    memset(guest_at(&guest, DATA), 0x11, 100);
    put_header(WRITE, 0);
    driver_add(&driver, 0, buffers, 4);
    driver_kick(&driver, 0);
    assert_true(driver_needs_reset(&driver));
    assert_false(driver_take(&driver, 0, &head, &used));
    assert_int_equal(*(u8 *)guest_at(&guest, STATUS), NO_STATUS);
    assert_string_equal(host_log(), "guest g: virtio-block, slot 4, queue 0: a buffer in no memory "
                                    "for devices (0x1000): needs a reset\n");
    driver_start(&driver, ~0ull, 1, RINGS);
    assert_int_equal(request(READ, 0, 4096), OK_STATUS);
    assert_memory_equal(guest_at(&guest, DATA + 100), image + 100, 3996);
    for (u32 i = 0; i < 100; i++)
        assert_int_equal(*(u8 *)guest_at(&guest, DATA + i), 0x11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_disk_says_its_size),
        TEST(sectors_are_read),
        TEST(data_may_be_in_any_pieces),
        TEST(writes_go_to_pages_of_the_guests_own),
        TEST(what_is_out_of_range_is_an_error),
        TEST(more_than_a_request_may_have_is_an_error),
        TEST(a_disk_has_a_name),
        TEST(a_read_only_disk_refuses_writes),
        TEST(without_memory_writes_fail_and_reads_go_on),
        TEST(images_that_are_no_disk_are_refused),
        TEST(broken_requests_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
