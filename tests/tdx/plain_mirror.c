/* SPDX-License-Identifier: MIT */
/* mm/mirror.h in its simplest form: lists, one processor, no races. */
#include <stdio.h>
#include <string.h>

#include "boot/assert.h"
#include "boot/log.h"
#include "mm/mirror.h"

#define ENTRIES_MAX 1024

static struct {
    u64 frame;
    enum level level; /* of the entry; LEVEL_4K: a leaf */
    hpa_t page;
} entries[ENTRIES_MAX];
static u32 entry_count;

enum error mirror_init(struct mirror *mirror, u32 gpa_bits, const struct mirror_ops *ops,
                       void *owner)
{
    memset(mirror, 0, sizeof *mirror);
    entry_count = 0;
    mirror->ops = ops;
    mirror->owner = owner;
    mirror->frames = 1ull << (gpa_bits - PAGE_SHIFT);
    return page_allocate(PAGE_MIRROR_TABLE, &mirror->root);
}

static hpa_t *entry_find(gfn_t frame, enum level level)
{
    u64 first = align_down(frame.raw, level_pages(level));
    for (u32 i = 0; i < entry_count; i++)
        if (entries[i].level == level && entries[i].frame == first)
            return &entries[i].page;
    return NULL;
}

static void entry_add(gfn_t frame, enum level level, hpa_t page)
{
    ASSERT(entry_count < ENTRIES_MAX);
    entries[entry_count].frame = align_down(frame.raw, level_pages(level));
    entries[entry_count].level = level;
    entries[entry_count++].page = page;
}

static enum error tables_link(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame)
{
    for (enum level level = LEVEL_512G; level > LEVEL_4K; level--) {
        if (entry_find(frame, level))
            continue;
        hpa_t table = page_cache_take(&caches->external_tables);
        gfn_t first = {align_down(frame.raw, level_pages(level))};
        enum error error = mirror->ops->link_table(mirror->owner, first, level, table);
        if (error) {
            page_cache_return(&caches->external_tables, table);
            return error;
        }
        mirror->stats.external_taken++;
        entry_add(frame, level, table);
    }
    return OK;
}

static enum error leaf_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                           hpa_t source)
{
    enum error error = vcpu_caches_fill(caches);
    if (!error)
        error = tables_link(mirror, caches, frame);
    if (error || entry_find(frame, LEVEL_4K))
        return error;
    hpa_t page = page_cache_take(&caches->private_pages);
    error = hpa_is_none(source) ? mirror->ops->set_leaf(mirror->owner, frame, LEVEL_4K, page)
                                : mirror->ops->add_leaf(mirror->owner, frame, page, source);
    if (error) {
        page_cache_return(&caches->private_pages, page);
        return error;
    }
    entry_add(frame, LEVEL_4K, page);
    mirror->stats.leaves++;
    return OK;
}

enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame)
{
    return leaf_map(mirror, caches, frame, HPA_NONE);
}

enum error mirror_add(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, hpa_t source)
{
    return leaf_map(mirror, caches, frame, source);
}

enum error mirror_remove_range(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done)
{
    enum error error = OK;
    *done = start;
    for (gfn_t at = start; !error && at.raw < end.raw; at.raw++)
        if (entry_find(at, LEVEL_4K))
            error = mirror->ops->block(mirror->owner, at, LEVEL_4K);
    if (!error)
        error = mirror->ops->track(mirror->owner);
    for (; !error && done->raw < end.raw; done->raw++) {
        hpa_t *page = entry_find(*done, LEVEL_4K);
        if (!page)
            continue;
        error = mirror->ops->remove_leaf(mirror->owner, *done, LEVEL_4K, *page);
        if (error)
            break;
        page_free(*page);
        /* A level that no lookup asks for: the place is not used again. */
        entries[(size_t)((u8 *)page - (u8 *)entries) / sizeof entries[0]].page = HPA_NONE;
        entries[(size_t)((u8 *)page - (u8 *)entries) / sizeof entries[0]].frame = ~0ull;
        mirror->stats.leaves--;
    }
    return error;
}

hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame)
{
    (void)mirror;
    hpa_t *page = entry_find(frame, LEVEL_4K);
    return page ? *page : HPA_NONE;
}

enum error mirror_destroy(struct mirror *mirror)
{
    enum error result = OK;
    for (u32 i = 0; i < entry_count; i++) {
        if (hpa_is_none(entries[i].page))
            continue;
        bool leaf = entries[i].level == LEVEL_4K;
        if (mirror->ops->reclaim_page(mirror->owner, entries[i].page)) {
            page_set_owner(entries[i].page, PAGE_LEAKED);
            leaf ? mirror->stats.private_leaked++ : mirror->stats.external_leaked++;
            result = ERR_REFUSED;
            continue;
        }
        page_free(entries[i].page);
        mirror->stats.external_returned += !leaf;
    }
    entry_count = 0;
    page_free(mirror->root);
    if (result)
        log_line("mirror: leaked");
    return result;
}
