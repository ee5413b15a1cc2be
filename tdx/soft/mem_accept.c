/* SPDX-License-Identifier: MIT */
/* The module's part of TDG.MEM.PAGE.ACCEPT: a pending page becomes the guest's. */
#include "tdx/soft/sept.h"

#include "boot/string.h"

enum sept_accept sept_accept(struct leaf *leaf, const struct td *td, u64 address, u32 level,
                             struct sept_walk *walk)
{
    bool is_found = sept_walk(td, address, level, walk);
    enum sept_state state = sept_entry_state(walk->value), next;
    if (!is_found)
        return state == SEPT_MAPPED ? SEPT_ACCEPT_ALREADY : SEPT_ACCEPT_FAULT;
    if (!sept_entry_lock(leaf, walk))
        return SEPT_ACCEPT_BUSY;
    state = sept_entry_state(walk->value);
    if (sept_state_is_table(state))
        return SEPT_ACCEPT_SIZE_MISMATCH;
    if (state == SEPT_MAPPED)
        return SEPT_ACCEPT_ALREADY;
    if (!sept_state_after(state, SEPT_EVENT_ACCEPT, &next))
        return SEPT_ACCEPT_FAULT;
    u64 page = sept_entry_address(walk->value);
    u32 pages = 1u << TABLE_SHIFT * level;
    for (u32 i = sept_entry_progress(walk); i < pages; i++) {
        memset(seam_page(page + i * PAGE_BYTES), 0, PAGE_BYTES);
        /* Only after a page, so that each execution of the guest's gets on. */
        if (i + 1 < pages && seam_guest_is_interrupted()) {
            sept_entry_set_progress(walk, i + 1);
            return SEPT_ACCEPT_INTERRUPTED;
        }
    }
    sept_entry_set(walk, sept_entry_leaf(page, next));
    return SEPT_ACCEPT_DONE;
}
