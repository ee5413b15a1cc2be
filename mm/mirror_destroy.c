/* SPDX-License-Identifier: MIT */
/* The end of a mirror: leaves, then tables from the bottom up, and the root last. */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "mm/mirror_entry.h"

/* Takes `page` back from the owner into the allocator, or leaks it. */
static bool page_recover(struct mirror *mirror, hpa_t page, enum level level)
{
    enum error error = mirror->ops->reclaim_page(mirror->owner, page, level);
    if (error == ERR_BUSY) {
        atomic_fetch_add(&mirror->stats.busy, 1);
        error = mirror->ops->reclaim_page(mirror->owner, page, level);
    }
    if (error)
        page_set_owner_level(page, level, PAGE_LEAKED);
    else
        page_free_level(page, level);
    return !error;
}

static void leaf_destroy(struct mirror *mirror, struct mirror_entry entry, enum level level)
{
    if (!page_recover(mirror, entry_page(entry), level))
        atomic_fetch_add(&mirror->stats.private_leaked, level_pages(level));
    atomic_fetch_sub(&mirror->stats.leaves[level], 1);
}

static void external_recover(struct mirror *mirror, hpa_t table)
{
    if (page_recover(mirror, page_partner(table), LEVEL_4K))
        atomic_fetch_add(&mirror->stats.external_returned, 1);
    else
        atomic_fetch_add(&mirror->stats.external_leaked, 1);
    atomic_fetch_sub(&mirror->stats.tables, 1);
}

/* Empties `table`, whose entries are of `level`: calls itself once a level at most. */
static void table_empty(struct mirror *mirror, hpa_t table, enum level level)
{
    mirror_slot *slots = phys_to_virt(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct mirror_entry entry = slot_read(&slots[i]);
        ASSERT(!entry_is_frozen(entry));
        if (entry_is_absent(entry))
            continue;
        if (entry_is_leaf(entry, level)) {
            leaf_destroy(mirror, entry, level);
        } else {
            hpa_t below = entry_page(entry);
            table_empty(mirror, below, level - 1);
            external_recover(mirror, below);
            page_free(below);
        }
        atomic_store(&slots[i], 0);
    }
}

enum error mirror_destroy(struct mirror *mirror)
{
    lock_exclude(&mirror->lock);
    if (!hpa_is_none(mirror->root)) {
        table_empty(mirror, mirror->root, LEVEL_512G);
        page_free(mirror->root);
        mirror->root = HPA_NONE;
    }
    lock_unexclude(&mirror->lock);
    u64 private_leaked = mirror->stats.private_leaked;
    u64 external_leaked = mirror->stats.external_leaked;
    if (!private_leaked && !external_leaked)
        return OK;
    log_line("mirror: leaked, as the module did not give them back: %llu private pages, "
             "%llu external table pages",
             (unsigned long long)private_leaked, (unsigned long long)external_leaked);
    return ERR_REFUSED;
}
