/* SPDX-License-Identifier: MIT */
/* The end of a mirror: leaves, then tables from the bottom up, and the root last. */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "mm/mirror_entry.h"

/* What the owner gave back goes off the row's front; a busy page is asked for once more. */
static enum error row_reclaim(struct mirror *mirror, struct entry_row *row)
{
    enum error error = mirror->ops->reclaim(mirror->owner, row);
    if (error != ERR_BUSY)
        return error;
    atomic_fetch_add(&mirror->stats.busy, 1);
    struct entry_row one = *row;
    one.count = 1;
    error = mirror->ops->reclaim(mirror->owner, &one);
    if (!error)
        entry_row_advance(row, 1);
    return error;
}

/* Takes the row's memory back into the allocator, or leaks it; how many pages are leaked. */
static u64 row_recover(struct mirror *mirror, struct entry_row row)
{
    u64 leaf_pages = level_pages(row.level), leaked = 0;
    while (row.count) {
        struct entry_row rest = row;
        enum error error = row_reclaim(mirror, &rest);
        if (rest.count < row.count)
            pages_free(row.page, (row.count - rest.count) * leaf_pages);
        if (error) {
            page_set_owner_level(rest.page, rest.level, PAGE_LEAKED);
            entry_row_advance(&rest, 1);
            leaked += leaf_pages;
        }
        row = rest;
    }
    return leaked;
}

/* The leaves of `level` at `slots`, as many of `most` as make a row; how many. */
static u32 leaves_destroy(struct mirror *mirror, mirror_slot *slots, u32 most, enum level level)
{
    struct mirror_entry first = slot_read(slots);
    struct entry_row row = {
        .level = level,
        .count = slots_in_a_row(slots, most, first, level_bytes(level)),
        .page = entry_page(first),
    };
    atomic_fetch_add(&mirror->stats.private_leaked, row_recover(mirror, row));
    atomic_fetch_sub(&mirror->stats.leaves[level], row.count);
    return row.count;
}

/* It is empty. */
static void table_destroy(struct mirror *mirror, hpa_t table)
{
    struct entry_row external = {.level = LEVEL_4K, .count = 1, .page = page_partner(table)};
    u64 leaked = row_recover(mirror, external);
    atomic_fetch_add(&mirror->stats.external_leaked, leaked);
    atomic_fetch_add(&mirror->stats.external_returned, 1 - leaked);
    atomic_fetch_sub(&mirror->stats.tables, 1);
    page_free(table);
}

/* Empties `table`, whose entries are of `level`: calls itself once a level at most. */
static void table_empty(struct mirror *mirror, hpa_t table, enum level level)
{
    mirror_slot *slots = phys_to_virt(table);
    for (u32 i = 0, count; i < TABLE_ENTRIES; i += count) {
        struct mirror_entry entry = slot_read(&slots[i]);
        ASSERT(!entry_is_frozen(entry));
        count = 1;
        if (entry_is_leaf(entry, level)) {
            count = leaves_destroy(mirror, &slots[i], TABLE_ENTRIES - i, level);
        } else if (!entry_is_absent(entry)) {
            table_empty(mirror, entry_page(entry), level - 1);
            table_destroy(mirror, entry_page(entry));
        }
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
