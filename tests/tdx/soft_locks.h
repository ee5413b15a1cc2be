/* SPDX-License-Identifier: MIT */
/* A look at the software module's locks while no processor is inside it. */
#ifndef TESTS_TDX_SOFT_LOCKS_H
#define TESTS_TDX_SOFT_LOCKS_H

#include "boot/types.h"

/* The first lock that is held, of the module itself, its metadata or the TD; null if all are free.
 */
const char *soft_lock_held(u64 tdr);
/* Pages of 4 KiB that the TD's secure EPT holds: tables below the root, and what leaves map. */
u64 soft_sept_pages(u64 tdr);

#endif
