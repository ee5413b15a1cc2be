/* SPDX-License-Identifier: MIT */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "mm/mirror_entry.h"

#define ROOT_LEVEL LEVEL_512G
#define GPA_BITS_MAX 48 /* what four levels reach */

enum error mirror_init(struct mirror *mirror, u32 gpa_bits, const struct mirror_ops *ops,
                       void *owner)
{
    *mirror = (struct mirror){
        .lock = SHARED_LOCK_INIT(RANK_MIRROR, "mirror"),
        .root = HPA_NONE,
        .ops = ops,
        .owner = owner,
    };
    if (gpa_bits <= PAGE_SHIFT || gpa_bits > GPA_BITS_MAX) {
        log_line("mirror: a private GPA of %u bits: four levels reach %u", gpa_bits, GPA_BITS_MAX);
        return ERR_UNSUPPORTED;
    }
    mirror->frames = 1ull << (gpa_bits - PAGE_SHIFT);
    return page_allocate_zeroed(PAGE_MIRROR_TABLE, &mirror->root);
}

/* What a map puts at the end of the walk. */
struct leaf_request {
    struct mirror *mirror;
    struct vcpu_caches *caches;
    gfn_t frame;
    enum level level;
    hpa_t source; /* HPA_NONE: a page without content, after finalize */
};

static void count_busy(struct mirror *mirror, enum error error)
{
    if (error == ERR_BUSY)
        atomic_fetch_add(&mirror->stats.busy, 1);
}

/* Links a table under an absent entry at `level`. */
static enum error table_link(const struct leaf_request *request, mirror_slot *slot,
                             enum level level)
{
    struct mirror *mirror = request->mirror;
    struct mirror_entry absent = {0};
    if (!slot_freeze(mirror, slot, absent))
        return ERR_BUSY;
    hpa_t table = page_cache_take(&request->caches->mirror_tables);
    hpa_t external = page_cache_take(&request->caches->external_tables);
    enum error error = mirror->ops->link_table(mirror->owner, request->caches,
                                               frame_align(request->frame, level), level, external);
    if (error) {
        slot_publish(slot, absent);
        page_cache_return(&request->caches->mirror_tables, table);
        page_cache_return(&request->caches->external_tables, external);
        count_busy(mirror, error);
        return error;
    }
    page_set_partner(table, external);
    atomic_fetch_add(&mirror->stats.external_taken, 1);
    atomic_fetch_add(&mirror->stats.tables, 1);
    slot_publish(slot, entry_of_table(table));
    return OK;
}

static inline struct page_cache *leaf_cache(struct leaf_request request)
{
    return request.level == LEVEL_4K ? &request.caches->private_pages
                                     : &request.caches->private_large;
}

/* By value, so that the way of most maps keeps it in registers. */
__attribute__((always_inline)) static inline enum error leaf_set(struct leaf_request request,
                                                                 mirror_slot *slot)
{
    struct mirror *mirror = request.mirror;
    struct mirror_entry absent = {0};
    if (!slot_freeze(mirror, slot, absent))
        return ERR_BUSY;
    hpa_t page = page_cache_take(leaf_cache(request));
    enum error error = hpa_is_none(request.source)
                           ? mirror->ops->set_leaf(mirror->owner, request.caches, request.frame,
                                                   request.level, page)
                           : mirror->ops->add_leaf(mirror->owner, request.caches, request.frame,
                                                   page, request.source);
    if (error) {
        slot_publish(slot, absent);
        page_cache_return(leaf_cache(request), page);
        count_busy(mirror, error);
        return error;
    }
    atomic_fetch_add(&mirror->stats.leaves[request.level], 1);
    slot_publish(slot, entry_of_leaf(page, request.level));
    return OK;
}

/* What a map does about an entry in its way that is neither absent nor a table to go down. */
static enum error entry_in_the_way(const struct leaf_request *request, struct mirror_entry entry,
                                   enum level level)
{
    if (entry_is_frozen(entry)) {
        atomic_fetch_add(&request->mirror->stats.races_lost, 1);
        return ERR_BUSY;
    }
    if (entry_is_blocked(entry)) {
        log_line("mirror: GPA 0x%llx is blocked: a change of it did not end",
                 (unsigned long long)gfn_to_gpa(request->frame).raw);
        return ERR_REFUSED;
    }
    return entry_is_leaf(entry, level) && hpa_is_none(request->source) ? OK : ERR_EXISTS;
}

/* Under the shared lock. */
static enum error leaf_request_run(const struct leaf_request *request)
{
    hpa_t table = request->mirror->root;
    enum level level = ROOT_LEVEL;
    for (;;) {
        mirror_slot *slot = table_slot(table, request->frame, level);
        struct mirror_entry entry = slot_read(slot);
        if (entry_is_absent(entry) && level == request->level)
            return leaf_set(*request, slot);
        if (entry_is_absent(entry)) {
            enum error error = table_link(request, slot, level);
            if (error)
                return error;
            entry = slot_read(slot);
        }
        if (!entry_is_present(entry) || entry_is_leaf(entry, level) || level == request->level)
            return entry_in_the_way(request, entry, level);
        table = entry_page(entry);
        level--;
    }
}

