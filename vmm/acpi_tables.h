/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables of a guest: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT. Just enough for a
 * headless Linux: processors, I/O APIC, the serial port's interrupt, power-off.
 */
#ifndef VMM_ACPI_TABLES_H
#define VMM_ACPI_TABLES_H

#include "boot/error.h"
#include "boot/types.h"

/* I/O ports of the sleep registers, and what a guest writes to switch itself off. */
#define ACPI_SLEEP_CONTROL 0x600
#define ACPI_SLEEP_STATUS 0x601
#define ACPI_SLEEP_TYPE_OFF 5
#define ACPI_SLEEP_TYPE_SHIFT 2
#define ACPI_SLEEP_ENABLE (1u << 5)

/* How processors other than the first are started. */
enum acpi_start {
    ACPI_START_BY_INIT,
    ACPI_START_BY_MAILBOX, /* "Multiprocessor Wakeup Structure" */
};

/*
 * Writes the tables for `vcpus` processors to `out`, which the guest will find at `address`; the
 * RSDP stands at its start. ERR_RANGE: they do not fit.
 */
enum error acpi_tables_build(gpa_t address, u32 vcpus, enum acpi_start start, u8 *out,
                             size_t out_bytes);

#endif
