/* SPDX-License-Identifier: MIT */
/* Names of code addresses; the table is made from the linked image itself (Makefile). */
#ifndef BOOT_SYMBOLS_H
#define BOOT_SYMBOLS_H

#include "boot/types.h"

/* One function: its start relative to the image's base, and where its name stands in the text. */
struct symbol {
    u32 offset;
    u32 name;
};

extern const struct symbol symbol_table[]; /* ascending */
extern const u32 symbol_count;
extern const char symbol_names[];

/* The image's first byte in memory. */
extern const u8 ImageBase[];

/* The function that holds `address`, and how far in; null if the address is not in the image. */
const char *symbol_find(u64 address, u64 *offset_bytes);

#endif
