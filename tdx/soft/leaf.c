/* SPDX-License-Identifier: MIT */
#include "tdx/soft/objects.h"

#include "boot/assert.h"
#include "boot/string.h"
#include "tdx/soft/system.h"

void leaf_begin(struct leaf *leaf, struct tdx_regs *regs)
{
    leaf->regs = regs;
    leaf->version = (u32)((regs->gpr[GPR_RAX] & TDX_VERSION_MASK) >> TDX_VERSION_SHIFT);
    leaf->op_states = 0;
    leaf->is_guests = leaf->gives_way = false;
    leaf->held_count = 0;
}

bool leaf_lock(struct leaf *leaf, trylock_t *lock, enum lock_mode mode)
{
    if (mode == LOCK_NONE)
        return true;
    ASSERT(leaf->held_count < LEAF_HELD_MAX);
    bool taken = mode == LOCK_SHARED ? trylock_share(lock) : trylock_exclude(lock);
    if (!taken)
        return false;
    leaf->held[leaf->held_count].mode = mode;
    leaf->held[leaf->held_count++].lock = lock;
    return true;
}

bool sept_entry_lock(struct leaf *leaf, struct sept_walk *walk)
{
    ASSERT(leaf->held_count < LEAF_HELD_MAX);
    u64 before = atomic_fetch_or(walk->entry, SEPT_ENTRY_LOCK);
    if (before & SEPT_ENTRY_LOCK) {
        if (!leaf->is_guests)
            atomic_fetch_or(walk->entry, SEPT_ENTRY_HOST_WAITS);
        return false;
    }
    /* The flag is the VMM's to take away: until it has had its turn, a guest gets none. */
    if (leaf->is_guests && (before & SEPT_ENTRY_HOST_WAITS)) {
        atomic_fetch_and(walk->entry, ~SEPT_ENTRY_LOCK);
        leaf->gives_way = true;
        return false;
    }
    if (before & SEPT_ENTRY_HOST_WAITS)
        atomic_fetch_and(walk->entry, ~SEPT_ENTRY_HOST_WAITS);
    walk->value = sept_entry_plain(before, walk->level);
    leaf->held[leaf->held_count].mode = LOCK_NONE;
    leaf->held[leaf->held_count++].entry = walk->entry;
    return true;
}

static void release(struct leaf *leaf, u32 index)
{
    switch (leaf->held[index].mode) {
    case LOCK_SHARED:
        trylock_unshare(leaf->held[index].lock);
        break;
    case LOCK_EXCLUSIVE:
        trylock_unexclude(leaf->held[index].lock);
        break;
    case LOCK_NONE:
        atomic_fetch_and(leaf->held[index].entry, ~SEPT_ENTRY_LOCK);
        break;
    }
}

void leaf_unlock(struct leaf *leaf, trylock_t *lock)
{
    for (u32 i = leaf->held_count; i-- > 0;) {
        if (leaf->held[i].mode == LOCK_NONE || leaf->held[i].lock != lock)
            continue;
        release(leaf, i);
        for (u32 j = i + 1; j < leaf->held_count; j++)
            leaf->held[j - 1] = leaf->held[j];
        leaf->held_count--;
        return;
    }
    panic("soft: a lock is released that the leaf does not hold");
}

void leaf_unlock_all(struct leaf *leaf)
{
    while (leaf->held_count)
        release(leaf, --leaf->held_count);
}
