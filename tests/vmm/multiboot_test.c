/* SPDX-License-Identifier: MIT */
/* Multiboot images: what is loaded where, what they are told, and one clear line for each damage.
 */
#include "vmm/multiboot.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/fw_cfg.h"
#include "vmm/vm.h"

#define MAGIC 0x1badb002u
#define START 0x400000u
#define KERNEL_BYTES 20000u
#define HEADER_AT 0x40u /* in a flat file */

const u8 shim_image[PAGE_BYTES] = {0xeb};

static u8 kernel[KERNEL_BYTES];
static u8 module[5000];
static struct file kernel_file, module_file;
static struct guest_config config;
static struct guest_pages *pages;
static struct guest_image image;

static void set(u8 *bytes, size_t at, u64 value, size_t len)
{
    memcpy(bytes + at, &value, len);
}

static u64 get(const u8 *bytes, size_t at, size_t len)
{
    u64 value = 0;
    memcpy(&value, bytes + at, len);
    return value;
}

static void make_header(u8 *at, u32 flags)
{
    set(at, 0, MAGIC, 4);
    set(at, 4, flags, 4);
    set(at, 8, 0 - (MAGIC + flags), 4);
}

static void set_segment(u32 index, u32 address, u32 offset, u32 file_bytes, u32 memory_bytes)
{
    u8 *header = kernel + 52 + index * 32;
    set(header, 0, 1, 4);
    set(header, 4, offset, 4);
    set(header, 12, address, 4);
    set(header, 16, file_bytes, 4);
    set(header, 20, memory_bytes, 4);
}

/* Two segments that share a page, as a linker lays them, and one apart. */
static void make_elf(void)
{
    memcpy(kernel,
           "\x7f"
           "ELF\x01\x01\x01",
           7);
    set(kernel, 18, 3, 2);
    set(kernel, 24, START + 0x10, 4);
    set(kernel, 28, 52, 4);
    set(kernel, 42, 32, 2);
    set(kernel, 44, 4, 2);
    set_segment(0, START, 0x1000, 0x1100, 0x1100);
    set_segment(1, START + 0x1200, 0x2200, 0x100, 0x100);
    set_segment(2, START + 0x5000, 0x3000, 0x800, 0x9000);
    set(kernel + 52 + 3 * 32, 0, 2, 4); /* not loaded */
    make_header(kernel + 0x1000, 3);
}

static void make_flat(void)
{
    u8 *header = kernel + HEADER_AT;
    make_header(header, 1u << 16);
    set(header, 12, START + HEADER_AT, 4);
    set(header, 16, START, 4);
    set(header, 20, START + 10000, 4);
    set(header, 24, START + 40000, 4);
    set(header, 28, START + 0x100, 4);
}

static int set_up(void **state)
{
    (void)state;
    host_log_clear();
    for (u32 i = 0; i < sizeof kernel; i++)
        kernel[i] = (u8)(i * 5);
    memset(kernel, 0, 0x200);
    kernel_file = (struct file){.path = "test.flat", .data = kernel, .len_bytes = sizeof kernel};
    module_file = (struct file){.path = "env", .data = module, .len_bytes = sizeof module};
    config = (struct guest_config){.name = "bare",
                                   .kind = GUEST_VM,
                                   .cmdline = "one two",
                                   .memory_bytes = 16 * MIB,
                                   .vcpus = 3};
    free(pages);
    pages = calloc(1, sizeof *pages);
    image = (struct guest_image){.config = &config, .pages = pages};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(pages);
    pages = NULL;
    return 0;
}

static const struct guest_piece *piece_at(u64 address)
{
    for (u32 i = 0; i < image.count; i++) {
        if (image.pieces[i].start.raw == address)
            return &image.pieces[i];
    }
    fail_msg("nothing at %#llx", (unsigned long long)address);
    return NULL;
}

