/* SPDX-License-Identifier: MIT */
/* The few ACPI tables of the machine that Tain reads. A damaged table is named and passed over. */
#ifndef BOOT_ACPI_H
#define BOOT_ACPI_H

#include "boot/phys.h"
#include "boot/processors.h"

/* Processors that the MADT lists as enabled; at most `maximum`. 0: no MADT, or a damaged one. */
u32 acpi_processors(hpa_t rsdp, struct processor *processors, u32 maximum);

#endif
