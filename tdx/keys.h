/* SPDX-License-Identifier: MIT */
/* KeyIDs, and the lock around the leaves that take the module's one table of them. */
#ifndef TDX_KEYS_H
#define TDX_KEYS_H

#include "boot/types.h"

/*
 * MNG.CREATE, VPFLUSHDONE, PHYMEM.CACHE.WB and KEY.FREEID answer BUSY when two processors make
 * them at once: hold this around each. RANK_KEYS.
 */
void key_table_lock(void);
void key_table_unlock(void);

u32 keys_in_use(void);
/* Forgets all: for a module that has just come up. */
void keys_reset(void);

#endif