static void segments_are_loaded_whole(void **state)
{
    (void)state;
    make_elf();
    assert_true(multiboot_is_image(&kernel_file));
    assert_int_equal(multiboot_load(&image, &kernel_file, NULL), OK);
    const struct guest_piece *both = piece_at(START), *third = piece_at(START + 0x5000);
    assert_ptr_equal(both->bytes, kernel + 0x1000);
    assert_int_equal(both->len_bytes, 0x1300);
    assert_ptr_equal(third->bytes, kernel + 0x3000);
    assert_int_equal(third->len_bytes, 0x800);
    assert_int_equal(image.count, 4); /* information and command line */
    assert_int_equal(pages->shim.entry, START + 0x10);
    assert_int_equal(pages->shim.flags, SHIM_MULTIBOOT);
    assert_int_equal(pages->shim.rdi, LAYOUT_BOOT_PARAMS);
}

static void a_flat_file_goes_where_its_header_says(void **state)
{
    (void)state;
    make_flat();
    assert_int_equal(multiboot_load(&image, &kernel_file, NULL), OK);
    const struct guest_piece *piece = piece_at(START);
    assert_ptr_equal(piece->bytes, kernel);
    assert_int_equal(piece->len_bytes, 10000);
    assert_int_equal(pages->shim.entry, START + 0x100);
    /* No end: all of the file. */
    set_up(NULL);
    make_flat();
    set(kernel + HEADER_AT, 20, 0, 4);
    assert_int_equal(multiboot_load(&image, &kernel_file, NULL), OK);
    assert_int_equal(piece_at(START)->len_bytes, KERNEL_BYTES);
}

static void the_information_tells_of_memory_module_and_command_line(void **state)
{
    (void)state;
    make_elf();
    assert_int_equal(multiboot_load(&image, &kernel_file, &module_file), OK);
    const u8 *info = piece_at(LAYOUT_BOOT_PARAMS)->bytes;
    assert_int_equal(get(info, 0, 4), 0x24d);
    assert_int_equal(get(info, 4, 4), LAYOUT_LOW_RAM_END / KIB);
    assert_int_equal(get(info, 8, 4), 15 * 1024);
    assert_int_equal(get(info, 16, 4), LAYOUT_COMMAND_LINE);
    assert_string_equal((const char *)piece_at(LAYOUT_COMMAND_LINE)->bytes, "test.flat one two");
    assert_int_equal(get(info, 20, 4), 1);
    const u8 *entry = info + get(info, 24, 4) - LAYOUT_BOOT_PARAMS;
    u64 start = get(entry, 0, 4);
    assert_int_equal(get(entry, 4, 4) - start, sizeof module);
    assert_ptr_equal(piece_at(start)->bytes, module);
    assert_true(start >= START + 0x5000 + 0x9000 && start + sizeof module <= config.memory_bytes);
    assert_int_equal(get(info, 44, 4), 48);
    const u8 *map = info + get(info, 48, 4) - LAYOUT_BOOT_PARAMS;
    assert_int_equal(get(map, 0, 4), 20);
    assert_int_equal(get(map, 4, 8), 0);
    assert_int_equal(get(map, 12, 8), LAYOUT_LOW_RAM_END);
    assert_int_equal(get(map, 20, 4), 1);
    assert_int_equal(get(map, 28, 8), MIB);
    assert_int_equal(get(map, 36, 8), 15 * MIB);
    assert_string_equal((const char *)info + get(info, 64, 4) - LAYOUT_BOOT_PARAMS, "Tain");
}

static void refused(enum error error, const char *line)
{
    image.count = 0;
    host_log_clear();
    assert_int_equal(multiboot_load(&image, &kernel_file, &module_file), error);
    if (!strstr(host_log(), line))
        fail_msg("%s: not in: %s", line, host_log());
}

