/* SPDX-License-Identifier: MIT */
/*
 * The UEFI application: reads tain.cfg, loads what it names, asks the firmware about memory,
 * processors and tables, and leaves boot services. The only file that sees GNU-EFI.
 */
#include <efi.h>

#include "boot/efi.h"

#include "boot/arena.h"
#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/paging.h"
#include "boot/power.h"
#include "boot/string.h"
#include "boot/symbols.h"
#include "boot/x86.h"

#define EXIT_STATUS_BAD_INPUT 2
#define EXIT_STATUS_FIRMWARE 3
#define LOW_MEMORY_END 0xfffffull
#define TABLES_BELOW 0xffffffffull /* the trampoline loads CR3 in 32-bit mode */
#define CONFIG_BYTES_MAX 65536u
#define FILE_CHUNK_BYTES (4 * MIB)

static EFI_BOOT_SERVICES *boot_services;
static EFI_RUNTIME_SERVICES *runtime_services;
static struct firmware firmware;

static EFI_GUID guid_loaded_image = EFI_LOADED_IMAGE_PROTOCOL_GUID;
static EFI_GUID guid_file_system = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
static EFI_GUID guid_file_info = EFI_FILE_INFO_ID;
static EFI_GUID guid_acpi_20 = ACPI_20_TABLE_GUID;
static EFI_GUID guid_mp_services = {
    0x3fdda605, 0xa76e, 0x4f46, {0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08}};

/* PI specification, "MP Services Protocol": what of it is used here. */
struct mp_processor_info {
    u64 id;
    u32 status; /* bit 1: enabled */
    u32 package, core, thread;
    u32 extended[8];
};
struct mp_services {
    EFI_STATUS(EFIAPI *count)(struct mp_services *, UINTN *all, UINTN *enabled);
    EFI_STATUS(EFIAPI *info)(struct mp_services *, UINTN index, struct mp_processor_info *);
};
#define MP_ENABLED (1u << 1)

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system_table);

void efi_shutdown(void)
{
    runtime_services->ResetSystem(EfiResetShutdown, EFI_SUCCESS, 0, NULL);
}

__attribute__((noreturn)) static void give_up(int status)
{
    log_line("boot: no guest was started");
    power_off(status);
}

static void *pages_from_firmware(u64 count, u64 below)
{
    EFI_PHYSICAL_ADDRESS address = below;
    if (EFI_ERROR(
            boot_services->AllocatePages(AllocateMaxAddress, EfiLoaderData, count, &address))) {
        log_line("boot: the firmware has no %llu pages below 0x%llx", (unsigned long long)count,
                 (unsigned long long)below);
        give_up(EXIT_STATUS_FIRMWARE);
    }
    return (void *)address;
}

static EFI_FILE_HANDLE volume_open(EFI_HANDLE image)
{
    EFI_LOADED_IMAGE *loaded;
    EFI_FILE_IO_INTERFACE *file_system;
    EFI_FILE_HANDLE root;
    if (EFI_ERROR(boot_services->HandleProtocol(image, &guid_loaded_image, (void **)&loaded)) ||
        EFI_ERROR(boot_services->HandleProtocol(loaded->DeviceHandle, &guid_file_system,
                                                (void **)&file_system)) ||
        EFI_ERROR(file_system->OpenVolume(file_system, &root))) {
        log_line("boot: the volume that Tain came from cannot be opened");
        give_up(EXIT_STATUS_FIRMWARE);
    }
    return root;
}

/* Null if there is no such file. */
static EFI_FILE_HANDLE file_open(EFI_FILE_HANDLE root, const char *path)
{
    CHAR16 name[CONFIG_PATH_BYTES];
    EFI_FILE_HANDLE file;
    u32 i = 0;
    for (; path[i] && i < CONFIG_PATH_BYTES - 1; i++)
        name[i] = path[i] == '/' ? L'\\' : (CHAR16)path[i];
    name[i] = 0;
    if (EFI_ERROR(root->Open(root, &file, name, EFI_FILE_MODE_READ, 0)))
        return NULL;
    return file;
}

