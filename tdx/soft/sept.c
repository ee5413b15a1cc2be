/* SPDX-License-Identifier: MIT */
#include "tdx/soft/sept.h"

#include "boot/assert.h"
#include "tdx/soft/system.h"

#define ENTRY_RWX 7ull
#define ENTRY_WRITE_BACK (6ull << 3)
#define ENTRY_IGNORE_PAT (1ull << 6)
#define ENTRY_LEAF (1ull << 7) /* at 4 KiB, too, where the processor ignores it */
#define ENTRY_SUPPRESS_VE (1ull << 63)
#define ENTRY_FIELD_SHIFT 53
#define ENTRY_FIELD_MASK (0xfull << ENTRY_FIELD_SHIFT)
/* While a 2 MiB page is being accepted: how many of its 4 KiB are zero by now. */
#define ENTRY_PROGRESS_SHIFT PAGE_SHIFT
#define ENTRY_PROGRESS_MASK (511ull << ENTRY_PROGRESS_SHIFT)
#define ENTRY_LEAF_FORM (ENTRY_WRITE_BACK | ENTRY_IGNORE_PAT | ENTRY_LEAF | ENTRY_SUPPRESS_VE)

enum sept_shape {
    SHAPE_EMPTY,
    SHAPE_LEAF,
    SHAPE_TABLE,
};

static const struct {
    enum sept_state state;
    enum sept_shape shape;
    u64 field, rwx;
} states[] = {
#define SEPT_STATE(state, shape, field, rwx) {state, shape, field, rwx},
#include "tdx/soft/sept.def"
#undef SEPT_STATE
};

static const struct {
    enum sept_state from;
    enum sept_event event;
    enum sept_state to;
} edges[] = {
#define SEPT_STATE(state, shape, field, rwx)
#define SEPT_EDGE(from, event, to) {from, event, to},
#include "tdx/soft/sept.def"
#undef SEPT_EDGE
#undef SEPT_STATE
};

bool sept_state_after(enum sept_state from, enum sept_event event, enum sept_state *to)
{
    for (u32 i = 0; i < ARRAY_LENGTH(edges); i++) {
        if (edges[i].from != from || edges[i].event != event)
            continue;
        *to = edges[i].to;
        return true;
    }
    return false;
}

static u32 state_row(enum sept_state state)
{
    for (u32 i = 0; i < ARRAY_LENGTH(states); i++)
        if (states[i].state == state)
            return i;
    panic("soft: no secure EPT state %u", state);
}

enum sept_state sept_entry_state(u64 value)
{
    u64 field = (value & ENTRY_FIELD_MASK) >> ENTRY_FIELD_SHIFT;
    bool is_leaf = value & ENTRY_LEAF;
    for (u32 i = 0; i < ARRAY_LENGTH(states); i++)
        if (states[i].field == field && (states[i].shape == SHAPE_LEAF) == is_leaf)
            return states[i].state;
    panic("soft: a secure EPT entry was overwritten: %#llx", (unsigned long long)value);
}

bool sept_state_is_leaf(enum sept_state state)
{
    return states[state_row(state)].shape == SHAPE_LEAF;
}

bool sept_state_is_table(enum sept_state state)
{
    return states[state_row(state)].shape == SHAPE_TABLE;
}

bool sept_state_is_blocked(enum sept_state state)
{
    return state == SEPT_BLOCKED || state == SEPT_PENDING_BLOCKED || state == SEPT_NL_BLOCKED;
}

bool sept_state_is_pending(enum sept_state state)
{
    return state == SEPT_PENDING || state == SEPT_PENDING_BLOCKED;
}

u64 sept_entry_address(u64 value)
{
    return value & TDX_ADDRESS_MASK;
}

static bool entry_has_progress(u64 value, u32 level)
{
    return level == LEVEL_2M && sept_entry_state(value) == SEPT_PENDING;
}

u64 sept_entry_plain(u64 value, u32 level)
{
    value &= ~SEPT_ENTRY_LOCKING;
    return entry_has_progress(value, level) ? value & ~ENTRY_PROGRESS_MASK : value;
}

u32 sept_entry_progress(const struct sept_walk *walk)
{
    u64 value = *walk->entry & ~SEPT_ENTRY_LOCKING;
    if (!entry_has_progress(value, walk->level))
        return 0;
    return (u32)((value & ENTRY_PROGRESS_MASK) >> ENTRY_PROGRESS_SHIFT);
}

static u64 entry_make(u64 form, u64 address, enum sept_state state)
{
    u32 row = state_row(state);
    return form | address | states[row].rwx | states[row].field << ENTRY_FIELD_SHIFT;
}

u64 sept_entry_leaf(u64 page, enum sept_state state)
{
    return entry_make(ENTRY_LEAF_FORM, page, state);
}

u64 sept_entry_table(u64 table, enum sept_state state)
{
    return entry_make(ENTRY_SUPPRESS_VE, table, state);
}

u64 sept_entry_abi(u64 value)
{
    enum sept_state state = sept_entry_state(value);
    if (sept_state_is_leaf(state))
        return value & (ENTRY_RWX | ENTRY_LEAF_FORM | TDX_ADDRESS_MASK);
    if (sept_state_is_table(state))
        return value & ENTRY_RWX;
    return ENTRY_SUPPRESS_VE;
}

u64 sept_entry_details(const struct sept_walk *walk)
{
    return walk->level | (u64)sept_entry_state(walk->value) << 8;
}

bool sept_gpa_is_private(const struct tdcs *tdcs, u64 gpa)
{
    return !(gpa >> (tdcs->gpa_bits - 1));
}

u32 sept_root_level(const struct tdcs *tdcs)
{
    return (u32)(tdcs->eptp >> 3) & 7;
}

bool sept_walk(const struct td *td, u64 address, u32 level, struct sept_walk *walk)
{
    u64 table = td_sept_root(td);
    walk->gpa = address;
    for (walk->level = sept_root_level(td->tdcs);; walk->level--) {
        _Atomic u64 *entries = seam_page(table);
        u64 index = address >> (PAGE_SHIFT + TABLE_SHIFT * walk->level) & (TABLE_ENTRIES - 1);
        walk->entry = &entries[index];
        walk->value = sept_entry_plain(*walk->entry, walk->level);
        if (walk->level == level)
            return true;
        if (sept_entry_state(walk->value) != SEPT_NL_MAPPED)
            return false;
        table = sept_entry_address(walk->value);
    }
}

void sept_entry_set(struct sept_walk *walk, u64 value)
{
    u64 before = *walk->entry;
    while (
        !atomic_compare_exchange_weak(walk->entry, &before, value | (before & SEPT_ENTRY_LOCKING)))
        ;
    walk->value = value;
}

void sept_entry_set_progress(struct sept_walk *walk, u32 pages)
{
    u64 plain = walk->value;
    sept_entry_set(walk, plain | (u64)pages << ENTRY_PROGRESS_SHIFT);
    walk->value = plain;
}

void sept_table_fill_free(u64 table)
{
    u64 *entries = seam_page(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        entries[i] = SEPT_ENTRY_FREE;
}
