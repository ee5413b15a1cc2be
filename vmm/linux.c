/* SPDX-License-Identifier: MIT */
/*
 * Linux's x86 boot protocol ("The Linux/x86 Boot Protocol", "64-bit Boot Protocol"): which fields
 * of the set-up header we check, and which fields of struct boot_params we fill.
 */
#include "vmm/linux.h"

#include "boot/log.h"
#include "boot/string.h"

/* Offsets in the file's first sectors, and equally in boot_params. */
#define SETUP_SECTS 0x1f1
#define SETUP_BOOT_FLAG 0x1fe
#define SETUP_JUMP 0x200
#define SETUP_MAGIC 0x202
#define SETUP_VERSION 0x206
#define SETUP_LOADER 0x210
#define SETUP_LOADFLAGS 0x211
#define SETUP_RAMDISK_IMAGE 0x218
#define SETUP_RAMDISK_SIZE 0x21c
#define SETUP_CMD_LINE 0x228
#define SETUP_INITRD_MAX 0x22c
#define SETUP_ALIGNMENT 0x230
#define SETUP_XLOADFLAGS 0x236
#define SETUP_CMDLINE_SIZE 0x238
#define SETUP_PREFERRED 0x258
#define SETUP_INIT_SIZE 0x260
#define SETUP_HEADER_LIMIT 0x280

/* Offsets in boot_params alone. */
#define PARAMS_ACPI_RSDP 0x070
#define PARAMS_E820_COUNT 0x1e8
#define PARAMS_E820 0x2d0
#define E820_ENTRY_BYTES 20
#define E820_RAM 1
#define E820_ACPI 3
#define E820_NVS 4

#define MAGIC_HDRS 0x53726448u
#define BOOT_FLAG 0xaa55
#define VERSION_MIN 0x20c /* the first with xloadflags */
#define VERSION_OURS 0x20f
#define LOADER_UNDEFINED 0xff
#define LOADFLAG_HIGH (1u << 0)
#define XLOADFLAG_64 (1u << 0)
#define ENTRY_64_OFFSET 0x200
#define SECTOR_BYTES 512
/* What an uncompressed kernel may use beyond its segments before it reads the memory map. */
#define ELF_SLACK_BYTES (4 * MIB)
#define ELF_INITRD_MAX 0x7fffffffull

#define ELF_MAGIC 0x464c457fu
#define ELF_CLASS_64 2
#define ELF_MACHINE_X86_64 62
#define ELF_ENTRY 24
#define ELF_PHOFF 32
#define ELF_MACHINE 18
#define ELF_PHENTSIZE 54
#define ELF_PHNUM 56
#define ELF_HEADER_BYTES 64
#define ELF_SEGMENT_BYTES 56
#define ELF_SEGMENTS_MAX 12
#define PT_LOAD 1
#define P_OFFSET 8
#define P_PADDR 24
#define P_FILESZ 32
#define P_MEMSZ 40

/* A number of `len_bytes` at any alignment; the caller has checked that it is there. */
static u64 get(const u8 *bytes, u64 at, size_t len_bytes)
{
    u64 value = 0;
    memcpy(&value, bytes + at, len_bytes);
    return value;
}

static void set(u8 *bytes, u64 at, u64 value, size_t len_bytes)
{
    memcpy(bytes + at, &value, len_bytes);
}

/* The kernel's place in memory: it uses [start, end) before it knows the memory map. */
struct kernel_place {
    u64 start, end;
    u64 initrd_max; /* the highest address an initrd's last byte may have */
};

static void e820_add(u8 *params, u64 start, u64 end, u32 type)
{
    if (end <= start)
        return;
    u8 count = params[PARAMS_E820_COUNT]++;
    u8 *entry = params + PARAMS_E820 + count * E820_ENTRY_BYTES;
    set(entry, 0, start, 8);
    set(entry, 8, end - start, 8);
    set(entry, 16, type, 4);
}

