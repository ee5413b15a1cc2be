/* SPDX-License-Identifier: MIT */
/*
 * Page tables of Tain's own address spaces: identity maps of physical memory. The VMM has one,
 * the software TDX module has another. (Guests' tables are mm/'s.)
 *
 * In strict mode a page that was given to the TDX module is hidden in the VMM's map: touching it
 * is a page fault that names it. Free memory is mapped in pages of 2 MiB, which are split where one
 * of 4 KiB is hidden. Other processors may keep a stale translation until their next exit; that
 * can only miss a bug, never make one.
 */
#ifndef BOOT_PAGING_H
#define BOOT_PAGING_H

#include "boot/machine.h"

/* Arena pages that paging_build needs. */
u64 paging_pages_needed(const struct machine *machine);
/* Builds both maps from the arena; does not load them. */
void paging_build(const struct machine *machine);

/* The CR3 of an identity map of all memory, made at boot for the VMM or for the annex. */
hpa_t paging_vmm_root(void);
hpa_t paging_annex_root(void);

bool paging_is_strict(void);
/*
 * No-ops where the map is not strict. Each page has one owner who hides and shows it: no lock.
 * A page of 2 MiB may be shown in pages of 4 KiB, and the other way round.
 */
void paging_hide_page(hpa_t page, enum level level);
void paging_show_page(hpa_t page, enum level level);
bool paging_page_is_hidden(hpa_t page);
/*
 * Implemented by tdx/: what a hidden page is, to us and to the module, and which TD's; one phrase
 * for the line that tells of a touch.
 */
#define HIDDEN_PAGE_TEXT_BYTES 160
void hidden_page_describe(hpa_t page, char *text, size_t text_bytes);

#endif
