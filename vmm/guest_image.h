/* SPDX-License-Identifier: MIT */
/*
 * What a guest's memory holds before it starts: a list of pieces, in the order in which they are
 * measured. Pages that no piece names are absent, and zero once the guest accepts them.
 */
#ifndef VMM_GUEST_IMAGE_H
#define VMM_GUEST_IMAGE_H

#include "boot/config.h"
#include "boot/machine.h"
#include "vmm/layout.h"
#include "vmm/shim.h"

struct guest_piece {
    gpa_t start;     /* page aligned */
    const u8 *bytes; /* stay the owner's; any alignment */
    u64 len_bytes;   /* the rest of the last page is zero */
    const char *what;
};

#define GUEST_PIECES_MAX 24

/* The pages that are made, not loaded from a file. Zeroed by its owner. */
struct guest_pages {
    u8 boot_params[PAGE_BYTES];
    u8 command_line[PAGE_BYTES];
    u8 acpi[LAYOUT_ACPI_BYTES];
    u8 mailbox[PAGE_BYTES];
    u64 page_tables[LAYOUT_PAGE_TABLES_COUNT][TABLE_ENTRIES];
    u8 stack[PAGE_BYTES];
    union {
        struct shim_parameters shim;
        u8 shim_page[PAGE_BYTES];
    };
};
_Static_assert(sizeof(struct guest_pages) % PAGE_BYTES == 0, "whole pages");

struct guest_image {
    const struct guest_config *config;
    struct guest_pages *pages;
    struct guest_piece pieces[GUEST_PIECES_MAX];
    u32 count;
};

/* By its name: *.bin. */
bool guest_image_is_flat(const struct guest_config *config);

/* Adds a piece. ERR_RANGE: outside the guest's memory; ERR_EXISTS: overlaps another. Logged. */
enum error guest_image_add(struct guest_image *image, const struct guest_piece *piece);
u64 guest_image_bytes(const struct guest_image *image);

/*
 * Fills `image` for image->config: kernel, initrd, command line, tables, shim. `gpa_shared` is the
 * SHARED bit; 0 for a VM. What is wrong with a file is named in one line (ERR_INVALID, ERR_RANGE).
 */
enum error guest_image_build(struct guest_image *image, gpa_t gpa_shared);

#endif
