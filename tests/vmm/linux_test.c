/* SPDX-License-Identifier: MIT */
/*
 * Kernels as files: what is loaded where, and one clear line for each damage. An installed kernel
 * whose path is in KERNEL is tried too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/guest_image.h"

#define SHARED_BIT (1ull << 39)
#define PREFERRED (16 * MIB)
#define INIT_SIZE (32 * MIB)
#define SETUP_SECTORS 27
#define SETUP_BYTES ((1 + SETUP_SECTORS) * 512)
#define KERNEL_BYTES (SETUP_BYTES + 20000)

const u8 shim_image[PAGE_BYTES] = {0xeb};

static u8 kernel[64 * KIB];
static u8 initrd[10000];
static struct machine described;
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

static void make_bzimage(void)
{
    memset(kernel, 0, sizeof kernel);
    for (u32 i = SETUP_BYTES; i < KERNEL_BYTES; i++)
        kernel[i] = (u8)(i * 7);
    kernel[0x1f1] = SETUP_SECTORS;
    set(kernel, 0x1fe, 0xaa55, 2);
    set(kernel, 0x200, 0x6aeb, 2);
    memcpy(kernel + 0x202, "HdrS", 4);
    set(kernel, 0x206, 0x20f, 2);
    kernel[0x211] = 1;
    set(kernel, 0x22c, 0x7fffffff, 4);
    set(kernel, 0x236, 0x3f, 2);
    set(kernel, 0x238, 2047, 4);
    set(kernel, 0x258, PREFERRED, 8);
    set(kernel, 0x260, INIT_SIZE, 4);
    described.files[0].len_bytes = KERNEL_BYTES;
}

/* Two segments: 0x3000 bytes at 16 MiB, 0x100 of 0x9000 at 18 MiB. */
static void make_elf(void)
{
    memset(kernel, 0, sizeof kernel);
    memcpy(kernel,
           "\x7f"
           "ELF\x02\x01\x01",
           7);
    set(kernel, 18, 62, 2);
    set(kernel, 24, PREFERRED + 0x40, 8);
    set(kernel, 32, 64, 8);
    set(kernel, 54, 56, 2);
    set(kernel, 56, 3, 2);
    const u64 segments[3][5] = {
        {1, 0x1000, PREFERRED, 0x3000, 0x3000},
        {4, 0x9000, 0, 0x100, 0x100}, /* a note */
        {1, 0x8000, 18 * MIB, 0x100, 0x9000},
    };
    for (u32 i = 0; i < 3; i++) {
        u8 *header = kernel + 64 + i * 56;
        set(header, 0, segments[i][0], 4);
        set(header, 8, segments[i][1], 8);
        set(header, 24, segments[i][2], 8);
        set(header, 32, segments[i][3], 8);
        set(header, 40, segments[i][4], 8);
    }
    memset(kernel + 0x1000, 0x11, 0x3000);
    memset(kernel + 0x8000, 0x22, 0x100);
    described.files[0].len_bytes = 0x8100;
}

static int set_up(void **state)
{
    (void)state;
    memset(&described, 0, sizeof described);
    strcpy(described.files[0].path, "vmlinuz");
    described.files[0].data = kernel;
    strcpy(described.files[1].path, "initrd.gz");
    described.files[1].data = initrd;
    described.files[1].len_bytes = sizeof initrd;
    described.file_count = 2;
    machine_set(&described);
    config = (struct guest_config){.name = "debian",
                                   .kernel = "vmlinuz",
                                   .initrd = "initrd.gz",
                                   .cmdline = "console=ttyS0 quiet",
                                   .memory_bytes = 128 * MIB,
                                   .vcpus = 1};
    pages = calloc(1, sizeof *pages);
    image = (struct guest_image){.config = &config, .pages = pages};
    make_bzimage();
    host_log_clear();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(pages);
    return 0;
}

static enum error build(void)
{
    return guest_image_build(&image, gpa(SHARED_BIT));
}

static const struct guest_piece *piece_at(u64 start)
{
    for (u32 i = 0; i < image.count; i++) {
        if (image.pieces[i].start.raw == start)
            return &image.pieces[i];
    }
    fail_msg("nothing is loaded at %#llx", (unsigned long long)start);
    return NULL;
}

static void refused(enum error error, const char *line)
{
    memset(pages, 0, sizeof *pages);
    host_log_clear();
    assert_int_equal(build(), error);
    assert_string_equal(host_log(), line);
}