static bool file_is_readable(EFI_FILE_HANDLE file, u64 *len_bytes)
{
    static u8 buffer[1024];
    UINTN bytes = sizeof buffer;
    if (EFI_ERROR(file->GetInfo(file, &guid_file_info, &bytes, buffer)))
        return false;
    const EFI_FILE_INFO *info = (const EFI_FILE_INFO *)buffer;
    *len_bytes = info->FileSize;
    return !(info->Attribute & EFI_FILE_DIRECTORY);
}

static bool file_read(EFI_FILE_HANDLE file, u8 *out, u64 len_bytes)
{
    while (len_bytes) {
        UINTN chunk = len_bytes < FILE_CHUNK_BYTES ? len_bytes : FILE_CHUNK_BYTES;
        if (EFI_ERROR(file->Read(file, &chunk, out)) || chunk == 0)
            return false;
        out += chunk;
        len_bytes -= chunk;
    }
    return true;
}

static void config_load(EFI_FILE_HANDLE root)
{
    static char text[CONFIG_BYTES_MAX];
    char message[CONFIG_MESSAGE_BYTES];
    u64 len_bytes;
    EFI_FILE_HANDLE file = file_open(root, "tain.cfg");
    if (!file || !file_is_readable(file, &len_bytes)) {
        log_line("boot: there is no tain.cfg in the root of the volume");
        give_up(EXIT_STATUS_BAD_INPUT);
    }
    if (len_bytes > CONFIG_BYTES_MAX || !file_read(file, (u8 *)text, len_bytes)) {
        log_line("boot: tain.cfg cannot be read, or is longer than %u bytes", CONFIG_BYTES_MAX);
        give_up(EXIT_STATUS_BAD_INPUT);
    }
    if (config_parse(text, len_bytes, &firmware.machine.config, message)) {
        log_line("%s", message);
        give_up(EXIT_STATUS_BAD_INPUT);
    }
}

/* Loads the file unless another guest named it too. */
static void file_load(EFI_FILE_HANDLE root, const char *path, u32 config_line)
{
    struct machine *m = &firmware.machine;
    for (u32 i = 0; i < m->file_count; i++)
        if (strcmp(m->files[i].path, path) == 0)
            return;
    u64 len_bytes = 0;
    EFI_FILE_HANDLE file = file_open(root, path);
    if (!file || !file_is_readable(file, &len_bytes) || len_bytes == 0) {
        log_line("tain.cfg:%u: file '%s': expected a file of the boot volume that is not empty",
                 config_line, path);
        give_up(EXIT_STATUS_BAD_INPUT);
    }
    u8 *data = pages_from_firmware(align_up(len_bytes, PAGE_BYTES) / PAGE_BYTES, ~0ull);
    memset(data + align_down(len_bytes, PAGE_BYTES), 0,
           align_up(len_bytes, PAGE_BYTES) - align_down(len_bytes, PAGE_BYTES));
    if (!file_read(file, data, len_bytes)) {
        log_line("boot: file '%s' cannot be read", path);
        give_up(EXIT_STATUS_BAD_INPUT);
    }
    struct file *entry = &m->files[m->file_count++];
    memcpy(entry->path, path, strlen(path) + 1);
    entry->data = data;
    entry->len_bytes = len_bytes;
    file->Close(file);
}

static void files_load(EFI_FILE_HANDLE root)
{
    const struct config *config = &firmware.machine.config;
    for (u32 i = 0; i < config->guest_count; i++) {
        file_load(root, config->guests[i].kernel, config->guests[i].line);
        if (config->guests[i].initrd[0])
            file_load(root, config->guests[i].initrd, config->guests[i].line);
    }
}

static void rsdp_find(EFI_SYSTEM_TABLE *system_table)
{
    firmware.machine.rsdp = HPA_NONE;
    for (UINTN i = 0; i < system_table->NumberOfTableEntries; i++) {
        EFI_CONFIGURATION_TABLE *table = &system_table->ConfigurationTable[i];
        if (memcmp(&table->VendorGuid, &guid_acpi_20, sizeof guid_acpi_20) == 0)
            firmware.machine.rsdp = hpa((u64)table->VendorTable);
    }
}

