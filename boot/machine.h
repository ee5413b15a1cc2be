/* SPDX-License-Identifier: MIT */
/*
 * What the firmware told us: memory, files, processors, tables. Filled by boot/efi.c before boot
 * services end; constant afterwards.
 */
#ifndef BOOT_MACHINE_H
#define BOOT_MACHINE_H

#include "boot/config.h"
#include "boot/types.h"

enum memory_kind {
    MEMORY_FREE,     /* ours to use */
    MEMORY_TAIN,     /* our image, tables, stacks, the loaded files */
    MEMORY_FIRMWARE, /* ACPI tables, runtime services: readable, never given away */
    MEMORY_DEVICE,
};

struct memory_range {
    u64 start; /* bytes, page aligned, [start, end) */
    u64 end;
    enum memory_kind kind;
};

#define MEMORY_RANGES_MAX 512
#define FILES_MAX 32

/* A file that tain.cfg names, loaded whole. */
struct file {
    char path[CONFIG_PATH_BYTES];
    const u8 *data; /* contiguous, page aligned */
    u64 len_bytes;
};

struct machine {
    struct memory_range ranges[MEMORY_RANGES_MAX]; /* ascending, disjoint */
    u32 range_count;
    struct file files[FILES_MAX];
    u32 file_count;
    hpa_t rsdp; /* HPA_NONE: no ACPI */
    u64 tsc_hz;
    u32 physical_address_bits;
    struct config config;
};

const struct machine *machine(void);

/* For boot/ alone, while the machine is being described. False: too many ranges. */
void machine_set(const struct machine *machine);
bool machine_add_range(struct machine *machine, u64 start, u64 end, enum memory_kind kind);

/* Null if tain.cfg named no such file. */
const struct file *machine_file(const char *path);

#endif
