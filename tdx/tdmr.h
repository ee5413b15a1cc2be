/* SPDX-License-Identifier: MIT */
/*
 * TDMRs: which memory the module may take pages from, and where it keeps what it knows of each
 * page (the PAMTs). A TDMR is a whole number of GiB; what in it is not for the module lies in
 * its reserved areas.
 */
#ifndef TDX_TDMR_H
#define TDX_TDMR_H

#include "boot/error.h"
#include "tdx/abi/abi.h"
#include "tdx/spans.h"

#define TDMRS_MAX 64
#define PAMT_SIZES 3 /* 4 KiB, 2 MiB, 1 GiB */

/* What SYS.RD says of them. */
struct tdmr_limits {
    u32 tdmrs;
    u32 reserved_per_tdmr;
    u64 pamt_entry_bytes[PAMT_SIZES];
    u64 pamt_bitmap_bits; /* Dynamic PAMT: bits a 4 KiB page, in place of entries; else 0 */
};

struct tdmr_plan {
    struct span_list convertible; /* the CMRs, joined where they touch */
    struct span_list usable;      /* free memory that is convertible, PAMTs included */
    struct tdmr_info tdmrs[TDMRS_MAX];
    struct {
        hpa_t first; /* of all three PAMTs of the TDMR, one after the other */
        u64 pages;
    } pamts[TDMRS_MAX];
    u32 count;
    /* Convertible pages: in a TDMR and not reserved; reserved; in no TDMR. */
    u64 given_pages, reserved_pages, left_pages;
    u64 pamt_pages;
};

/*
 * From plan->convertible and machine(): chooses the TDMRs, allocates their PAMTs (PAGE_PAMT),
 * fills in the reserved areas and the sums. On error nothing stays allocated, and one line says
 * what does not fit.
 */
enum error tdmr_plan_make(struct tdmr_plan *plan, const struct tdmr_limits *limits);
/* Gives the PAMTs back to the allocator. */
void tdmr_plan_release(struct tdmr_plan *plan);

#endif