static void a_bzimage_is_loaded_by_the_64_bit_protocol(void **state)
{
    (void)state;
    assert_int_equal(build(), OK);
    assert_string_equal(host_log(), "");
    const struct guest_piece *piece = piece_at(PREFERRED);
    assert_ptr_equal(piece->bytes, kernel + SETUP_BYTES);
    assert_int_equal(piece->len_bytes, KERNEL_BYTES - SETUP_BYTES);
    assert_int_equal(pages->shim.entry, PREFERRED + 0x200);
    assert_int_equal(pages->shim.rsi, LAYOUT_BOOT_PARAMS);
    assert_int_equal(pages->shim.flags, SHIM_ACCEPT_MEMORY);
    assert_int_equal(pages->shim.memory_bytes, 128 * MIB);
    assert_ptr_equal(piece_at(LAYOUT_BOOT_PARAMS)->bytes, pages->boot_params);
    assert_ptr_equal(piece_at(LAYOUT_SHIM)->bytes, shim_image);
}

static void boot_params_say_what_linux_asks_for(void **state)
{
    (void)state;
    assert_int_equal(build(), OK);
    const u8 *params = pages->boot_params;
    assert_int_equal(get(params, 0x1fe, 2), 0xaa55);
    assert_memory_equal(params + 0x202, "HdrS", 4);
    assert_int_equal(params[0x210], 0xff);
    assert_int_equal(get(params, 0x228, 4), LAYOUT_COMMAND_LINE);
    assert_string_equal((const char *)pages->command_line, "console=ttyS0 quiet");
    assert_int_equal(get(params, 0x070, 8), LAYOUT_ACPI);
    /* screen_info, and whatever else is not ours to say, is zero. */
    for (u32 i = 0; i < 0x70; i++)
        assert_int_equal(params[i], 0);
    for (u32 i = 0x26c; i < 0x2d0; i++)
        assert_int_equal(params[i], 0);
    /* The initrd is as high as it goes, and whole. */
    u64 start = get(params, 0x218, 4);
    assert_int_equal(start, 128 * MIB - 3 * PAGE_BYTES);
    assert_int_equal(get(params, 0x21c, 4), sizeof initrd);
    assert_ptr_equal(piece_at(start)->bytes, initrd);
}

static void the_memory_map_is_ascending_and_disjoint(void **state)
{
    (void)state;
    assert_int_equal(build(), OK);
    const u8 *params = pages->boot_params;
    u64 end = 0, ram = 0;
    assert_int_equal(params[0x1e8], 4);
    for (u32 i = 0; i < params[0x1e8]; i++) {
        const u8 *entry = params + 0x2d0 + i * 20;
        u64 start = get(entry, 0, 8), len = get(entry, 8, 8), type = get(entry, 16, 4);
        assert_true(start >= end && len);
        end = start + len;
        ram += type == 1 ? len : 0;
        if (start == LAYOUT_ACPI)
            assert_int_equal(type, 3);
        if (start == LAYOUT_MAILBOX)
            assert_int_equal(type, 4);
    }
    assert_int_equal(end, 128 * MIB);
    assert_int_equal(ram, LAYOUT_LOW_RAM_END + 127 * MIB);
}

static void the_shim_finds_an_identity_map(void **state)
{
    (void)state;
    assert_int_equal(build(), OK);
    assert_int_equal(pages->shim.page_tables, LAYOUT_PAGE_TABLES);
    static const u64 addresses[] = {0, 0x1234567, 0x3fffffff, 0x40000000, 0xfec00000, 0xfffff000};
    for (u32 i = 0; i < ARRAY_LENGTH(addresses); i++) {
        u64 address = addresses[i];
        u64 entry = pages->page_tables[0][address >> 39 & 511];
        for (int shift = 30; shift >= 21; shift -= 9) {
            assert_int_equal(entry & 3, 3);
            u64 table = ((entry & ~0xfffull) - LAYOUT_PAGE_TABLES) / PAGE_BYTES;
            assert_in_range(table, 1, LAYOUT_PAGE_TABLES_COUNT - 1);
            entry = pages->page_tables[table][address >> shift & 511];
        }
        assert_int_equal(entry & 0x83, 0x83);
        assert_int_equal(entry & ~0xfffull, address & ~0x1fffffull);
    }
}

static void no_initrd_is_no_ramdisk(void **state)
{
    (void)state;
    config.initrd[0] = 0;
    assert_int_equal(build(), OK);
    assert_int_equal(get(pages->boot_params, 0x218, 8), 0);
}

