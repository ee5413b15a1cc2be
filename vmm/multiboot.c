/* SPDX-License-Identifier: MIT */
#include "vmm/multiboot.h"

#include "boot/log.h"
#include "boot/string.h"

/* "OS image format": the header. */
#define HEADER_MAGIC 0x1badb002u
#define HEADER_SEARCH_BYTES 8192u
#define HEADER_FLAGS 4
#define HEADER_CHECKSUM 8
#define HEADER_ADDRESS 12
#define HEADER_LOAD_START 16
#define HEADER_LOAD_END 20
#define HEADER_BSS_END 24
#define HEADER_ENTRY 28
#define HEADER_BYTES 12u
#define HEADER_BYTES_WITH_ADDRESSES 32u
#define FLAG_PAGE_ALIGN (1u << 0) /* modules: ours always are */
#define FLAG_MEMORY (1u << 1)     /* wants the memory's size: always told */
#define FLAG_ADDRESSES (1u << 16)
#define FLAGS_REQUIRED 0xffffu /* what must be understood */

/* "Boot information format", and the lists behind it in the same page. */
#define INFO_FLAGS 0
#define INFO_MEM_LOWER 4
#define INFO_MEM_UPPER 8
#define INFO_CMDLINE 16
#define INFO_MODULE_COUNT 20
#define INFO_MODULES 24
#define INFO_MAP_BYTES 44
#define INFO_MAP 48
#define INFO_LOADER_NAME 64
#define INFO_BYTES 128
#define INFO_HAS (1u << 0 | 1u << 2 | 1u << 3 | 1u << 6 | 1u << 9)
#define MODULE_AT INFO_BYTES
#define MODULE_BYTES 16
#define NAME_AT (MODULE_AT + MODULE_BYTES)
#define NAME_BYTES 16
#define MAP_AT (NAME_AT + NAME_BYTES)
#define MAP_ENTRY_BYTES 24
#define MAP_RAM 1

#define ELF_MAGIC 0x464c457fu
#define ELF_CLASS_32 1
#define ELF_MACHINE_386 3
#define ELF_MACHINE 18
#define ELF_ENTRY 24
#define ELF_PHOFF 28
#define ELF_PHENTSIZE 42
#define ELF_PHNUM 44
#define ELF_HEADER_BYTES 52u
#define ELF_SEGMENT_BYTES 32u
#define PT_LOAD 1
#define P_OFFSET 4
#define P_PADDR 12
#define P_FILESZ 16
#define P_MEMSZ 20

static u32 get(const u8 *bytes, u64 at)
{
    u32 value;
    memcpy(&value, bytes + at, sizeof value);
    return value;
}

static u16 get_half(const u8 *bytes, u64 at)
{
    return (u16)(bytes[at] | bytes[at + 1] << 8);
}

static void set(u8 *bytes, u64 at, u64 value, size_t len_bytes)
{
    memcpy(bytes + at, &value, len_bytes);
}

/* The header's place; the file's length if there is none. */
static u64 find_header(const struct file *file)
{
    for (u64 at = 0; at + HEADER_BYTES <= file->len_bytes && at < HEADER_SEARCH_BYTES; at += 4) {
        const u8 *header = file->data + at;
        if (get(header, 0) == HEADER_MAGIC &&
            get(header, 0) + get(header, HEADER_FLAGS) + get(header, HEADER_CHECKSUM) == 0)
            return at;
    }
    return file->len_bytes;
}

bool multiboot_is_image(const struct file *file)
{
    return find_header(file) < file->len_bytes;
}

/* Where the image ends in memory; modules come above. */
struct place {
    u64 entry, end;
};

static enum error refuse(const struct guest_image *image, const struct file *kernel,
                         const char *fault)
{
    log_line("guest %s: %s %s", image->config->name, kernel->path, fault);
    return ERR_INVALID;
}

/* Bytes of the file that lie in memory as they do in the file. */
struct run {
    u64 start, offset, len_bytes;
};

/* A run's first page begins with what is in the file before it: some part of the same image. */
static enum error add(struct guest_image *image, const struct file *kernel, const struct run *run)
{
    u64 before = run->start & PAGE_MASK;
    if (run->offset > kernel->len_bytes || run->len_bytes > kernel->len_bytes - run->offset)
        return refuse(image, kernel, "is cut short");
    if (before > run->offset)
        return refuse(image, kernel, "has a part that does not start on a page");
    return guest_image_add(image, &(struct guest_piece){gpa(run->start - before),
                                                        kernel->data + run->offset - before,
                                                        run->len_bytes + before, kernel->path});
}

