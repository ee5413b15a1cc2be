/* SPDX-License-Identifier: MIT */
/* The end of a mirror: the TD's key is free, no vCPU is left, nobody walks any more. */
#include "mm/mirror.h"

#include "boot/log.h"
#include "mm/mirror_table.h"

/* Gives `page` back to the allocator, or leaks it if its owner keeps it. */
static bool page_return(struct mirror *mirror, hpa_t page, const char *what, gfn_t frame)
{
    if (mirror->ops->reclaim_page(mirror->owner, page) == OK) {
        page_free(page);
        return true;
    }
    log_line("mirror: %s 0x%llx at GPA 0x%llx is leaked: the module did not give it back", what,
             (unsigned long long)page.raw, (unsigned long long)gfn_to_gpa(frame).raw);
    page_set_owner(page, PAGE_LEAKED);
    return false;
}

static void leaf_return(struct mirror *mirror, gfn_t frame, hpa_t page)
{
    if (!page_return(mirror, page, "private page", frame))
        mirror->stats.private_leaked++;
    mirror->stats.leaves--;
}

static void table_return(struct mirror *mirror, gfn_t frame, hpa_t external)
{
    if (page_return(mirror, external, "external table", frame))
        mirror->stats.external_returned++;
    else
        mirror->stats.external_leaked++;
    mirror->stats.tables--;
}

/* A page table: its leaves, then itself. */
static void page_table_destroy(struct mirror *mirror, gfn_t first, hpa_t table)
{
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct mirror_entry entry = mirror_slot_read(mirror_slot(table, i));
        if (mirror_entry_is_present(entry))
            leaf_return(mirror, gfn(first.raw + i), mirror_entry_address(entry));
    }
    page_free(table);
}

/* `level` is that of the directory's entries; goes as deep as the levels, three calls. */
static void directory_destroy(struct mirror *mirror, gfn_t first, hpa_t directory, enum level level)
{
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct mirror_entry entry = mirror_slot_read(mirror_slot(directory, i));
        gfn_t frame = gfn(first.raw + i * level_pages(level));
        if (!mirror_entry_is_present(entry))
            continue;
        if (level == LEVEL_2M)
            page_table_destroy(mirror, frame, mirror_entry_address(entry));
        else
            directory_destroy(mirror, frame, mirror_entry_address(entry), level - 1);
        table_return(mirror, frame, hpa(atomic_load(mirror_external_slot(directory, i))));
    }
    pages_free(directory, MIRROR_DIRECTORY_PAGES);
}

enum error mirror_destroy(struct mirror *mirror)
{
    if (hpa_is_none(mirror->root))
        return OK;
    directory_destroy(mirror, gfn(0), mirror->root, MIRROR_ROOT_LEVEL);
    mirror->root = HPA_NONE;
    return mirror->stats.external_leaked || mirror->stats.private_leaked ? ERR_REFUSED : OK;
}