static void damage_is_named(void **state)
{
    (void)state;
    make_elf();
    config.kind = GUEST_TD;
    refused(ERR_UNSUPPORTED, "test.flat is a multiboot image, which takes kind = vm\n");
    config.kind = GUEST_VM;
    make_header(kernel + 0x1000, 4); /* a video mode */
    refused(ERR_INVALID, "asks for more than memory");
    make_header(kernel + 0x1000, 3);
    set_segment(2, START + 0x5000, 0x3000, 0x5000, 0x9000);
    refused(ERR_INVALID, "is cut short");
    set_segment(2, START + 0x5000, 0x3000, 0x800, 32 * MIB);
    refused(ERR_RANGE, "memory of 16 MiB is too small: test.flat ends at 0x2405000");
    set_segment(2, 0xfff00000, 0x3000, 0x800, 0x800);
    refused(ERR_RANGE, "does not fit");
    set_segment(2, START + 0x1400, 0x3000, 0x800, 0x800); /* in the page of the other two */
    refused(ERR_EXISTS, "overlaps");
    set_segment(2, START + 0x5000, 0x3000, 0x800, 0x800);
    config.memory_bytes = START + 0x6000;
    refused(ERR_RANGE, "memory of 4 MiB is too small for env");
    config.memory_bytes = 16 * MIB;
    kernel[4] = 2;
    refused(ERR_INVALID, "is no ELF of 32-bit x86");
    kernel[4] = 1;
    set(kernel, 28, KERNEL_BYTES - 64, 4);
    refused(ERR_INVALID, "has no program headers");
    make_elf();
    set(kernel, 24, 15 * MIB, 4);
    refused(ERR_RANGE, "its entry is 0xf00000");
    set_up(NULL);
    make_flat();
    set(kernel + HEADER_AT, 12, START + HEADER_AT + 4, 4);
    refused(ERR_INVALID, "contradict");
    make_flat();
    set(kernel + HEADER_AT, 20, START - 1, 4);
    refused(ERR_INVALID, "contradict");
    make_flat();
    kernel_file.len_bytes = HEADER_AT + 16;
    refused(ERR_INVALID, "is cut short");
}

static void the_header_is_early_and_sums_up(void **state)
{
    (void)state;
    assert_false(multiboot_is_image(&kernel_file));
    make_header(kernel + 8188, 0);
    assert_true(multiboot_is_image(&kernel_file));
    kernel[8188 + 8]++;
    assert_false(multiboot_is_image(&kernel_file));
    make_header(kernel + 8192, 0);
    assert_false(multiboot_is_image(&kernel_file));
    /* No byte beyond the file is read. */
    for (u32 len = 0; len < 40; len++) {
        u8 *bytes = malloc(len ? len : 1);
        memset(bytes, 0, len);
        struct file file = {.data = bytes, .len_bytes = len};
        assert_false(multiboot_is_image(&file));
        free(bytes);
    }
}

static u64 configuration(struct vm *vm, u16 item, u32 bytes)
{
    u64 value = 0;
    fw_cfg_write(vm, FW_CFG_SELECTOR, (u8)item);
    fw_cfg_write(vm, FW_CFG_SELECTOR + 1, (u8)(item >> 8));
    for (u32 i = 0; i < bytes; i++)
        value |= (u64)fw_cfg_read(vm, FW_CFG_DATA) << (8 * i);
    return value;
}

static void test_programs_learn_of_processors_and_memory(void **state)
{
    (void)state;
    struct vm *vm = calloc(1, sizeof *vm);
    vm->config = &config;
    vm->vcpu_count = 3;
    assert_int_equal(configuration(vm, 0, 4), 0x554d4551);
    assert_int_equal(configuration(vm, 5, 2), 3);
    assert_int_equal(configuration(vm, 3, 8), 16 * MIB);
    assert_int_equal(fw_cfg_read(vm, FW_CFG_DATA), 0); /* past its end */
    assert_int_equal(configuration(vm, 0x77, 4), 0);
    assert_int_equal(fw_cfg_read(vm, FW_CFG_SELECTOR), 0);
    free(vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(segments_are_loaded_whole),
        TEST(a_flat_file_goes_where_its_header_says),
        TEST(the_information_tells_of_memory_module_and_command_line),
        TEST(damage_is_named),
        TEST(the_header_is_early_and_sums_up),
        TEST(test_programs_learn_of_processors_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