/* {where, value, bytes, the line} */
static void each_damage_of_a_bzimage_is_named(void **state)
{
    (void)state;
    static const struct {
        u32 at;
        u64 value;
        u32 len;
        const char *line;
    } damages[] = {
        {0x202, 0, 4, "guest debian: vmlinuz is no bzImage: no HdrS at 0x202\n"},
        {0x1fe, 0, 2, "guest debian: vmlinuz is no bzImage: no 0xaa55 at 0x1fe\n"},
        {0x206, 0x20b, 2,
         "guest debian: vmlinuz is too old a bzImage: boot protocol before 2.12\n"},
        {0x236, 0x3e, 2, "guest debian: vmlinuz has no 64-bit entry (xloadflags bit 0)\n"},
        {0x211, 0, 1, "guest debian: vmlinuz is no bzImage: it wants to be loaded low\n"},
        {0x1f1, 255, 1, "guest debian: vmlinuz is cut short: nothing behind its set-up sectors\n"},
        {0x258, PREFERRED + 1, 8,
         "guest debian: vmlinuz has a preferred address that is no page between 1 MiB and 2 GiB\n"},
        {0x258, 1ull << 40, 8,
         "guest debian: vmlinuz has a preferred address that is no page between 1 MiB and 2 GiB\n"},
        {0x260, 100, 4, "guest debian: vmlinuz says in init_size less than it is long\n"},
        {0x238, 5, 4,
         "guest debian: the command line of 19 characters is longer than the kernel's 5\n"},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(damages); i++) {
        make_bzimage();
        set(kernel, damages[i].at, damages[i].value, damages[i].len);
        refused(ERR_INVALID, damages[i].line);
    }
}

/* A copy that ends where the file does: the sanitizer sees any read beyond. */
static void cut_off_files_are_never_read_beyond_their_end(void **state)
{
    (void)state;
    for (int elf = 0; elf < 2; elf++) {
        if (elf)
            make_elf();
        else
            make_bzimage();
        u64 len = described.files[0].len_bytes;
        for (u64 cut = 0; cut < len; cut += cut < 1024 ? 1 : 509) {
            u8 *copy = malloc(cut + 1);
            memcpy(copy, kernel, cut);
            described.files[0].data = copy + (cut == 0);
            described.files[0].len_bytes = cut;
            host_log_clear();
            enum error e = build();
            /* A bzImage that lost its end is not told from a short one. */
            if (elf || cut <= SETUP_BYTES + 0x200) {
                assert_int_equal(e, ERR_INVALID);
                assert_non_null(strstr(host_log(), "guest debian: vmlinuz is "));
            }
            free(copy);
        }
        described.files[0].data = kernel;
    }
}

static void too_little_memory_is_named(void **state)
{
    (void)state;
    config.memory_bytes = 40 * MIB;
    refused(ERR_RANGE, "guest debian: memory of 40 MiB is too small: vmlinuz needs 48 MiB to "
                       "start\n");
    config.memory_bytes = 48 * MIB;
    refused(ERR_RANGE, "guest debian: memory of 48 MiB is too small for initrd.gz (9 KiB) above "
                       "the kernel, which ends at 48 MiB\n");
    config.memory_bytes = 49 * MIB;
    assert_int_equal(build(), OK);
}

static void missing_files_are_named(void **state)
{
    (void)state;
    strcpy(config.initrd, "other");
    refused(ERR_NOT_FOUND, "guest debian: other was not loaded\n");
    config.kernel[0] = 0;
    config.initrd[0] = 0;
    refused(ERR_INVALID, "guest debian: tain.cfg names no kernel\n");
}

static void an_elf_is_loaded_segment_by_segment(void **state)
{
    (void)state;
    make_elf();
    assert_int_equal(build(), OK);
    assert_int_equal(piece_at(PREFERRED)->len_bytes, 0x3000);
    assert_int_equal(piece_at(PREFERRED)->bytes[0], 0x11);
    assert_int_equal(piece_at(18 * MIB)->len_bytes, 0x100);
    assert_int_equal(piece_at(18 * MIB)->bytes[0], 0x22);
    assert_int_equal(pages->shim.entry, PREFERRED + 0x40);
    assert_memory_equal(pages->boot_params + 0x202, "HdrS", 4);
    assert_int_equal(pages->boot_params[0x210], 0xff);
}

