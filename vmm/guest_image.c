/* SPDX-License-Identifier: MIT */
#include "vmm/guest_image.h"

#include "boot/log.h"
#include "boot/string.h"
#include "vmm/acpi_tables.h"
#include "vmm/linux.h"
#include "vmm/multiboot.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY (1ull << 6)
#define PTE_LARGE (1ull << 7)

static u64 piece_end(const struct guest_piece *piece)
{
    return align_up(piece->start.raw + piece->len_bytes, PAGE_BYTES);
}

static bool piece_fits(const struct guest_image *image, const struct guest_piece *piece)
{
    u64 start = piece->start.raw, len = piece->len_bytes;
    u64 memory = image->config->memory_bytes;
    if (start >= LAYOUT_FIRMWARE)
        return len <= LAYOUT_FIRMWARE_END - start;
    return start <= memory && len <= memory - start;
}

enum error guest_image_add(struct guest_image *image, const struct guest_piece *piece)
{
    const char *name = image->config->name;
    if (piece->len_bytes == 0)
        return OK;
    if (!piece_fits(image, piece)) {
        log_line("guest %s: %s (%llu bytes at %#llx) does not fit into %llu MiB of memory", name,
                 piece->what, (unsigned long long)piece->len_bytes,
                 (unsigned long long)piece->start.raw,
                 (unsigned long long)(image->config->memory_bytes / MIB));
        return ERR_RANGE;
    }
    for (u32 i = 0; i < image->count; i++) {
        const struct guest_piece *other = &image->pieces[i];
        if (piece->start.raw < piece_end(other) && other->start.raw < piece_end(piece)) {
            log_line("guest %s: %s (%llu bytes at %#llx) overlaps %s", name, piece->what,
                     (unsigned long long)piece->len_bytes, (unsigned long long)piece->start.raw,
                     other->what);
            return ERR_EXISTS;
        }
    }
    if (image->count == GUEST_PIECES_MAX) {
        log_line("guest %s: more than %u pieces of initial memory", name, GUEST_PIECES_MAX);
        return ERR_RANGE;
    }
    image->pieces[image->count++] = *piece;
    return OK;
}

u64 guest_image_bytes(const struct guest_image *image)
{
    u64 sum = 0;
    for (u32 i = 0; i < image->count; i++)
        sum += piece_end(&image->pieces[i]) - image->pieces[i].start.raw;
    return sum;
}

/* An identity map of 4 GiB in pages of 2 MiB. */
static void build_page_tables(struct guest_pages *pages)
{
    const u64 table = PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
    pages->page_tables[0][0] = (LAYOUT_PAGE_TABLES + PAGE_BYTES) | table;
    for (u32 gib = 0; gib < 4; gib++) {
        pages->page_tables[1][gib] = (LAYOUT_PAGE_TABLES + (2 + gib) * PAGE_BYTES) | table;
        for (u32 i = 0; i < TABLE_ENTRIES; i++)
            pages->page_tables[2 + gib][i] =
                (gib * GIB + i * 2 * MIB) | table | PTE_DIRTY | PTE_LARGE;
    }
}

/* What every guest has, whatever its kernel is. */
static enum error add_firmware(struct guest_image *image)
{
    struct guest_pages *pages = image->pages;
    pages->shim.page_tables = LAYOUT_PAGE_TABLES;
    pages->shim.memory_bytes = image->config->memory_bytes;
    pages->shim.rsp = LAYOUT_STACK_TOP;
    pages->shim.mailbox = LAYOUT_MAILBOX;
    build_page_tables(pages);
    enum acpi_start start =
        image->config->kind == GUEST_TD ? ACPI_START_BY_MAILBOX : ACPI_START_BY_INIT;
    enum error e = acpi_tables_build(gpa(LAYOUT_ACPI), image->config->vcpus, start, pages->acpi,
                                     sizeof pages->acpi);
    if (e) {
        log_line("guest %s: the ACPI tables of %u vCPUs do not fit into a page",
                 image->config->name, image->config->vcpus);
        return e;
    }
    const struct guest_piece pieces[] = {
        {gpa(LAYOUT_ACPI), pages->acpi, sizeof pages->acpi, "the ACPI tables"},
        {gpa(LAYOUT_MAILBOX), pages->mailbox, sizeof pages->mailbox, "the wake-up mailbox"},
        {gpa(LAYOUT_PAGE_TABLES), (const u8 *)pages->page_tables, sizeof pages->page_tables,
         "the shim's page tables"},
        {gpa(LAYOUT_STACK), pages->stack, sizeof pages->stack, "the shim's stack"},
        {gpa(LAYOUT_SHIM_PARAMETERS), pages->shim_page, sizeof pages->shim_page,
         "the shim's parameters"},
        {gpa(LAYOUT_SHIM), shim_image, sizeof shim_image, "the boot shim"},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(pieces) && !e; i++)
        e = guest_image_add(image, &pieces[i]);
    return e;
}

bool guest_image_is_flat(const struct guest_config *config)
{
    size_t len = strlen(config->kernel);
    return len > 4 && strcmp(config->kernel + len - 4, ".bin") == 0;
}

/* A test's small guest: told how much memory there is, and left to accept it. */
static enum error load_flat(struct guest_image *image, const struct file *kernel, gpa_t gpa_shared)
{
    struct shim_parameters *shim = &image->pages->shim;
    shim->entry = LAYOUT_FLAT_IMAGE;
    shim->rdi = gpa_shared.raw;
    shim->rsi = image->config->memory_bytes;
    if (kernel->len_bytes == 0) {
        log_line("guest %s: %s is empty", image->config->name, kernel->path);
        return ERR_INVALID;
    }
    return guest_image_add(image, &(struct guest_piece){gpa(LAYOUT_FLAT_IMAGE), kernel->data,
                                                        kernel->len_bytes, kernel->path});
}

static enum error find_file(const struct guest_config *config, const char *path,
                            const struct file **file)
{
    *file = NULL;
    if (!path[0])
        return OK;
    *file = machine_file(path);
    if (*file)
        return OK;
    log_line("guest %s: %s was not loaded", config->name, path);
    return ERR_NOT_FOUND;
}

enum error guest_image_build(struct guest_image *image, gpa_t gpa_shared)
{
    const struct guest_config *config = image->config;
    const struct file *kernel, *initrd;
    image->count = 0;
    enum error e = find_file(config, config->kernel, &kernel);
    if (!e)
        e = find_file(config, config->initrd, &initrd);
    if (e)
        return e;
    if (!kernel) {
        log_line("guest %s: tain.cfg names no kernel", config->name);
        return ERR_INVALID;
    }
    e = add_firmware(image);
    if (e)
        return e;
    if (guest_image_is_flat(config))
        return load_flat(image, kernel, gpa_shared);
    if (multiboot_is_image(kernel))
        return multiboot_load(image, kernel, initrd);
    if (linux_is_elf(kernel))
        return linux_load_elf(image, kernel, initrd);
    return linux_load_bzimage(image, kernel, initrd);
}
