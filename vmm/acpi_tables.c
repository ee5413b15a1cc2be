/* SPDX-License-Identifier: MIT */
#include "vmm/acpi_tables.h"

#include "boot/string.h"
#include "vmm/layout.h"

#define HEADER_BYTES 36
#define RSDP_BYTES 36
#define RSDP_V1_BYTES 20
#define FADT_BYTES 276
#define MADT_LAPIC 0
#define MADT_IOAPIC 1
#define MADT_WAKEUP 16
#define TABLE_ALIGN 16

/* "Fixed ACPI Description Table (FADT)": offsets of the fields that are not 0. */
#define FADT_IAPC_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_MINOR_VERSION 131
#define FADT_X_DSDT 140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS 256
#define FADT_FLAG_WBINVD (1u << 0)
#define FADT_FLAG_HW_REDUCED (1u << 20)
#define BOOT_ARCH_NO_VGA (1u << 2)
#define BOOT_ARCH_NO_RTC (1u << 5)

/* Generic address structure. */
#define GAS_SYSTEM_IO 1

/*
 * The DSDT's byte code. Each package length counts itself and all that follows in its block;
 * all are below 64, so that one byte says them.
 */
static const u8 dsdt_code[] = {
    /* Name (\_S5, Package (4) {5, 5, 0, 0}) */
    0x08, '\\', '_', 'S', '5', '_', /* NameOp, \_S5_ */
    0x12, 8, 4,                     /* PackageOp, length, elements */
    0x0a, ACPI_SLEEP_TYPE_OFF,      /* byte 5 */
    0x0a, ACPI_SLEEP_TYPE_OFF,      /* byte 5 */
    0x00, 0x00,                     /* 0, 0 */
    /* Scope (\_SB) */
    0x10, 57, '\\', '_', 'S', 'B', '_', /* ScopeOp, length */
    /* Device (COM1) */
    0x5b, 0x82, 49, 'C', 'O', 'M', '1', /* DeviceOp, length */
    /* Name (_HID, EisaId ("PNP0501")) */
    0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01,
    /* Name (_UID, 0) */
    0x08, '_', 'U', 'I', 'D', 0x00,
    /* Name (_CRS, ResourceTemplate ()) */
    0x08, '_', 'C', 'R', 'S', 0x11, 22, 0x0a, 19, /* BufferOp, length, byte 19 */
    /* IO (Decode16, 0x3f8, 0x3f8, 1, 8) */
    0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08,
    /* Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {4} */
    0x89, 0x06, 0x00, 0x03, 0x01, 0x04, 0x00, 0x00, 0x00, 0x79, 0x00, /* end tag */
};

/* Where the next byte goes; `overflow` stays set once something did not fit. */
struct writer {
    u8 *out;
    size_t at, limit;
    gpa_t address;
    bool overflow;
};

static void put(struct writer *w, u64 value, size_t len_bytes)
{
    if (w->at + len_bytes > w->limit) {
        w->overflow = true;
        return;
    }
    for (size_t i = 0; i < len_bytes; i++)
        w->out[w->at++] = (u8)(value >> (8 * i));
}

static void put_text(struct writer *w, const char *text, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes; i++)
        put(w, (u8)text[i], 1);
}

static void put_zeros_until(struct writer *w, size_t end)
{
    while (w->at < end && !w->overflow)
        put(w, 0, 1);
}

/* Sets a field of what is written already. */
static void set(struct writer *w, size_t at, u64 value, size_t len_bytes)
{
    if (w->overflow || at + len_bytes > w->at)
        return;
    for (size_t i = 0; i < len_bytes; i++)
        w->out[at + i] = (u8)(value >> (8 * i));
}

/* Makes the bytes [start, start + len) sum up to 0 by the byte at `checksum_at`. */
static void set_checksum(struct writer *w, size_t start, size_t len_bytes, size_t checksum_at)
{
    u8 sum = 0;
    if (w->overflow)
        return;
    w->out[checksum_at] = 0;
    for (size_t i = 0; i < len_bytes; i++)
        sum = (u8)(sum + w->out[start + i]);
    w->out[checksum_at] = (u8)-sum;
}

static size_t table_begin(struct writer *w, const char signature[4], u8 revision)
{
    put_zeros_until(w, align_up(w->at, TABLE_ALIGN));
    size_t start = w->at;
    put_text(w, signature, 4);
    put(w, 0, 4); /* length */
    put(w, revision, 1);
    put(w, 0, 1); /* checksum */
    put_text(w, "TAIN  ", 6);
    put_text(w, "TAIN TD ", 8);
    put(w, 1, 4); /* OEM revision */
    put_text(w, "TAIN", 4);
    put(w, 1, 4); /* creator revision */
    return start;
}