static void describe_memory(u8 *params, u64 memory_bytes)
{
    e820_add(params, 0, LAYOUT_LOW_RAM_END, E820_RAM);
    e820_add(params, LAYOUT_ACPI, LAYOUT_ACPI + LAYOUT_ACPI_BYTES, E820_ACPI);
    e820_add(params, LAYOUT_MAILBOX, LAYOUT_MAILBOX + PAGE_BYTES, E820_NVS);
    e820_add(params, LAYOUT_HIGH_RAM, memory_bytes, E820_RAM);
}

static enum error add_initrd(struct guest_image *image, const struct file *initrd,
                             const struct kernel_place *place)
{
    const struct guest_config *config = image->config;
    if (!initrd || initrd->len_bytes == 0)
        return OK;
    u64 top = config->memory_bytes;
    if (top - 1 > place->initrd_max)
        top = align_down(place->initrd_max + 1, PAGE_BYTES);
    if (place->end > top || initrd->len_bytes > top - place->end) {
        log_line("guest %s: memory of %llu MiB is too small for %s (%llu KiB) above the kernel, "
                 "which ends at %llu MiB",
                 config->name, (unsigned long long)(config->memory_bytes / MIB), initrd->path,
                 (unsigned long long)(initrd->len_bytes / KIB),
                 (unsigned long long)(align_up(place->end, MIB) / MIB));
        return ERR_RANGE;
    }
    u64 start = align_down(top - initrd->len_bytes, PAGE_BYTES);
    if (start < place->end) {
        log_line("guest %s: no room for %s above the kernel", config->name, initrd->path);
        return ERR_RANGE;
    }
    set(image->pages->boot_params, SETUP_RAMDISK_IMAGE, start, 4);
    set(image->pages->boot_params, SETUP_RAMDISK_SIZE, initrd->len_bytes, 4);
    return guest_image_add(
        image, &(struct guest_piece){gpa(start), initrd->data, initrd->len_bytes, initrd->path});
}

static enum error add_command_line(struct guest_image *image, u64 limit_bytes)
{
    const char *text = image->config->cmdline;
    size_t len = strlen(text);
    if (len > limit_bytes) {
        log_line("guest %s: the command line of %llu characters is longer than the kernel's %llu",
                 image->config->name, (unsigned long long)len, (unsigned long long)limit_bytes);
        return ERR_INVALID;
    }
    memcpy(image->pages->command_line, text, len + 1);
    set(image->pages->boot_params, SETUP_CMD_LINE, LAYOUT_COMMAND_LINE, 4);
    return guest_image_add(image, &(struct guest_piece){gpa(LAYOUT_COMMAND_LINE),
                                                        image->pages->command_line, len + 1,
                                                        "the command line"});
}

/* What is the same for every form of kernel, once its set-up header is in boot_params. */
static enum error finish(struct guest_image *image, const struct file *kernel,
                         const struct file *initrd, const struct kernel_place *place)
{
    const struct guest_config *config = image->config;
    u8 *params = image->pages->boot_params;
    if (place->end > config->memory_bytes) {
        log_line("guest %s: memory of %llu MiB is too small: %s needs %llu MiB to start",
                 config->name, (unsigned long long)(config->memory_bytes / MIB), kernel->path,
                 (unsigned long long)(align_up(place->end, MIB) / MIB));
        return ERR_RANGE;
    }
    params[SETUP_LOADER] = LOADER_UNDEFINED;
    set(params, PARAMS_ACPI_RSDP, LAYOUT_ACPI, 8);
    describe_memory(params, config->memory_bytes);
    enum error e = add_command_line(image, get(params, SETUP_CMDLINE_SIZE, 4));
    if (!e)
        e = add_initrd(image, initrd, place);
    if (!e)
        e = guest_image_add(image, &(struct guest_piece){gpa(LAYOUT_BOOT_PARAMS), params,
                                                         PAGE_BYTES, "the boot parameters"});
    image->pages->shim.rsi = LAYOUT_BOOT_PARAMS;
    image->pages->shim.flags |= SHIM_ACCEPT_MEMORY;
    return e;
}