/* The slot of a page of 4 KiB; false: a table on the way to it is not present. */
static inline bool small_slot(const struct mirror *mirror, gfn_t frame, mirror_slot **slot)
{
    u64 table = mirror->root.raw;
#pragma GCC unroll 3
    for (enum level level = ROOT_LEVEL; level > LEVEL_4K; level--) {
        /* Of a table the word is its address and RWX, and nothing else. */
        table = slot_read(table_slot(hpa(table), frame, level)).raw ^ ENTRY_RWX;
        if (table & PAGE_MASK)
            return false;
    }
    *slot = table_slot(hpa(table), frame, LEVEL_4K);
    return true;
}

/* The map that is made most: a page of 4 KiB into a table that is there. False: it is another. */
static inline bool small_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                             enum error *error)
{
    if (frame.raw >= mirror->frames || page_cache_fill(&caches->private_pages) ||
        page_cache_fill(&caches->metadata_pages))
        return false;
    lock_share(&mirror->lock);
    mirror_slot *slot;
    bool is_small = !hpa_is_none(mirror->root) && small_slot(mirror, frame, &slot) &&
                    entry_is_absent(slot_read(slot));
    if (is_small)
        *error = leaf_set((struct leaf_request){mirror, caches, frame, LEVEL_4K, HPA_NONE}, slot);
    lock_unshare(&mirror->lock);
    return is_small;
}

static enum error leaf_request_start(const struct leaf_request *request)
{
    struct mirror *mirror = request->mirror;
    ASSERT(is_aligned(request->frame.raw, level_pages(request->level)));
    if (request->frame.raw >= mirror->frames)
        return ERR_RANGE;
    enum error error = page_cache_fill(&request->caches->mirror_tables);
    if (!error)
        error = page_cache_fill(&request->caches->external_tables);
    if (!error)
        error = page_cache_fill(&request->caches->metadata_pages);
    if (!error)
        error = page_cache_fill(leaf_cache(*request));
    if (error)
        return error;
    lock_share(&mirror->lock);
    error = hpa_is_none(mirror->root) ? ERR_STATE : leaf_request_run(request);
    lock_unshare(&mirror->lock);
    return error;
}

__attribute__((noinline)) static enum error
request_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, enum level level)
{
    struct leaf_request request = {mirror, caches, frame, level, HPA_NONE};
    return leaf_request_start(&request);
}

enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                      enum level level)
{
    enum error error;
    ASSERT(level <= LEVEL_2M);
    if (level == LEVEL_4K && small_map(mirror, caches, frame, &error))
        return error;
    return request_map(mirror, caches, frame, level);
}

enum error mirror_add(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, hpa_t source)
{
    struct leaf_request request = {mirror, caches, frame, LEVEL_4K, source};
    return leaf_request_start(&request);
}

mirror_slot *slot_find(struct mirror *mirror, gfn_t frame, enum level lowest, enum level *level)
{
    mirror_slot *slot;
    if (lowest == LEVEL_4K && small_slot(mirror, frame, &slot)) {
        *level = LEVEL_4K;
        return slot;
    }
    hpa_t table = mirror->root;
    for (*level = ROOT_LEVEL;; --*level) {
        slot = table_slot(table, frame, *level);
        struct mirror_entry entry = slot_read(slot);
        if (*level == lowest || !entry_is_present(entry) || entry_is_leaf(entry, *level))
            return slot;
        table = entry_page(entry);
    }
}

/* The lock keeps the tables: a promotion frees the one that it takes away. */
hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame, enum level *level)
{
    hpa_t page = HPA_NONE;
    lock_share(&mirror->lock);
    if (frame.raw < mirror->frames && !hpa_is_none(mirror->root)) {
        enum level found;
        struct mirror_entry entry = slot_read(slot_find(mirror, frame, LEVEL_4K, &found));
        if (entry_is_present(entry))
            page = hpa(entry_page(entry).raw + (frame.raw % level_pages(found)) * PAGE_BYTES);
        if (level)
            *level = found;
    }
    lock_unshare(&mirror->lock);
    return page;
}

bool leaf_cursor_find(struct leaf_cursor *cursor)
{
    while (cursor->frame.raw < cursor->end.raw) {
        if (!cursor->slot)
            cursor->slot = slot_find(cursor->mirror, cursor->frame, LEVEL_4K, &cursor->level);
        struct mirror_entry entry = slot_read(cursor->slot);
        if (entry_is_leaf(entry, cursor->level))
            return true;
        if (entry_is_present(entry)) /* a table, met by stepping along the one above */
            cursor->slot = NULL;
        else
            leaf_cursor_step(cursor, 1);
    }
    return false;
}

void leaf_cursor_step(struct leaf_cursor *cursor, u32 count)
{
    u64 pages = level_pages(cursor->level);
    cursor->frame = gfn(align_down(cursor->frame.raw, pages) + count * pages);
    /* At its table's end the next entry is somewhere else. */
    cursor->slot = level_index(cursor->frame, cursor->level) ? cursor->slot + count : NULL;
}