static void processors_list(void)
{
    struct mp_services *mp;
    UINTN all, enabled;
    if (EFI_ERROR(boot_services->LocateProtocol(&guid_mp_services, NULL, (void **)&mp)) ||
        EFI_ERROR(mp->count(mp, &all, &enabled)))
        return;
    for (UINTN i = 0; i < all && firmware.processor_count < ARRAY_LENGTH(firmware.processors);
         i++) {
        struct mp_processor_info info;
        if (EFI_ERROR(mp->info(mp, i, &info)) || !(info.status & MP_ENABLED))
            continue;
        firmware.processors[firmware.processor_count++] =
            (struct processor){.apic_id = (u32)info.id, .package = info.package};
    }
}

static enum memory_kind memory_kind_of(u32 efi_type)
{
    switch (efi_type) {
    case EfiConventionalMemory:
    case EfiBootServicesCode:
    case EfiBootServicesData:
        return MEMORY_FREE;
    case EfiLoaderCode:
    case EfiLoaderData:
        return MEMORY_TAIN;
    case EfiMemoryMappedIO:
    case EfiMemoryMappedIOPortSpace:
        return MEMORY_DEVICE;
    default:
        return MEMORY_FIRMWARE;
    }
}

/* Fills machine.ranges from the firmware's present map; the map's key is for ExitBootServices. */
static EFI_STATUS memory_map_read(UINTN *key)
{
    static u8 buffer[65536];
    UINTN bytes = sizeof buffer, descriptor_bytes;
    UINT32 version;
    EFI_STATUS status = boot_services->GetMemoryMap(&bytes, (EFI_MEMORY_DESCRIPTOR *)buffer, key,
                                                    &descriptor_bytes, &version);
    if (EFI_ERROR(status))
        return status;
    firmware.machine.range_count = 0;
    for (UINTN at = 0; at + descriptor_bytes <= bytes; at += descriptor_bytes) {
        const EFI_MEMORY_DESCRIPTOR *d = (const EFI_MEMORY_DESCRIPTOR *)(buffer + at);
        if (!machine_add_range(&firmware.machine, d->PhysicalStart,
                               d->PhysicalStart + d->NumberOfPages * PAGE_BYTES,
                               memory_kind_of(d->Type)))
            return EFI_OUT_OF_RESOURCES;
    }
    return EFI_SUCCESS;
}

/* One block for page tables, stacks and the like, sized by what the machine has. */
static void arena_take(void)
{
    UINTN key;
    if (EFI_ERROR(memory_map_read(&key))) {
        log_line("boot: the firmware's memory map cannot be read, or has over %u ranges",
                 MEMORY_RANGES_MAX);
        give_up(EXIT_STATUS_FIRMWARE);
    }
    u32 processors = firmware.processor_count ? firmware.processor_count : CPU_MAX;
    u64 pages = paging_pages_needed(&firmware.machine) + cpu_pages_needed(processors) +
                CPU_STACK_PAGES + 16;
    arena_init(pages_from_firmware(pages, TABLES_BELOW), pages);
}

static void boot_services_exit(EFI_HANDLE image)
{
    /* The map may change between reading it and leaving: then the key is stale, once. */
    for (u32 tries = 0; tries < 4; tries++) {
        UINTN key;
        if (!EFI_ERROR(memory_map_read(&key)) &&
            !EFI_ERROR(boot_services->ExitBootServices(image, key)))
            return;
    }
    log_line("boot: the firmware does not let go of boot services");
    give_up(EXIT_STATUS_FIRMWARE);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system_table)
{
    boot_services = system_table->BootServices;
    runtime_services = system_table->RuntimeServices;
    wrmsr(MSR_GS_BASE, (u64)cpu_at(0));
    cpu_at(0)->self = cpu_at(0);
    console_init();
    log_line("\r\ntain: a VMM for Intel TDX"); /* the firmware leaves the line unfinished */
    log_line("boot: image at 0x%llx", (unsigned long long)(u64)ImageBase); /* for debuggers */
    if (cr4_read() & CR4_LA57) {
        /* It cannot be left without leaving 64-bit mode, and our tables have four levels. */
        log_line("boot: the firmware runs with 5-level paging: switch it off in its set-up");
        give_up(EXIT_STATUS_FIRMWARE);
    }
    EFI_FILE_HANDLE root = volume_open(image);
    config_load(root);
    files_load(root);
    rsdp_find(system_table);
    processors_list();
    firmware.trampoline_page = pages_from_firmware(1, LOW_MEMORY_END);
    arena_take();
    boot_services_exit(image);
    interrupts_disable();
    start_take_over(&firmware);
}