static void each_damage_of_an_elf_is_named(void **state)
{
    (void)state;
    static const struct {
        u32 at;
        u64 value;
        u32 len;
        const char *line;
    } damages[] = {
        {18, 40, 2, "guest debian: vmlinuz is no ELF of 64-bit x86\n"},
        {4, 1, 1, "guest debian: vmlinuz is no ELF of 64-bit x86\n"},
        {56, 0, 2, "guest debian: vmlinuz has no program headers\n"},
        {32, ~0ull - 8, 8,
         "guest debian: vmlinuz is cut short: program headers outside the file\n"},
        {64 + 8, ~0ull, 8, "guest debian: vmlinuz is cut short: a segment outside the file\n"},
        {64 + 32, ~0ull, 8, "guest debian: vmlinuz is cut short: a segment outside the file\n"},
        {64 + 24, PREFERRED + 8, 8,
         "guest debian: vmlinuz has a segment that does not start on a page\n"},
        {64 + 24, 0, 8, "guest debian: vmlinuz has a segment outside 1 MiB to 2 GiB\n"},
        {64 + 40, ~0ull, 8, "guest debian: vmlinuz has a segment outside 1 MiB to 2 GiB\n"},
        {64 + 40, 0x100, 8,
         "guest debian: vmlinuz has a segment longer in the file than in memory\n"},
        {24, 0x1000, 8, "guest debian: vmlinuz has its entry 0x1000 outside its segments\n"},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(damages); i++) {
        make_elf();
        set(kernel, damages[i].at, damages[i].value, damages[i].len);
        refused(ERR_INVALID, damages[i].line);
    }
}

static void pieces_never_overlap(void **state)
{
    (void)state;
    make_elf();
    set(kernel, 64 + 2 * 56 + 24, PREFERRED + 0x2000, 8);
    assert_int_equal(build(), ERR_EXISTS);
    assert_string_equal(host_log(), "guest debian: vmlinuz (256 bytes at 0x1002000) overlaps "
                                    "vmlinuz\n");
    make_bzimage();
    assert_int_equal(build(), OK);
    for (u32 i = 0; i < image.count; i++) {
        for (u32 k = 0; k < i; k++) {
            const struct guest_piece *a = &image.pieces[i], *b = &image.pieces[k];
            u64 a_end = align_up(a->start.raw + a->len_bytes, PAGE_BYTES);
            u64 b_end = align_up(b->start.raw + b->len_bytes, PAGE_BYTES);
            assert_true(is_aligned(a->start.raw, PAGE_BYTES));
            assert_true(a_end <= b->start.raw || b_end <= a->start.raw);
        }
    }
}

static void a_flat_binary_is_left_to_accept_its_memory(void **state)
{
    (void)state;
    strcpy(config.kernel, "guest.bin");
    strcpy(described.files[0].path, "guest.bin");
    config.initrd[0] = 0;
    config.memory_bytes = 4 * MIB;
    assert_int_equal(build(), OK);
    assert_ptr_equal(piece_at(MIB)->bytes, kernel);
    assert_int_equal(pages->shim.entry, MIB);
    assert_int_equal(pages->shim.flags, 0);
    assert_int_equal(pages->shim.rdi, SHARED_BIT);
    assert_int_equal(pages->shim.rsi, 4 * MIB);
    assert_int_equal(pages->shim.rsp, LAYOUT_STACK_TOP);
    config.memory_bytes = MIB + 4 * PAGE_BYTES;
    refused(ERR_RANGE, "guest debian: guest.bin (34336 bytes at 0x100000) does not fit into 1 MiB "
                       "of memory\n");
    described.files[0].len_bytes = 0;
    refused(ERR_INVALID, "guest debian: guest.bin is empty\n");
}

static void a_real_kernel_loads(void **state)
{
    (void)state;
    const char *path = getenv("KERNEL");
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file)
        skip();
    static u8 real[32 * MIB];
    size_t len = fread(real, 1, sizeof real, file);
    fclose(file);
    described.files[0].data = real;
    described.files[0].len_bytes = len;
    config.memory_bytes = 256 * MIB;
    assert_int_equal(build(), OK);
    assert_int_equal(pages->shim.entry, 16 * MIB + 0x200);
    assert_true(piece_at(16 * MIB)->len_bytes > 4 * MIB);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bzimage_is_loaded_by_the_64_bit_protocol),
        TEST(boot_params_say_what_linux_asks_for),
        TEST(the_memory_map_is_ascending_and_disjoint),
        TEST(the_shim_finds_an_identity_map),
        TEST(no_initrd_is_no_ramdisk),
        TEST(each_damage_of_a_bzimage_is_named),
        TEST(cut_off_files_are_never_read_beyond_their_end),
        TEST(too_little_memory_is_named),
        TEST(missing_files_are_named),
        TEST(an_elf_is_loaded_segment_by_segment),
        TEST(each_damage_of_an_elf_is_named),
        TEST(pieces_never_overlap),
        TEST(a_flat_binary_is_left_to_accept_its_memory),
        TEST(a_real_kernel_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
