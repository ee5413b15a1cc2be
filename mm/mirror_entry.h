/* SPDX-License-Identifier: MIT */
/*
 * The words of a mirror table, and the way to them; the mirror engine's own.
 *
 *    mirror tables (ours)                        external tables (the module's)
 *
 *    mirror->root                                root, in the TDCS
 *    +-----------+                               +-----------+
 *    | 512 GiB   |--> +-----------+              |           |--> +-----------+
 *    +-----------+    | 1 GiB     |--> ...       +-----------+    |           |--> ...
 *                     +-----------+ - - partner - - - - - - - - > +-----------+
 *
 * A table page's partner (mm/pages.h) is the external page that was linked in its place.
 *
 * Word of an entry:
 *    0      absent
 *    51:12  page of a leaf, or of the mirror table below
 *    11     FROZEN: a change is under way. The rest is the word before it, so that restoring is
 *           clearing this bit
 *    10     BLOCKED: the external entry is blocked, and the change stopped there
 *    7      LARGE: a leaf above LEVEL_4K
 *    2:0    RWX; 0 means absent
 */
#ifndef MM_MIRROR_ENTRY_H
#define MM_MIRROR_ENTRY_H

#include "boot/assert.h"
#include "boot/phys.h"
#include "mm/mirror.h"

struct mirror_entry {
    u64 raw;
};

#define ENTRY_RWX 7ull
#define ENTRY_LARGE (1ull << 7)
#define ENTRY_BLOCKED (1ull << 10)
#define ENTRY_FROZEN (1ull << 11)
#define ENTRY_ADDRESS 0x000ffffffffff000ull
_Static_assert(!((ENTRY_RWX | ENTRY_LARGE | ENTRY_BLOCKED | ENTRY_FROZEN) & ENTRY_ADDRESS),
               "an entry's flags are not its address");

/* No processor walks these words: all that matters is that each is read and written whole. */
typedef _Atomic(u64) mirror_slot;

static inline struct mirror_entry slot_read(mirror_slot *slot)
{
    return (struct mirror_entry){atomic_load_explicit(slot, memory_order_acquire)};
}

static inline bool entry_is_frozen(struct mirror_entry entry)
{
    return entry.raw & ENTRY_FROZEN;
}

static inline bool entry_is_absent(struct mirror_entry entry)
{
    return entry.raw == 0;
}

/* Published: a leaf that the guest can use, or a table. */
static inline bool entry_is_present(struct mirror_entry entry)
{
    return (entry.raw & ENTRY_RWX) && !(entry.raw & (ENTRY_FROZEN | ENTRY_BLOCKED));
}

static inline bool entry_is_blocked(struct mirror_entry entry)
{
    return (entry.raw & ENTRY_BLOCKED) && !(entry.raw & ENTRY_FROZEN);
}

static inline bool entry_is_leaf(struct mirror_entry entry, enum level level)
{
    return (entry.raw & ENTRY_RWX) && (level == LEVEL_4K || (entry.raw & ENTRY_LARGE));
}

static inline hpa_t entry_page(struct mirror_entry entry)
{
    return hpa(entry.raw & ENTRY_ADDRESS);
}

static inline struct mirror_entry entry_of_table(hpa_t table)
{
    return (struct mirror_entry){table.raw | ENTRY_RWX};
}

static inline struct mirror_entry entry_of_leaf(hpa_t page, enum level level)
{
    return (struct mirror_entry){page.raw | ENTRY_RWX | (level == LEVEL_4K ? 0 : ENTRY_LARGE)};
}

static inline mirror_slot *table_slot(hpa_t table, gfn_t frame, enum level level)
{
    return (mirror_slot *)phys_to_virt(table) + level_index(frame, level);
}

static inline gfn_t frame_align(gfn_t frame, enum level level)
{
    return gfn(align_down(frame.raw, level_pages(level)));
}

/* The memory behind child number `index` of an entry of `level` whose memory is at `page`. */
static inline hpa_t entry_child_page(hpa_t page, enum level level, u32 index)
{
    return hpa(page.raw + index * level_bytes(level - 1));
}

/* Freezes `slot` if it holds `old`. Who succeeds alone may publish or restore. */
[[nodiscard]] static inline bool slot_freeze_if(mirror_slot *slot, struct mirror_entry old)
{
    u64 expected = old.raw;
    return atomic_compare_exchange_strong(slot, &expected, old.raw | ENTRY_FROZEN);
}
/* The same, where it may hold something else by now; false: a race was lost. */
[[nodiscard]] static inline bool slot_freeze(struct mirror *mirror, mirror_slot *slot,
                                             struct mirror_entry old)
{
    ASSERT(!entry_is_frozen(old));
    if (slot_freeze_if(slot, old))
        return true;
    atomic_fetch_add(&mirror->stats.races_lost, 1);
    return false;
}
/* Ends the change of a frozen slot with `entry`: the new word, or the old one again. */
static inline void slot_publish(mirror_slot *slot, struct mirror_entry entry)
{
    ASSERT(!entry_is_frozen(entry));
    u64 before = atomic_exchange(slot, entry.raw);
    /* Nobody but who froze it may touch a frozen entry. */
    ASSERT(before & ENTRY_FROZEN);
}

/*
 * Rows: words of neighbouring slots, `first` and then each `step` more than the one before. How
 * many there are from `slot` on, of `most`:
 */
static inline u32 slots_in_a_row(mirror_slot *slot, u32 most, struct mirror_entry first, u64 step)
{
    u32 count = 0;
    for (; count < most && slot_read(&slot[count]).raw == first.raw; first.raw += step)
        count++;
    return count;
}
/* The same, and those are frozen. */
static inline u32 slots_freeze(mirror_slot *slot, u32 most, struct mirror_entry first, u64 step)
{
    u32 count = 0;
    for (; count < most && slot_freeze_if(&slot[count], first); first.raw += step)
        count++;
    return count;
}
static inline void slots_publish(mirror_slot *slot, u32 count, struct mirror_entry first, u64 step)
{
    for (u32 i = 0; i < count; i++, first.raw += step)
        slot_publish(&slot[i], first);
}

/*
 * The slot that decides about `frame`: the lowest one that present tables reach, but not below
 * `lowest`. *level is its level. Under the lock, shared or not.
 */
mirror_slot *slot_find(struct mirror *mirror, gfn_t frame, enum level lowest, enum level *level);

/* A walk over the leaves of [frame, end) in order, whether present, blocked or frozen. */
struct leaf_cursor {
    struct mirror *mirror;
    gfn_t frame, end;
    mirror_slot *slot; /* null: to be found */
    enum level level;
};

/* Goes on to the first leaf at or after `frame`; false: there is none before `end`. */
bool leaf_cursor_find(struct leaf_cursor *cursor);
/* Steps over the entry that it stands on and the `count` - 1 behind it in its table. */
void leaf_cursor_step(struct leaf_cursor *cursor, u32 count);

#endif
