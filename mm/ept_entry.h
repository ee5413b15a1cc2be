/* SPDX-License-Identifier: MIT */
/* Private to mm/ept*.c: the words of a direct EPT, and the way to them. */
#ifndef MM_EPT_ENTRY_H
#define MM_EPT_ENTRY_H

#include "boot/phys.h"
#include "boot/vmx.h"
#include "mm/ept.h"

#define EPT_ROOT_LEVEL LEVEL_512G
#define EPT_ADDRESS 0x000ffffffffff000ull
#define EPT_FLAGS (EPT_ACCESSED | EPT_DIRTY)

/*
 * An absent entry is 0: "suppress #VE" is clear. The processor reads these words at any time, and
 * sets EPT_FLAGS in them: where these count, a present leaf is changed by an atomic exchange.
 */
struct ept_entry {
    u64 raw;
};
typedef _Atomic(u64) ept_slot;

static inline struct ept_entry ept_slot_read(ept_slot *slot)
{
    return (struct ept_entry){atomic_load_explicit(slot, memory_order_acquire)};
}

static inline void ept_slot_write(ept_slot *slot, struct ept_entry entry)
{
    atomic_store_explicit(slot, entry.raw, memory_order_release);
}

static inline bool ept_entry_is_present(struct ept_entry entry)
{
    return entry.raw & EPT_RWX;
}

static inline bool ept_entry_is_leaf(struct ept_entry entry, enum level level)
{
    return ept_entry_is_present(entry) && (level == LEVEL_4K || entry.raw & EPT_LARGE);
}

static inline bool ept_entry_is_table(struct ept_entry entry, enum level level)
{
    return ept_entry_is_present(entry) && !ept_entry_is_leaf(entry, level);
}

static inline hpa_t ept_entry_page(struct ept_entry entry)
{
    return hpa(entry.raw & EPT_ADDRESS);
}

static inline struct ept_entry ept_entry_of_table(hpa_t table)
{
    return (struct ept_entry){table.raw | EPT_RWX};
}

static inline ept_slot *ept_table_slots(hpa_t table)
{
    return phys_to_virt(table);
}

/* The slots from the root to where a walk ended: a leaf, an absent entry, or the level asked. */
struct ept_walk {
    ept_slot *slots[EPT_ROOT_LEVEL + 1];
    enum level level;
    struct ept_entry entry; /* in slots[level] */
};

/* `frame` is in range, and the root is there. */
static inline struct ept_walk ept_walk(const struct ept *ept, gfn_t frame, enum level level)
{
    struct ept_walk walk = {.level = EPT_ROOT_LEVEL};
    hpa_t table = ept->root;
    for (;; walk.level--) {
        ept_slot *slot = ept_table_slots(table) + level_index(frame, walk.level);
        walk.slots[walk.level] = slot;
        walk.entry = ept_slot_read(slot);
        if (walk.level == level || !ept_entry_is_table(walk.entry, walk.level))
            return walk;
        table = ept_entry_page(walk.entry);
    }
}

static inline bool ept_level_is_good(const struct ept *ept, enum level level)
{
    return level == LEVEL_4K || (level == LEVEL_2M && ept->features & EPT_FEATURE_2M) ||
           (level == LEVEL_1G && ept->features & EPT_FEATURE_1G);
}

#endif
