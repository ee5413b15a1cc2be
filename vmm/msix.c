/* SPDX-License-Identifier: MIT */
#include "vmm/msix.h"

#define WORD_ADDRESS_LOW 0
#define WORD_ADDRESS_HIGH 1
#define WORD_DATA 2
#define WORD_CONTROL 3
#define ENTRY_MASKED 1u

void msix_init(struct msix *msix, const struct device_host *host, u32 vectors)
{
    *msix = (struct msix){.host = host, .vectors = vectors};
    for (u32 i = 0; i < vectors; i++)
        msix->table[i].words[WORD_CONTROL] = ENTRY_MASKED;
}

static bool vector_is_masked(const struct msix *msix, u32 vector)
{
    return (msix->control & MSIX_CONTROL_MASK) ||
           (msix->table[vector].words[WORD_CONTROL] & ENTRY_MASKED);
}

/* Sends what waits and may go. */
static void vectors_try(struct msix *msix)
{
    if (!msix_is_enabled(msix))
        return;
    for (u32 i = 0; i < msix->vectors; i++) {
        const u32 *words = msix->table[i].words;
        if (!(msix->pending & 1u << i) || vector_is_masked(msix, i))
            continue;
        msix->pending &= ~(1u << i);
        msix->host->msi(msix->host->context,
                        (u64)words[WORD_ADDRESS_HIGH] << 32 | words[WORD_ADDRESS_LOW],
                        words[WORD_DATA]);
    }
}

void msix_send(struct msix *msix, u32 vector)
{
    if (vector >= msix->vectors)
        return;
    msix->pending |= 1u << vector;
    vectors_try(msix);
}

void msix_set_control(struct msix *msix, u16 control)
{
    msix->control = control;
    if (!msix_is_enabled(msix))
        msix->pending = 0;
    vectors_try(msix);
}

static bool is_table_word(const struct msix *msix, u32 offset, u32 size)
{
    return size == sizeof(u32) && is_aligned(offset, sizeof(u32)) &&
           offset < msix->vectors * MSIX_ENTRY_BYTES;
}

u32 msix_table_read(const struct msix *msix, u32 offset, u32 size)
{
    if (!is_table_word(msix, offset, size))
        return 0;
    return msix->table[offset / MSIX_ENTRY_BYTES].words[offset % MSIX_ENTRY_BYTES / sizeof(u32)];
}

void msix_table_write(struct msix *msix, u32 offset, u32 size, u32 value)
{
    if (!is_table_word(msix, offset, size))
        return;
    u32 word = offset % MSIX_ENTRY_BYTES / sizeof(u32);
    msix->table[offset / MSIX_ENTRY_BYTES].words[word] =
        word == WORD_CONTROL ? value & ENTRY_MASKED : value;
    vectors_try(msix);
}

u32 msix_pending_read(const struct msix *msix, u32 offset, u32 size)
{
    return offset == 0 && size == sizeof(u32) ? msix->pending : 0;
}
