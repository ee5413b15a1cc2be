/* SPDX-License-Identifier: MIT */
#include "mm/ept.h"

#include <stdatomic.h>

#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/vmx.h"

#define ROOT_LEVEL LEVEL_512G
#define EPT_ADDRESS 0x000ffffffffff000ull

/* An entry as the processor reads it. */
struct ept_entry {
    u64 raw;
};

static bool entry_is_present(struct ept_entry entry)
{
    return (entry.raw & EPT_RWX) != 0;
}
static hpa_t entry_address(struct ept_entry entry)
{
    return hpa(entry.raw & EPT_ADDRESS);
}

static _Atomic u64 *slot_of(hpa_t table, u32 index)
{
    return (_Atomic u64 *)phys_to_virt(table) + index;
}

static struct ept_entry slot_read(_Atomic u64 *slot)
{
    return (struct ept_entry){atomic_load_explicit(slot, memory_order_acquire)};
}

enum error ept_init(struct ept *ept, u32 gpa_bits)
{
    *ept = (struct ept){.lock = LOCK_INIT(RANK_EPT, "direct EPT"),
                        .frames = 1ull << (gpa_bits - PAGE_SHIFT)};
    return page_allocate_zeroed(PAGE_DIRECT_TABLE, &ept->root);
}

/* The page-table slot of `frame`; null where a table is missing and `caches` is null. */
static _Atomic u64 *walk(struct ept *ept, struct vcpu_caches *caches, gfn_t frame)
{
    hpa_t table = ept->root;
    for (enum level level = ROOT_LEVEL; level > LEVEL_4K; level--) {
        _Atomic u64 *slot = slot_of(table, level_index(frame, level));
        struct ept_entry entry = slot_read(slot);
        if (!entry_is_present(entry)) {
            if (!caches)
                return NULL;
            entry.raw = page_cache_take(&caches->direct_tables).raw | EPT_RWX;
            ept->tables++;
            atomic_store_explicit(slot, entry.raw, memory_order_release);
        }
        table = entry_address(entry);
    }
    return slot_of(table, level_index(frame, LEVEL_4K));
}

enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                   u64 permissions)
{
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    enum error error = vcpu_caches_fill(caches);
    if (error)
        return error;
    lock_take(&ept->lock);
    _Atomic u64 *slot = walk(ept, caches, frame);
    if (entry_is_present(slot_read(slot))) {
        error = ERR_EXISTS;
    } else {
        atomic_store_explicit(slot, page.raw | permissions | EPT_TYPE_WB, memory_order_release);
        ept->leaves++;
    }
    lock_release(&ept->lock);
    return error;
}

enum error ept_unmap(struct ept *ept, gfn_t frame, hpa_t *page)
{
    enum error error = ERR_NOT_FOUND;
    if (frame.raw >= ept->frames)
        return ERR_RANGE;
    lock_take(&ept->lock);
    _Atomic u64 *slot = walk(ept, NULL, frame);
    if (slot && entry_is_present(slot_read(slot))) {
        *page = entry_address((struct ept_entry){atomic_exchange(slot, 0)});
        ept->leaves--;
        error = OK;
    }
    lock_release(&ept->lock);
    return error;
}

hpa_t ept_lookup(struct ept *ept, gfn_t frame)
{
    if (frame.raw >= ept->frames)
        return HPA_NONE;
    lock_take(&ept->lock);
    _Atomic u64 *slot = walk(ept, NULL, frame);
    struct ept_entry entry = slot ? slot_read(slot) : (struct ept_entry){0};
    lock_release(&ept->lock);
    return entry_is_present(entry) ? entry_address(entry) : HPA_NONE;
}

/* A table at `level` and all below it; three calls deep at most. */
static void table_destroy(struct ept *ept, hpa_t table, enum level level)
{
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct ept_entry entry = slot_read(slot_of(table, i));
        if (!entry_is_present(entry))
            continue;
        if (level == LEVEL_4K) {
            page_free(entry_address(entry));
            ept->leaves--;
        } else {
            table_destroy(ept, entry_address(entry), level - 1);
            ept->tables--;
        }
    }
    page_free(table);
}

void ept_destroy(struct ept *ept)
{
    if (hpa_is_none(ept->root))
        return;
    table_destroy(ept, ept->root, ROOT_LEVEL);
    ept->root = HPA_NONE;
}

u64 ept_pointer(const struct ept *ept)
{
    return ept->root.raw | EPTP_WB | EPTP_LEVELS_4;
}
