/* SPDX-License-Identifier: MIT */
#include "boot/acpi.h"

#include "boot/log.h"
#include "boot/string.h"

struct __attribute__((packed)) rsdp {
    char signature[8];
    u8 checksum;
    char oem[6];
    u8 revision;
    u32 rsdt;
    u32 len_bytes;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
};

struct __attribute__((packed)) table {
    char signature[4];
    u32 len_bytes;
    u8 revision, checksum;
    char oem[6], oem_table[8];
    u32 oem_revision, creator, creator_revision;
};

struct __attribute__((packed)) madt {
    struct table table;
    u32 lapic_address, flags;
    u8 entries[];
};

#define TABLE_BYTES_MAX MIB
#define MADT_LAPIC 0
#define MADT_X2APIC 9
#define MADT_ENABLED 1u

static bool sums_to_zero(const void *data, u32 len_bytes)
{
    u8 sum = 0;
    for (u32 i = 0; i < len_bytes; i++)
        sum = (u8)(sum + ((const u8 *)data)[i]);
    return sum == 0;
}

static const struct table *table_at(u64 address, const char *signature)
{
    const struct table *table = phys_to_virt(hpa(address));
    if (address == 0 || memcmp(table->signature, signature, 4) != 0)
        return NULL;
    if (table->len_bytes < sizeof *table || table->len_bytes > TABLE_BYTES_MAX ||
        !sums_to_zero(table, table->len_bytes)) {
        log_line("acpi: table %.*s at 0x%llx is damaged (length %u or checksum): not used", 4,
                 signature, (unsigned long long)address, table->len_bytes);
        return NULL;
    }
    return table;
}

static const struct madt *madt_find(hpa_t rsdp_address)
{
    const struct rsdp *rsdp = phys_to_virt(rsdp_address);
    if (memcmp(rsdp->signature, "RSD PTR ", 8) != 0 || !sums_to_zero(rsdp, 20)) {
        log_line("acpi: RSDP at 0x%llx is damaged: not used", (unsigned long long)rsdp_address.raw);
        return NULL;
    }
    u32 entry_bytes = rsdp->revision >= 2 && rsdp->xsdt ? 8 : 4;
    const struct table *root =
        entry_bytes == 8 ? table_at(rsdp->xsdt, "XSDT") : table_at(rsdp->rsdt, "RSDT");
    if (!root)
        return NULL;
    const u8 *entry = (const u8 *)(root + 1);
    for (u32 left = root->len_bytes - (u32)sizeof *root; left >= entry_bytes; left -= entry_bytes) {
        u64 address = 0;
        memcpy(&address, entry, entry_bytes);
        const struct table *madt = table_at(address, "APIC");
        if (madt && madt->len_bytes >= sizeof(struct madt))
            return (const struct madt *)madt;
        entry += entry_bytes;
    }
    return NULL;
}

static bool entry_processor(const u8 *entry, u8 len, struct processor *processor)
{
    u32 flags = 0;
    if (entry[0] == MADT_LAPIC && len >= 8) {
        processor->apic_id = entry[3];
        memcpy(&flags, entry + 4, 4);
    } else if (entry[0] == MADT_X2APIC && len >= 16) {
        memcpy(&processor->apic_id, entry + 4, 4);
        memcpy(&flags, entry + 8, 4);
    }
    return (flags & MADT_ENABLED) != 0;
}

u32 acpi_processors(hpa_t rsdp, struct processor *processors, u32 maximum)
{
    const struct madt *madt = hpa_is_none(rsdp) ? NULL : madt_find(rsdp);
    if (!madt)
        return 0;
    u32 count = 0, left = madt->table.len_bytes - (u32)sizeof *madt;
    const u8 *entry = madt->entries;
    for (; left >= 2; left -= entry[1], entry += entry[1]) {
        struct processor processor = {0};
        if (entry[1] < 2 || entry[1] > left) {
            log_line("acpi: MADT entry of type %u has length %u of %u left: not used", entry[0],
                     entry[1], left);
            return 0;
        }
        if (entry_processor(entry, entry[1], &processor) && count < maximum)
            processors[count++] = processor;
        if (entry[1] == left)
            break;
    }
    return count;
}
