/* SPDX-License-Identifier: MIT */
#include "tdx/keys.h"

#include "boot/assert.h"
#include "boot/lock.h"
#include "boot/log.h"
#include "boot/string.h"
#include "tdx/module.h"

#define KEYIDS_MAX 2048
#define WORD_BITS 64

static struct lock lock = LOCK_INIT(RANK_KEYS, "keys");
static u64 used[KEYIDS_MAX / WORD_BITS]; /* lock; bit n: KeyID hkid_first + n */
static u32 used_count;                   /* lock */

void key_table_lock(void)
{
    lock_take(&lock);
}
void key_table_unlock(void)
{
    lock_release(&lock);
}

void keys_reset(void)
{
    lock_take(&lock);
    memset(used, 0, sizeof used);
    used_count = 0;
    lock_release(&lock);
}

u32 keys_in_use(void)
{
    lock_take(&lock);
    u32 count = used_count;
    lock_release(&lock);
    return count;
}

enum error tdx_key_allocate(u16 *hkid)
{
    const struct tdx_module *module = tdx_module();
    enum error error = ERR_NO_MEMORY;
    lock_take(&lock);
    /* The first one is the module's own. */
    for (u32 n = 1; n < module->hkid_count && n < KEYIDS_MAX; n++) {
        u64 bit = 1ull << n % WORD_BITS;
        if (used[n / WORD_BITS] & bit)
            continue;
        used[n / WORD_BITS] |= bit;
        used_count++;
        *hkid = (u16)(module->hkid_first + n);
        error = OK;
        break;
    }
    lock_release(&lock);
    if (error)
        log_line("tdx: all %u KeyIDs are in use", module->hkid_count - 1u);
    return error;
}

void tdx_key_free(u16 hkid)
{
    u32 n = (u32)hkid - tdx_module()->hkid_first;
    ASSERT(n > 0 && n < tdx_module()->hkid_count);
    u64 bit = 1ull << n % WORD_BITS;
    lock_take(&lock);
    ASSERT(used[n / WORD_BITS] & bit);
    used[n / WORD_BITS] &= ~bit;
    used_count--;
    lock_release(&lock);
}
