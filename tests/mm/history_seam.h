/* SPDX-License-Identifier: MIT */
/* What history_seam.c, in the place of the thread sanitizer's library, passes on to history.c. */
#ifndef TESTS_MM_HISTORY_SEAM_H
#define TESTS_MM_HISTORY_SEAM_H

#include "boot/types.h"

/* A plain store: it happens after this returned, and before the next of these calls. */
void seam_store_follows(const void *address);
/* Anything that is no store. */
void seam_nothing_follows(void);
/* An atomic change of the word at `address`, before and after it. */
void seam_atomic_follows(const void *address);
void seam_atomic_done(const void *address, u64 before, u64 after);

#endif
