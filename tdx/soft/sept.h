/* SPDX-License-Identifier: MIT */
/* The secure EPT's state machine and what the memory leaves share. */
#ifndef TDX_SOFT_SEPT_H
#define TDX_SOFT_SEPT_H

#include "tdx/soft/objects.h"

enum sept_event {
    SEPT_EVENT_ADD_TABLE,
    SEPT_EVENT_ADD,
    SEPT_EVENT_AUG,
    SEPT_EVENT_ACCEPT,
    SEPT_EVENT_BLOCK,
    SEPT_EVENT_UNBLOCK,
    SEPT_EVENT_REMOVE,
    SEPT_EVENT_REMOVE_TABLE,
    SEPT_EVENT_RELOCATE,
    SEPT_EVENT_DEMOTE,
    SEPT_EVENT_PROMOTE,
};

/* False if the state has no such edge. */
bool sept_state_after(enum sept_state from, enum sept_event event, enum sept_state *to);
bool sept_state_is_blocked(enum sept_state state);
bool sept_state_is_pending(enum sept_state state);
bool sept_state_is_table(enum sept_state state);

/* One call of a memory leaf: operands as they came, and what they led to. */
struct mem_call {
    struct leaf *leaf;
    u64 rcx, rdx;
    struct td td;
    struct sept_walk walk;
    enum sept_state next; /* state after the leaf's event */
};

/* What a leaf accepts as RCX and how it walks. */
struct mem_shape {
    u32 level_min, level_max;
    enum lock_mode tree;
};
#define LEVEL_ROOT 5 /* level_max: whatever the root's is */

/* RCX and RDX are taken and cleared. */
void mem_begin(struct mem_call *call, struct leaf *leaf);
/* Version 1 of a leaf that frees a table: there are no L2 tables beside it. */
void mem_clear_l2_pages(struct leaf *leaf);
/* TDR shared, STATE, page information, tree lock, walk, entry lock. */
u64 mem_lock_entry(struct mem_call *call, struct mem_shape shape);
u64 mem_check_operand(const struct mem_call *call, struct mem_shape shape);
/* The entry's event is allowed, or EPT_ENTRY_STATE_INCORRECT. */
u64 mem_check_event(struct mem_call *call, enum sept_event event);
/* `code|RCX` with the entry in RCX and RDX. */
u64 mem_entry_error(const struct mem_call *call, enum tdx_status_code code);
/* Blocked and tracked, where the TD's state demands that. `owned` is what the entry points at. */
u64 mem_check_tracked(const struct mem_call *call, const struct pamt_entry *owned);
/* No vCPU can have its translation any more; the checker is told of what is missing. */
bool mem_is_tracked(const struct mem_call *call, const struct pamt_entry *owned);
bool epoch_is_past(const struct tdcs *tdcs, u64 epoch);
/* The PAMT entry of what the entry points at: its page or its table; null if locked. */
struct pamt_entry *mem_lock_owned(const struct mem_call *call, enum lock_mode mode);

void sept_table_fill_free(u64 table);

#endif
