/* SPDX-License-Identifier: MIT */
/* MSI-X of one PCI function: its table, its pending bits, and who may send. */
#ifndef VMM_MSIX_H
#define VMM_MSIX_H

#include "boot/types.h"
#include "vmm/device.h"

#define MSIX_VECTORS_MAX 4u
#define MSIX_ENTRY_BYTES 16u

/* Message Control, of the capability. */
#define MSIX_CONTROL_ENABLE 0x8000u
#define MSIX_CONTROL_MASK 0x4000u

struct msix {
    const struct device_host *host;
    u32 vectors;
    u16 control;
    u32 pending; /* bit a vector */
    struct msix_entry {
        u32 words[MSIX_ENTRY_BYTES / sizeof(u32)]; /* address low and high, data, control */
    } table[MSIX_VECTORS_MAX];
};

void msix_init(struct msix *msix, const struct device_host *host, u32 vectors);
static inline bool msix_is_enabled(const struct msix *msix)
{
    return msix->control & MSIX_CONTROL_ENABLE;
}
/* Now, or once the vector is unmasked; a vector that there is not is none. */
void msix_send(struct msix *msix, u32 vector);
void msix_set_control(struct msix *msix, u16 control);

/* Offsets are from the start of the table, or of the pending bits; words of 4 bytes alone. */
u32 msix_table_read(const struct msix *msix, u32 offset, u32 size);
void msix_table_write(struct msix *msix, u32 offset, u32 size, u32 value);
u32 msix_pending_read(const struct msix *msix, u32 offset, u32 size);

#endif
