/* SPDX-License-Identifier: MIT */
#include "mm/ept.h"

#include "boot/log.h"
#include "boot/phys.h"
#include "boot/vmx.h"

#define ROOT_LEVEL LEVEL_512G
#define GPA_BITS_MAX 48 /* what four levels reach */
#define EPT_ADDRESS 0x000ffffffffff000ull

/* An absent entry is 0: "suppress #VE" is clear. The processor reads these words at any time. */
struct ept_entry {
    u64 raw;
};
typedef _Atomic(u64) ept_slot;

static struct ept_entry slot_read(ept_slot *slot)
{
    return (struct ept_entry){atomic_load_explicit(slot, memory_order_acquire)};
}

static void slot_write(ept_slot *slot, struct ept_entry entry)
{
    atomic_store_explicit(slot, entry.raw, memory_order_release);
}

static bool entry_is_present(struct ept_entry entry)
{
    return entry.raw & EPT_RWX;
}

static hpa_t entry_page(struct ept_entry entry)
{
    return hpa(entry.raw & EPT_ADDRESS);
}

static ept_slot *table_slot(hpa_t table, gfn_t frame, enum level level)
{
    return (ept_slot *)phys_to_virt(table) + level_index(frame, level);
}

enum error ept_init(struct ept *ept, u32 gpa_bits)
{
    *ept = (struct ept){.lock = LOCK_INIT(RANK_EPT, "ept"), .root = HPA_NONE};
    if (gpa_bits <= PAGE_SHIFT || gpa_bits > GPA_BITS_MAX) {
        log_line("ept: a GPA of %u bits: four levels reach %u", gpa_bits, GPA_BITS_MAX);
        return ERR_UNSUPPORTED;
    }
    ept->frames = 1ull << (gpa_bits - PAGE_SHIFT);
    return page_allocate_zeroed(PAGE_DIRECT_TABLE, &ept->root);
}

/* The slot of `frame` at LEVEL_4K; null where a table is missing. */
static ept_slot *slot_find(const struct ept *ept, gfn_t frame)
{
    hpa_t table = ept->root;
    if (frame.raw >= ept->frames || hpa_is_none(table))
        return NULL;
    for (enum level level = ROOT_LEVEL; level > LEVEL_4K; level--) {
        struct ept_entry entry = slot_read(table_slot(table, frame, level));
        if (!entry_is_present(entry))
            return NULL;
        table = entry_page(entry);
    }
    return table_slot(table, frame, LEVEL_4K);
}

/* The same, with the missing tables from `cache`. Under the lock. */
static ept_slot *slot_make(struct ept *ept, struct page_cache *cache, gfn_t frame)
{
    hpa_t table = ept->root;
    for (enum level level = ROOT_LEVEL; level > LEVEL_4K; level--) {
        ept_slot *slot = table_slot(table, frame, level);
        struct ept_entry entry = slot_read(slot);
        if (!entry_is_present(entry)) {
            entry.raw = page_cache_take(cache).raw | EPT_RWX;
            slot_write(slot, entry);
            ept->tables++;
        }
        table = entry_page(entry);
    }
    return table_slot(table, frame, LEVEL_4K);
}

enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                   u64 permissions)
{
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    enum error error = page_cache_fill(&caches->direct_tables);
    if (error)
        return error;
    lock_take(&ept->lock);
    ept_slot *slot = slot_make(ept, &caches->direct_tables, frame);
    if (entry_is_present(slot_read(slot))) {
        error = ERR_EXISTS;
    } else {
        slot_write(slot, (struct ept_entry){page.raw | permissions | EPT_TYPE_WB});
        ept->leaves++;
    }
    lock_release(&ept->lock);
    return error;
}

enum error ept_unmap(struct ept *ept, gfn_t frame, hpa_t *page)
{
    enum error error = ERR_NOT_FOUND;
    lock_take(&ept->lock);
    ept_slot *slot = slot_find(ept, frame);
    if (slot && entry_is_present(slot_read(slot))) {
        *page = entry_page(slot_read(slot));
        slot_write(slot, (struct ept_entry){0});
        ept->leaves--;
        error = OK;
    }
    lock_release(&ept->lock);
    return error;
}

hpa_t ept_lookup(struct ept *ept, gfn_t frame)
{
    ept_slot *slot = slot_find(ept, frame);
    struct ept_entry entry = slot ? slot_read(slot) : (struct ept_entry){0};
    return entry_is_present(entry) ? entry_page(entry) : HPA_NONE;
}

/* Frees what `table` refers to and the table: calls itself once a level at most. */
static void table_destroy(struct ept *ept, hpa_t table, enum level level)
{
    ept_slot *slots = phys_to_virt(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct ept_entry entry = slot_read(&slots[i]);
        if (!entry_is_present(entry))
            continue;
        if (level == LEVEL_4K) {
            page_free(entry_page(entry));
            ept->leaves--;
        } else {
            table_destroy(ept, entry_page(entry), level - 1);
            ept->tables--;
        }
    }
    page_free(table);
}

void ept_destroy(struct ept *ept)
{
    lock_take(&ept->lock);
    if (!hpa_is_none(ept->root))
        table_destroy(ept, ept->root, ROOT_LEVEL);
    ept->root = HPA_NONE;
    lock_release(&ept->lock);
}

u64 ept_pointer(const struct ept *ept)
{
    return ept->root.raw | EPTP_WB | EPTP_LEVELS_4;
}