/* Says what is wrong with the file; null if nothing. */
static const char *bzimage_fault(const struct file *file)
{
    const u8 *data = file->data;
    if (file->len_bytes < SETUP_HEADER_LIMIT)
        return "is no bzImage: shorter than a set-up header";
    if (get(data, SETUP_BOOT_FLAG, 2) != BOOT_FLAG)
        return "is no bzImage: no 0xaa55 at 0x1fe";
    if (get(data, SETUP_MAGIC, 4) != MAGIC_HDRS)
        return "is no bzImage: no HdrS at 0x202";
    if (get(data, SETUP_VERSION, 2) < VERSION_MIN)
        return "is too old a bzImage: boot protocol before 2.12";
    if (!(get(data, SETUP_XLOADFLAGS, 2) & XLOADFLAG_64))
        return "has no 64-bit entry (xloadflags bit 0)";
    if (!(data[SETUP_LOADFLAGS] & LOADFLAG_HIGH))
        return "is no bzImage: it wants to be loaded low";
    u64 setup_bytes = (1ull + (data[SETUP_SECTS] ? data[SETUP_SECTS] : 4)) * SECTOR_BYTES;
    if (file->len_bytes <= setup_bytes + ENTRY_64_OFFSET)
        return "is cut short: nothing behind its set-up sectors";
    u64 preferred = get(data, SETUP_PREFERRED, 8);
    if (!is_aligned(preferred, PAGE_BYTES) || preferred < LAYOUT_HIGH_RAM ||
        preferred >= LAYOUT_MEMORY_MAX)
        return "has a preferred address that is no page between 1 MiB and 2 GiB";
    if (file->len_bytes - setup_bytes > get(data, SETUP_INIT_SIZE, 4))
        return "says in init_size less than it is long";
    return NULL;
}

enum error linux_load_bzimage(struct guest_image *image, const struct file *kernel,
                              const struct file *initrd)
{
    const u8 *data = kernel->data;
    const char *fault = bzimage_fault(kernel);
    if (fault) {
        log_line("guest %s: %s %s", image->config->name, kernel->path, fault);
        return ERR_INVALID;
    }
    u64 setup_bytes = (1ull + (data[SETUP_SECTS] ? data[SETUP_SECTS] : 4)) * SECTOR_BYTES;
    struct kernel_place place = {
        .start = get(data, SETUP_PREFERRED, 8),
        .initrd_max = get(data, SETUP_INITRD_MAX, 4),
    };
    place.end = align_up(place.start + get(data, SETUP_INIT_SIZE, 4), PAGE_BYTES);

    /* The header ends where the jump at its second field leads. */
    u64 header_end = SETUP_MAGIC + data[SETUP_JUMP + 1];
    if (header_end > SETUP_HEADER_LIMIT)
        header_end = SETUP_HEADER_LIMIT;
    memcpy(image->pages->boot_params + SETUP_SECTS, data + SETUP_SECTS, header_end - SETUP_SECTS);
    image->pages->shim.entry = place.start + ENTRY_64_OFFSET;
    enum error e = guest_image_add(
        image, &(struct guest_piece){gpa(place.start), data + setup_bytes,
                                     kernel->len_bytes - setup_bytes, kernel->path});
    return e ? e : finish(image, kernel, initrd, &place);
}

bool linux_is_elf(const struct file *file)
{
    return file->len_bytes >= 4 && get(file->data, 0, 4) == ELF_MAGIC;
}

static const char *elf_fault(const struct file *file)
{
    const u8 *data = file->data;
    if (file->len_bytes < ELF_HEADER_BYTES)
        return "is cut short: no ELF header";
    if (data[4] != ELF_CLASS_64 || get(data, ELF_MACHINE, 2) != ELF_MACHINE_X86_64)
        return "is no ELF of 64-bit x86";
    u64 offset = get(data, ELF_PHOFF, 8), count = get(data, ELF_PHNUM, 2);
    if (get(data, ELF_PHENTSIZE, 2) != ELF_SEGMENT_BYTES || count == 0)
        return "has no program headers";
    if (offset > file->len_bytes || count * ELF_SEGMENT_BYTES > file->len_bytes - offset)
        return "is cut short: program headers outside the file";
    return NULL;
}

