/* SPDX-License-Identifier: MIT */
/*
 * The checker: counts, and names, what a VMM may do wrong for long before Intel's module punishes
 * it. No answer changes. tdx/abi/soft_rules.def has the rules; MD_SYS_SOFT_RULES tells the counts.
 *
 * Caches, in words: what a TD's page held is in them under the TD's KeyID (the global one for a TDR
 * and for a PAMT pair) until it is written back, and may land on whatever is there by then. So a
 * page that leaves a TD by REMOVE, RELOCATE or PROMOTE, a TDR that is reclaimed and a pair that
 * comes back want PHYMEM.PAGE.WBINVD under that KeyID before anything else is done with them;
 * CACHE.WB on each package does it for all pages of a KeyID. The checker remembers such pages, and
 * one word of each of their cache lines.
 *
 * What no software can see, and this one does not claim to: lines of the VMM's own (KeyID 0) that
 * are dirty when a page is given, which CLFLUSH_BEFORE_ALLOC is about; the host tests of the driver
 * look at that. A read by the VMM is not seen either.
 *
 * Any processor at any time; no lock. With very many unwritten pages at once some are not
 * remembered: a breach may be missed, none is made up.
 */
#ifndef TDX_SOFT_CHECKER_H
#define TDX_SOFT_CHECKER_H

#include "tdx/soft/objects.h"

void checker_reset(void);

/* Counts a breach by `what` (a page, a vCPU, a KeyID), with one line; of many, only the first. */
void checker_report(enum soft_rule rule, const char *what, ...)
    __attribute__((format(printf, 2, 3)));
/* True if the id is one of MD_SYS_SOFT_RULES and the checker is on. */
bool checker_field(u64 id, u64 *count);

/* A page of that level is the VMM's again, and in the caches under the KeyID. */
void checker_page_released(u64 page, u32 level, u32 keyid);
void checker_page_written_back(u64 page, u32 keyid);
/* The VMM gives it (4 KiB). */
void checker_page_given(u64 page);
/* Nothing is in any cache under the KeyID any more. */
void checker_key_freed(u32 keyid);

#endif