/* The addresses of the header, for files that are no ELF. */
static enum error load_flat(struct guest_image *image, const struct file *kernel, u64 at,
                            struct place *place)
{
    const u8 *header = kernel->data + at;
    if (at + HEADER_BYTES_WITH_ADDRESSES > kernel->len_bytes)
        return refuse(image, kernel, "is cut short: a multiboot header");
    u32 start = get(header, HEADER_LOAD_START), own = get(header, HEADER_ADDRESS);
    u32 load_end = get(header, HEADER_LOAD_END), bss_end = get(header, HEADER_BSS_END);
    if (own < start || own - start > at)
        return refuse(image, kernel,
                      "has a multiboot header whose addresses contradict each other");
    u64 offset = at - (own - start);
    u64 len = load_end ? (u64)load_end - start : kernel->len_bytes - offset;
    if (load_end && load_end < start)
        return refuse(image, kernel,
                      "has a multiboot header whose addresses contradict each other");
    place->entry = get(header, HEADER_ENTRY);
    place->end = start + len > bss_end ? start + len : bss_end;
    return add(image, kernel, &(struct run){start, offset, len});
}

/* Segments that share a page are one run; so they are in the file, as linkers write it. */
static bool run_extend(struct run *run, u64 start, u64 offset, u64 len_bytes)
{
    u64 end = run->start + run->len_bytes;
    if (start - run->start != offset - run->offset || start < end ||
        start >= align_up(end, PAGE_BYTES))
        return false;
    run->len_bytes = start + len_bytes - run->start;
    return true;
}

static enum error add_segments(struct guest_image *image, const struct file *kernel,
                               const u8 *headers, u32 count, struct place *place)
{
    struct run run = {0};
    for (u32 i = 0; i < count; i++) {
        const u8 *header = headers + i * ELF_SEGMENT_BYTES;
        u64 start = get(header, P_PADDR), offset = get(header, P_OFFSET);
        u64 len = get(header, P_FILESZ), end = start + get(header, P_MEMSZ);
        if (get(header, 0) != PT_LOAD)
            continue;
        if (end > place->end)
            place->end = end;
        if (run_extend(&run, start, offset, len))
            continue;
        enum error e = add(image, kernel, &run);
        if (e)
            return e;
        run = (struct run){start, offset, len};
    }
    return add(image, kernel, &run);
}

static enum error load_elf(struct guest_image *image, const struct file *kernel,
                           struct place *place)
{
    const u8 *data = kernel->data;
    if (kernel->len_bytes < ELF_HEADER_BYTES || data[4] != ELF_CLASS_32 ||
        get_half(data, ELF_MACHINE) != ELF_MACHINE_386)
        return refuse(image, kernel, "is no ELF of 32-bit x86, as multiboot has it");
    u64 offset = get(data, ELF_PHOFF), count = get_half(data, ELF_PHNUM);
    if (get_half(data, ELF_PHENTSIZE) != ELF_SEGMENT_BYTES || count == 0 ||
        offset > kernel->len_bytes || count * ELF_SEGMENT_BYTES > kernel->len_bytes - offset)
        return refuse(image, kernel, "has no program headers");
    place->entry = get(data, ELF_ENTRY);
    return add_segments(image, kernel, data + offset, (u32)count, place);
}

static void add_memory_map(u8 *info, u64 memory_bytes)
{
    const struct {
        u64 start, end;
    } ram[] = {{0, LAYOUT_LOW_RAM_END}, {LAYOUT_HIGH_RAM, memory_bytes}};
    for (u32 i = 0; i < ARRAY_LENGTH(ram); i++) {
        u64 at = MAP_AT + i * MAP_ENTRY_BYTES;
        set(info, at, MAP_ENTRY_BYTES - 4, 4); /* without this field */
        set(info, at + 4, ram[i].start, 8);
        set(info, at + 12, ram[i].end - ram[i].start, 8);
        set(info, at + 20, MAP_RAM, 4);
    }
    set(info, INFO_MAP, LAYOUT_BOOT_PARAMS + MAP_AT, 4);
    set(info, INFO_MAP_BYTES, ARRAY_LENGTH(ram) * MAP_ENTRY_BYTES, 4);
    set(info, INFO_MEM_LOWER, LAYOUT_LOW_RAM_END / KIB, 4);
    set(info, INFO_MEM_UPPER, (memory_bytes - LAYOUT_HIGH_RAM) / KIB, 4);
}