static const char *segment_fault(const struct file *file, const u8 *header)
{
    u64 offset = get(header, P_OFFSET, 8), len = get(header, P_FILESZ, 8);
    u64 start = get(header, P_PADDR, 8), memory = get(header, P_MEMSZ, 8);
    if (offset > file->len_bytes || len > file->len_bytes - offset)
        return "is cut short: a segment outside the file";
    if (!is_aligned(start, PAGE_BYTES))
        return "has a segment that does not start on a page";
    if (start < LAYOUT_HIGH_RAM || start >= LAYOUT_MEMORY_MAX || memory > LAYOUT_MEMORY_MAX)
        return "has a segment outside 1 MiB to 2 GiB";
    if (len > memory)
        return "has a segment longer in the file than in memory";
    return NULL;
}

/* Adds every PT_LOAD and finds the place they take together. */
static enum error add_segments(struct guest_image *image, const struct file *kernel,
                               struct kernel_place *place)
{
    const u8 *headers = kernel->data + get(kernel->data, ELF_PHOFF, 8);
    u64 count = get(kernel->data, ELF_PHNUM, 2);
    u32 loaded = 0;
    for (u64 i = 0; i < count; i++) {
        const u8 *header = headers + i * ELF_SEGMENT_BYTES;
        if (get(header, 0, 4) != PT_LOAD)
            continue;
        const char *fault =
            loaded++ == ELF_SEGMENTS_MAX ? "has too many segments" : segment_fault(kernel, header);
        if (fault) {
            log_line("guest %s: %s %s", image->config->name, kernel->path, fault);
            return ERR_INVALID;
        }
        u64 start = get(header, P_PADDR, 8), end = start + get(header, P_MEMSZ, 8);
        enum error e = guest_image_add(
            image, &(struct guest_piece){gpa(start), kernel->data + get(header, P_OFFSET, 8),
                                         get(header, P_FILESZ, 8), kernel->path});
        if (e)
            return e;
        if (start < place->start)
            place->start = start;
        if (end > place->end)
            place->end = end;
    }
    return OK;
}

/* An ELF file has no set-up header: the one that its bzImage would have is made here. */
static void make_setup_header(u8 *params)
{
    set(params, SETUP_BOOT_FLAG, BOOT_FLAG, 2);
    set(params, SETUP_MAGIC, MAGIC_HDRS, 4);
    set(params, SETUP_VERSION, VERSION_OURS, 2);
    params[SETUP_LOADFLAGS] = LOADFLAG_HIGH;
    set(params, SETUP_ALIGNMENT, 2 * MIB, 4);
    set(params, SETUP_CMDLINE_SIZE, CONFIG_CMDLINE_BYTES - 1, 4);
    set(params, SETUP_INITRD_MAX, ELF_INITRD_MAX, 4);
}

enum error linux_load_elf(struct guest_image *image, const struct file *kernel,
                          const struct file *initrd)
{
    struct kernel_place place = {.start = LAYOUT_MEMORY_MAX, .initrd_max = ELF_INITRD_MAX};
    const char *fault = elf_fault(kernel);
    if (fault) {
        log_line("guest %s: %s %s", image->config->name, kernel->path, fault);
        return ERR_INVALID;
    }
    enum error e = add_segments(image, kernel, &place);
    if (e)
        return e;
    u64 entry = get(kernel->data, ELF_ENTRY, 8);
    if (entry < place.start || entry >= place.end) {
        log_line("guest %s: %s has its entry %#llx outside its segments", image->config->name,
                 kernel->path, (unsigned long long)entry);
        return ERR_INVALID;
    }
    place.end = align_up(place.end + ELF_SLACK_BYTES, PAGE_BYTES);
    make_setup_header(image->pages->boot_params);
    image->pages->shim.entry = entry;
    return finish(image, kernel, initrd, &place);
}