static void table_end(struct writer *w, size_t start)
{
    set(w, start + 4, w->at - start, 4);
    set_checksum(w, start, w->at - start, start + 9);
}

static size_t put_dsdt(struct writer *w)
{
    size_t start = table_begin(w, "DSDT", 2);
    put_text(w, (const char *)dsdt_code, sizeof dsdt_code);
    table_end(w, start);
    return start;
}

static void set_sleep_register(struct writer *w, size_t at, u16 port)
{
    set(w, at, GAS_SYSTEM_IO, 1);
    set(w, at + 1, 8, 1); /* bits wide */
    set(w, at + 3, 1, 1); /* byte access */
    set(w, at + 4, port, 8);
}

static size_t put_fadt(struct writer *w, size_t dsdt)
{
    size_t start = table_begin(w, "FACP", 6);
    put_zeros_until(w, start + FADT_BYTES);
    set(w, start + FADT_IAPC_BOOT_ARCH, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_RTC, 2);
    set(w, start + FADT_FLAGS, FADT_FLAG_WBINVD | FADT_FLAG_HW_REDUCED, 4);
    set(w, start + FADT_MINOR_VERSION, 0, 1);
    set(w, start + FADT_X_DSDT, w->address.raw + dsdt, 8);
    set_sleep_register(w, start + FADT_SLEEP_CONTROL, ACPI_SLEEP_CONTROL);
    set_sleep_register(w, start + FADT_SLEEP_STATUS, ACPI_SLEEP_STATUS);
    table_end(w, start);
    return start;
}

/* Multiprocessor wakeup structure */
static void put_wakeup(struct writer *w)
{
    put(w, MADT_WAKEUP, 1);
    put(w, 16, 1);
    put(w, 0, 2); /* mailbox version */
    put(w, 0, 4);
    put(w, LAYOUT_MAILBOX, 8);
}

static size_t put_madt(struct writer *w, u32 vcpus, enum acpi_start others)
{
    size_t start = table_begin(w, "APIC", 5);
    put(w, 0xfee00000, 4); /* the local APICs' address; they are in x2APIC mode */
    put(w, 0, 4);          /* no PICs */
    for (u32 i = 0; i < vcpus; i++) {
        put(w, MADT_LAPIC, 1);
        put(w, 8, 1);
        put(w, i, 1); /* processor UID */
        put(w, i, 1); /* APIC id */
        put(w, 1, 4); /* enabled */
    }
    put(w, MADT_IOAPIC, 1);
    put(w, 12, 1);
    put(w, 0, 2); /* id */
    put(w, LAYOUT_IOAPIC, 4);
    put(w, 0, 4); /* first interrupt */
    /* Nobody to wake: no mailbox. (Linux writes to this structure, and then finds the sum wrong.)
     */
    if (vcpus > 1 && others == ACPI_START_BY_MAILBOX)
        put_wakeup(w);
    table_end(w, start);
    return start;
}

static size_t put_xsdt(struct writer *w, size_t fadt, size_t madt)
{
    size_t start = table_begin(w, "XSDT", 1);
    put(w, w->address.raw + fadt, 8);
    put(w, w->address.raw + madt, 8);
    table_end(w, start);
    return start;
}

/* The space for the RSDP is at the start already. */
static void set_rsdp(struct writer *w, size_t xsdt)
{
    if (w->overflow)
        return;
    memcpy(w->out, "RSD PTR ", 8);
    memcpy(w->out + 9, "TAIN  ", 6);
    set(w, 15, 2, 1); /* revision */
    set(w, 20, RSDP_BYTES, 4);
    set(w, 24, w->address.raw + xsdt, 8);
    set_checksum(w, 0, RSDP_V1_BYTES, 8);
    set_checksum(w, 0, RSDP_BYTES, 32);
}

enum error acpi_tables_build(gpa_t address, u32 vcpus, enum acpi_start start, u8 *out,
                             size_t out_bytes)
{
    struct writer w = {.out = out, .limit = out_bytes, .address = address};
    put_zeros_until(&w, RSDP_BYTES);
    size_t dsdt = put_dsdt(&w);
    size_t fadt = put_fadt(&w, dsdt);
    size_t madt = put_madt(&w, vcpus, start);
    size_t xsdt = put_xsdt(&w, fadt, madt);
    set_rsdp(&w, xsdt);
    return w.overflow ? ERR_RANGE : OK;
}
