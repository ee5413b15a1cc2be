/* SPDX-License-Identifier: MIT */
#include "mm/ept.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "mm/ept_entry.h"

#define GPA_BITS_MAX 48 /* what four levels reach */

enum error ept_init(struct ept *ept, u32 gpa_bits, u32 features)
{
    *ept = (struct ept){.lock = LOCK_INIT(RANK_EPT, "ept"),
                        .root = HPA_NONE,
                        .retired = HPA_NONE,
                        .features = features};
    if (gpa_bits <= PAGE_SHIFT || gpa_bits > GPA_BITS_MAX) {
        log_line("ept: a GPA of %u bits: four levels reach %u", gpa_bits, GPA_BITS_MAX);
        return ERR_UNSUPPORTED;
    }
    ept->frames = 1ull << (gpa_bits - PAGE_SHIFT);
    return page_allocate_zeroed(PAGE_DIRECT_TABLE, &ept->root);
}

/*
 * The slot of `frame` at `level`, the missing tables from `cache`; null: a larger leaf is in the
 * way. Under the lock.
 */
static ept_slot *slot_make(struct ept *ept, struct page_cache *cache, gfn_t frame, enum level level)
{
    hpa_t table = ept->root;
    for (enum level at = EPT_ROOT_LEVEL; at > level; at--) {
        ept_slot *slot = ept_table_slots(table) + level_index(frame, at);
        struct ept_entry entry = ept_slot_read(slot);
        if (ept_entry_is_leaf(entry, at))
            return NULL;
        if (!ept_entry_is_present(entry)) {
            entry = ept_entry_of_table(page_cache_take(cache));
            ept_slot_write(slot, entry);
            ept->tables++;
        }
        table = ept_entry_page(entry);
    }
    return ept_table_slots(table) + level_index(frame, level);
}

enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                   hpa_t page, u64 permissions)
{
    if (!ept_level_is_good(ept, level))
        return ERR_UNSUPPORTED;
    if (!is_aligned(frame.raw, level_pages(level)) || !is_aligned(page.raw, level_bytes(level)))
        return ERR_INVALID;
    if (frame.raw >= ept->frames || level_pages(level) > ept->frames - frame.raw)
        return ERR_RANGE;
    enum error error = page_cache_fill(&caches->direct_tables);
    if (error)
        return error;
    u64 raw = page.raw | permissions | EPT_TYPE_WB | (level > LEVEL_4K ? EPT_LARGE : 0);
    lock_take(&ept->lock);
    ept_slot *slot = slot_make(ept, &caches->direct_tables, frame, level);
    if (!slot || ept_entry_is_present(ept_slot_read(slot))) {
        error = ERR_EXISTS;
    } else {
        ept_slot_write(slot, (struct ept_entry){raw});
        ept->leaves[level]++;
    }
    lock_release(&ept->lock);
    return error;
}

hpa_t ept_lookup(struct ept *ept, gfn_t frame, enum level *level)
{
    hpa_t page = HPA_NONE;
    enum level at = EPT_ROOT_LEVEL;
    if (frame.raw < ept->frames && !hpa_is_none(ept->root)) {
        ept->lookups++;
        struct ept_walk walk = ept_walk(ept, frame, LEVEL_4K);
        ept->lookups--;
        at = walk.level;
        if (ept_entry_is_present(walk.entry))
            page = hpa(align_down(ept_entry_page(walk.entry).raw, level_bytes(at)) +
                       frame.raw % level_pages(at) * PAGE_BYTES);
    }
    if (level)
        *level = at;
    return page;
}

hpa_t ept_retired(struct ept *ept)
{
    lock_take(&ept->lock);
    hpa_t tables = ept->retired;
    ept->retired = HPA_NONE;
    lock_release(&ept->lock);
    return tables;
}

void ept_free_tables(struct ept *ept, hpa_t tables)
{
    if (hpa_is_none(tables))
        return;
    while (ept->lookups) /* each is a few reads long */
        cpu_relax();
    while (!hpa_is_none(tables)) {
        hpa_t next = page_partner(tables);
        page_free(tables);
        tables = next;
    }
}

/* Frees what `table` refers to and the table: calls itself once a level at most. */
static void table_destroy(struct ept *ept, hpa_t table, enum level level)
{
    ept_slot *slots = ept_table_slots(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct ept_entry entry = ept_slot_read(&slots[i]);
        if (ept_entry_is_leaf(entry, level)) {
            page_free_level(ept_entry_page(entry), level);
            ept->leaves[level]--;
        } else if (ept_entry_is_present(entry)) {
            table_destroy(ept, ept_entry_page(entry), level - 1);
            ept->tables--;
        }
    }
    page_free(table);
}

void ept_destroy(struct ept *ept)
{
    ept_free_tables(ept, ept_retired(ept));
    lock_take(&ept->lock);
    if (!hpa_is_none(ept->root))
        table_destroy(ept, ept->root, EPT_ROOT_LEVEL);
    ept->root = HPA_NONE;
    lock_release(&ept->lock);
}

u64 ept_pointer(const struct ept *ept)
{
    return ept->root.raw | EPTP_WB | EPTP_LEVELS_4 |
           (ept->features & EPT_FEATURE_AD ? EPTP_ACCESSED_DIRTY : 0);
}