static enum error add_module(struct guest_image *image, const struct file *initrd,
                             const struct place *place)
{
    u8 *info = image->pages->boot_params;
    u64 top = image->config->memory_bytes;
    if (!initrd || initrd->len_bytes == 0)
        return OK;
    u64 start = align_down(top - initrd->len_bytes, PAGE_BYTES);
    if (initrd->len_bytes > top || start < place->end) {
        log_line("guest %s: memory of %llu MiB is too small for %s", image->config->name,
                 (unsigned long long)(top / MIB), initrd->path);
        return ERR_RANGE;
    }
    set(info, MODULE_AT, start, 4);
    set(info, MODULE_AT + 4, start + initrd->len_bytes, 4);
    set(info, MODULE_AT + 8, LAYOUT_COMMAND_LINE, 4);
    set(info, INFO_MODULE_COUNT, 1, 4);
    set(info, INFO_MODULES, LAYOUT_BOOT_PARAMS + MODULE_AT, 4);
    return guest_image_add(
        image, &(struct guest_piece){gpa(start), initrd->data, initrd->len_bytes, initrd->path});
}

/* The kernel's path comes first, as its name. */
static enum error add_command_line(struct guest_image *image, const struct file *kernel)
{
    char *line = (char *)image->pages->command_line;
    size_t name = strlen(kernel->path), len = strlen(image->config->cmdline);
    _Static_assert(CONFIG_PATH_BYTES + CONFIG_CMDLINE_BYTES + 1 <= PAGE_BYTES, "one page");
    memcpy(line, kernel->path, name);
    line[name] = ' ';
    memcpy(line + name + 1, image->config->cmdline, len + 1);
    return guest_image_add(image, &(struct guest_piece){gpa(LAYOUT_COMMAND_LINE),
                                                        image->pages->command_line, name + len + 2,
                                                        "the command line"});
}

static enum error add_information(struct guest_image *image, const struct file *kernel,
                                  const struct file *initrd, const struct place *place)
{
    u8 *info = image->pages->boot_params;
    set(info, INFO_FLAGS, INFO_HAS, 4);
    set(info, INFO_CMDLINE, LAYOUT_COMMAND_LINE, 4);
    set(info, INFO_LOADER_NAME, LAYOUT_BOOT_PARAMS + NAME_AT, 4);
    memcpy(info + NAME_AT, "Tain", 5);
    add_memory_map(info, image->config->memory_bytes);
    enum error e = add_command_line(image, kernel);
    if (!e)
        e = add_module(image, initrd, place);
    if (!e)
        e = guest_image_add(image, &(struct guest_piece){gpa(LAYOUT_BOOT_PARAMS), info, PAGE_BYTES,
                                                         "the multiboot information"});
    return e;
}

enum error multiboot_load(struct guest_image *image, const struct file *kernel,
                          const struct file *initrd)
{
    u64 at = find_header(kernel);
    struct place place = {0};
    u32 flags = get(kernel->data, at + HEADER_FLAGS);
    if (image->config->kind == GUEST_TD) {
        log_line("guest %s: %s is a multiboot image, which takes kind = vm", image->config->name,
                 kernel->path);
        return ERR_UNSUPPORTED;
    }
    if (flags & FLAGS_REQUIRED & ~(FLAG_PAGE_ALIGN | FLAG_MEMORY))
        return refuse(image, kernel, "asks for more than memory in its multiboot header");
    enum error e = flags & FLAG_ADDRESSES && get(kernel->data, 0) != ELF_MAGIC
                       ? load_flat(image, kernel, at, &place)
                       : load_elf(image, kernel, &place);
    if (e)
        return e;
    if (place.entry >= place.end || place.end > image->config->memory_bytes) {
        log_line("guest %s: memory of %llu MiB is too small: %s ends at %#llx, its entry is %#llx",
                 image->config->name, (unsigned long long)(image->config->memory_bytes / MIB),
                 kernel->path, (unsigned long long)place.end, (unsigned long long)place.entry);
        return ERR_RANGE;
    }
    struct shim_parameters *start = &image->pages->shim;
    start->entry = place.entry;
    start->rdi = LAYOUT_BOOT_PARAMS;
    start->flags |= SHIM_MULTIBOOT;
    return add_information(image, kernel, initrd, &place);
}
