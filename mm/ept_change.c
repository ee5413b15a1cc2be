/* SPDX-License-Identifier: MIT */
/* What changes mappings that are there: unmap, split, collapse, flags. */
#include "boot/assert.h"
#include "mm/ept_entry.h"

/* The table is out of the tree; a processor may go on reading it until the flush. */
static void table_retire(struct ept *ept, hpa_t table)
{
    page_set_partner(table, ept->retired);
    ept->retired = table;
    ept->tables--;
}

/* Removals come in rows, so that a neighbour mostly gives the answer. */
static bool table_is_empty(hpa_t table, u32 removed)
{
    ept_slot *slots = ept_table_slots(table);
    if (removed > 0 && ept_slot_read(&slots[removed - 1]).raw)
        return false;
    for (u32 i = 1; i < TABLE_ENTRIES; i++) {
        if (ept_slot_read(&slots[(removed + i) % TABLE_ENTRIES]).raw)
            return false;
    }
    return true;
}

/* The entry where the walk ended has become absent: so do the tables above that are empty now. */
static void unlink_empty_tables(struct ept *ept, const struct ept_walk *walk, gfn_t frame)
{
    for (enum level level = walk->level; level < EPT_ROOT_LEVEL; level++) {
        ept_slot *parent = walk->slots[level + 1];
        hpa_t table = ept_entry_page(ept_slot_read(parent));
        if (!table_is_empty(table, level_index(frame, level)))
            return;
        ept_slot_write(parent, (struct ept_entry){0});
        table_retire(ept, table);
    }
}

/* The entry for the `i`th part of a leaf of `level`. */
static struct ept_entry entry_of_part(struct ept_entry leaf, enum level level, u64 i)
{
    u64 raw = leaf.raw + i * level_bytes(level - 1);
    return (struct ept_entry){level - 1 == LEVEL_4K ? raw & ~EPT_LARGE : raw};
}

/*
 * Replaces the leaf where the walk ended by a table of its parts, and goes down to the part of
 * `frame`. A flag that a processor sets meanwhile is not lost: the table is filled again.
 */
static void leaf_split(struct ept *ept, struct page_cache *cache, struct ept_walk *walk,
                       gfn_t frame)
{
    enum level level = walk->level;
    hpa_t table = page_cache_take(cache);
    ept_slot *parts = ept_table_slots(table);
    u64 leaf = walk->entry.raw;
    do {
        for (u32 i = 0; i < TABLE_ENTRIES; i++)
            ept_slot_write(&parts[i], entry_of_part((struct ept_entry){leaf}, level, i));
    } while (
        !atomic_compare_exchange_strong(walk->slots[level], &leaf, ept_entry_of_table(table).raw));
    ept->tables++;
    ept->leaves[level]--;
    ept->leaves[level - 1] += TABLE_ENTRIES;
    walk->level = level - 1;
    walk->slots[level - 1] = parts + level_index(frame, level - 1);
    walk->entry = ept_slot_read(walk->slots[level - 1]);
}

/* Without memory a call still succeeds where nothing is to be split: split_to counts. */
static void fill_for_split(struct vcpu_caches *caches)
{
    bool is_full = !page_cache_fill(&caches->direct_tables);
    (void)is_full;
}

/* All of the splits or none. */
static enum error split_to(struct ept *ept, struct page_cache *cache, struct ept_walk *walk,
                           gfn_t frame, enum level level)
{
    if (walk->level > level && walk->level - level > cache->count)
        return ERR_NO_MEMORY;
    while (walk->level > level)
        leaf_split(ept, cache, walk, frame);
    return OK;
}

enum error ept_unmap(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                     hpa_t *page, enum level *found)
{
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    fill_for_split(caches);
    enum error error = ERR_NOT_FOUND;
    lock_take(&ept->lock);
    struct ept_walk walk = ept_walk(ept, frame, LEVEL_4K);
    if (ept_entry_is_present(walk.entry))
        error = split_to(ept, &caches->direct_tables, &walk, frame, level);
    *found = walk.level;
    if (!error) {
        *page = ept_entry_page(walk.entry);
        ept_slot_write(walk.slots[walk.level], (struct ept_entry){0});
        ept->leaves[walk.level]--;
        unlink_empty_tables(ept, &walk, frame);
    }
    lock_release(&ept->lock);
    return error;
}

