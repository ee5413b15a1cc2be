/* SPDX-License-Identifier: MIT */
/*
 * Layout of the mirror's tables; for mm/mirror*.c alone.
 *
 *   directory (levels 1-3, two pages)         page table (level 0, one page)
 *   page 0            page 1
 *   +-----------+     +-----------------+     +-----------+
 *   | entry 0   |     | external page 0 |     | entry 0   |--> private page
 *   | entry i --|--+  | external page i |     | ...       |
 *   | ...       |  |  | ...             |     | entry 511 |
 *   | entry 511 |  |  +-----------------+     +-----------+
 *   +-----------+  |
 *                  +--> the mirror's table under entry i; external page i is the page that the
 *                       external table uses in its place
 *
 * The processor never walks these: an entry's bits are ours.
 */
#ifndef MM_MIRROR_TABLE_H
#define MM_MIRROR_TABLE_H

#include <stdatomic.h>

#include "boot/phys.h"
#include "mm/mirror.h"

#define MIRROR_ROOT_LEVEL LEVEL_512G
#define MIRROR_DIRECTORY_PAGES 2

struct mirror_entry {
    u64 raw;
};

#define MIRROR_PRESENT (1ull << 0)
/* Somebody is changing the entry; only he may touch it. */
#define MIRROR_FROZEN (1ull << 1)
#define MIRROR_LEAF (1ull << 2)
#define MIRROR_ADDRESS 0x000ffffffffff000ull

static const struct mirror_entry mirror_entry_none = {0};
static const struct mirror_entry mirror_entry_frozen = {MIRROR_FROZEN};

static inline struct mirror_entry mirror_entry_leaf(hpa_t page)
{
    return (struct mirror_entry){page.raw | MIRROR_PRESENT | MIRROR_LEAF};
}

static inline struct mirror_entry mirror_entry_table(hpa_t table)
{
    return (struct mirror_entry){table.raw | MIRROR_PRESENT};
}

static inline bool mirror_entry_is_present(struct mirror_entry entry)
{
    return (entry.raw & MIRROR_PRESENT) != 0;
}

static inline bool mirror_entry_is_frozen(struct mirror_entry entry)
{
    return (entry.raw & MIRROR_FROZEN) != 0;
}

static inline hpa_t mirror_entry_address(struct mirror_entry entry)
{
    return hpa(entry.raw & MIRROR_ADDRESS);
}

typedef _Atomic u64 mirror_slot_t;

static inline mirror_slot_t *mirror_slot(hpa_t table, u32 index)
{
    return (mirror_slot_t *)phys_to_virt(table) + index;
}

static inline mirror_slot_t *mirror_external_slot(hpa_t directory, u32 index)
{
    return (mirror_slot_t *)phys_to_virt(hpa(directory.raw + PAGE_BYTES)) + index;
}

static inline struct mirror_entry mirror_slot_read(mirror_slot_t *slot)
{
    return (struct mirror_entry){atomic_load_explicit(slot, memory_order_acquire)};
}

/* Freezes the entry if it still is `old`. */
static inline bool mirror_slot_freeze(mirror_slot_t *slot, struct mirror_entry old)
{
    return atomic_compare_exchange_strong_explicit(slot, &old.raw, mirror_entry_frozen.raw,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Publishes: only for the one who froze the entry. */
static inline void mirror_slot_publish(mirror_slot_t *slot, struct mirror_entry entry)
{
    atomic_store_explicit(slot, entry.raw, memory_order_release);
}

/*
 * The page-table slot of `frame`, or null: *missing is then the level of the entry that is absent
 * or frozen.
 */
mirror_slot_t *mirror_walk(const struct mirror *mirror, gfn_t frame, enum level *missing);

#endif