enum error ept_split(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level)
{
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    fill_for_split(caches);
    enum error error = OK;
    lock_take(&ept->lock);
    struct ept_walk walk = ept_walk(ept, frame, level);
    if (ept_entry_is_leaf(walk.entry, walk.level))
        error = split_to(ept, &caches->direct_tables, &walk, frame, level);
    lock_release(&ept->lock);
    return error;
}

/* The flags of all leaves of the table. */
static u64 table_flags(hpa_t table)
{
    ept_slot *slots = ept_table_slots(table);
    u64 flags = 0;
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        flags |= ept_slot_read(&slots[i]).raw & EPT_FLAGS;
    return flags;
}

/* True if the leaves of the table, which are of level - 1, are the parts of one leaf, *leaf. */
static bool table_is_one_leaf(hpa_t table, enum level level, struct ept_entry *leaf)
{
    ept_slot *slots = ept_table_slots(table);
    struct ept_entry first = {ept_slot_read(&slots[0]).raw & ~EPT_FLAGS};
    if (!ept_entry_is_leaf(first, level - 1) ||
        !is_aligned(ept_entry_page(first).raw, level_bytes(level)))
        return false;
    *leaf = (struct ept_entry){first.raw | EPT_LARGE};
    for (u32 i = 1; i < TABLE_ENTRIES; i++) {
        if ((ept_slot_read(&slots[i]).raw & ~EPT_FLAGS) != entry_of_part(*leaf, level, i).raw)
            return false;
    }
    return true;
}

/*
 * The leaf replaces the table by one store. A processor may set flags in the table between the
 * look at them and the store: they are looked at once more.
 */
static enum error table_collapse(struct ept *ept, const struct ept_walk *walk, gfn_t frame)
{
    enum level level = walk->level;
    ept_slot *slot = walk->slots[level];
    hpa_t table = ept_entry_page(walk->entry);
    struct ept_entry leaf;
    if (table_is_one_leaf(table, level, &leaf)) {
        ept_slot_write(slot, (struct ept_entry){leaf.raw | table_flags(table)});
        atomic_fetch_or(slot, table_flags(table));
        ept->leaves[level - 1] -= TABLE_ENTRIES;
        ept->leaves[level]++;
        table_retire(ept, table);
        return OK;
    }
    if (ept_slot_read(ept_table_slots(table)).raw || !table_is_empty(table, 0))
        return ERR_STATE;
    ept_slot_write(slot, (struct ept_entry){0});
    table_retire(ept, table);
    unlink_empty_tables(ept, walk, frame);
    return OK;
}

enum error ept_collapse(struct ept *ept, gfn_t frame, enum level level)
{
    if (!ept_level_is_good(ept, level))
        return ERR_UNSUPPORTED;
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    enum error error = OK;
    lock_take(&ept->lock);
    struct ept_walk walk = ept_walk(ept, frame, level);
    if (ept_entry_is_table(walk.entry, walk.level))
        error = table_collapse(ept, &walk, frame);
    lock_release(&ept->lock);
    return error;
}

static void map_set(u8 *map, u64 from, u64 to)
{
    for (u64 i = from; i < to && map; i++)
        map[i / 8] |= (u8)(1u << (i % 8));
}

u64 ept_test_and_clear(struct ept *ept, gfn_t start, gfn_t end, u64 flags, u8 *map)
{
    ASSERT(!(flags & ~EPT_FLAGS));
    u64 count = 0;
    u64 limit = end.raw < ept->frames ? end.raw : ept->frames;
    if (!(ept->features & EPT_FEATURE_AD))
        return 0;
    lock_take(&ept->lock);
    for (u64 frame = start.raw; frame < limit;) {
        struct ept_walk walk = ept_walk(ept, gfn(frame), LEVEL_4K);
        u64 first = align_down(frame, level_pages(walk.level));
        u64 next = first + level_pages(walk.level);
        bool inside = first >= start.raw && next <= limit;
        if (next > limit)
            next = limit;
        if (ept_entry_is_present(walk.entry) && walk.entry.raw & flags) {
            if (inside)
                atomic_fetch_and(walk.slots[walk.level], ~flags);
            map_set(map, frame - start.raw, next - start.raw);
            count += next - frame;
        }
        frame = next;
    }
    lock_release(&ept->lock);
    return count;
}
