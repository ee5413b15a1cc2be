/* SPDX-License-Identifier: MIT */
#include "mm/mirror.h"

#include "boot/assert.h"
#include "boot/string.h"
#include "mm/mirror_table.h"

enum error mirror_init(struct mirror *mirror, u32 gpa_bits, const struct mirror_ops *ops,
                       void *owner)
{
    *mirror = (struct mirror){.lock = SHARED_LOCK_INIT(RANK_MIRROR, "mirror"),
                              .ops = ops,
                              .owner = owner,
                              .frames = 1ull << (gpa_bits - PAGE_SHIFT)};
    enum error error = pages_allocate(PAGE_MIRROR_TABLE, MIRROR_DIRECTORY_PAGES, 1, &mirror->root);
    for (u32 i = 0; !error && i < MIRROR_DIRECTORY_PAGES; i++)
        memset(phys_to_virt(hpa(mirror->root.raw + i * PAGE_BYTES)), 0, PAGE_BYTES);
    return error;
}

mirror_slot_t *mirror_walk(const struct mirror *mirror, gfn_t frame, enum level *missing)
{
    hpa_t table = mirror->root;
    for (enum level level = MIRROR_ROOT_LEVEL; level > LEVEL_4K; level--) {
        struct mirror_entry entry = mirror_slot_read(mirror_slot(table, level_index(frame, level)));
        if (!mirror_entry_is_present(entry)) {
            *missing = level;
            return NULL;
        }
        table = mirror_entry_address(entry);
    }
    return mirror_slot(table, level_index(frame, LEVEL_4K));
}

hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame)
{
    enum level missing;
    if (frame.raw >= mirror->frames)
        return HPA_NONE;
    mirror_slot_t *slot = mirror_walk(mirror, frame, &missing);
    if (!slot)
        return HPA_NONE;
    struct mirror_entry entry = mirror_slot_read(slot);
    return mirror_entry_is_present(entry) ? mirror_entry_address(entry) : HPA_NONE;
}

/* Counts why a change did not happen; returns `error`. */
static enum error change_failed(struct mirror *mirror, enum error error)
{
    if (error == ERR_BUSY)
        mirror->stats.busy++;
    return error;
}

/*
 * Links a new table under the entry of `frame` at `level` in `directory`. Pages that are not used
 * go back to the caches without the owner hearing of them.
 */
static enum error table_link(struct mirror *mirror, struct vcpu_caches *caches, hpa_t directory,
                             gfn_t frame, enum level level)
{
    u32 index = level_index(frame, level);
    mirror_slot_t *slot = mirror_slot(directory, index);
    if (!mirror_slot_freeze(slot, mirror_entry_none)) {
        mirror->stats.races_lost++;
        return ERR_BUSY;
    }

    struct page_cache *tables =
        level == LEVEL_2M ? &caches->mirror_tables : &caches->mirror_directories;
    hpa_t table = page_cache_take(tables);
    hpa_t external = page_cache_take(&caches->external_tables);
    enum error error = mirror->ops->link_table(mirror->owner, frame, level, external);
    if (error) {
        mirror_slot_publish(slot, mirror_entry_none);
        page_cache_return(tables, table);
        page_cache_return(&caches->external_tables, external);
        return change_failed(mirror, error);
    }
    atomic_store(mirror_external_slot(directory, index), external.raw);
    mirror->stats.external_taken++;
    mirror->stats.tables++;
    mirror_slot_publish(slot, mirror_entry_table(table));
    return OK;
}

/* What a leaf is filled with; decides which call its owner gets. */
struct leaf_source {
    enum leaf_kind {
        LEAF_COPIED,  /* before finalize: the content of `page`, measured */
        LEAF_PENDING, /* after finalize */
    } kind;
    hpa_t page;
};

static enum error leaf_set(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                           mirror_slot_t *slot, struct leaf_source source)
{
    struct mirror_entry old = mirror_slot_read(slot);
    if (mirror_entry_is_present(old))
        return source.kind == LEAF_PENDING ? OK : ERR_EXISTS;
    if (!mirror_slot_freeze(slot, mirror_entry_none)) {
        mirror->stats.races_lost++;
        return ERR_BUSY;
    }

    hpa_t page = page_cache_take(&caches->private_pages);
    enum error error = source.kind == LEAF_PENDING
                           ? mirror->ops->set_leaf(mirror->owner, frame, LEVEL_4K, page)
                           : mirror->ops->add_leaf(mirror->owner, frame, page, source.page);
    if (error) {
        mirror_slot_publish(slot, mirror_entry_none);
        page_cache_return(&caches->private_pages, page);
        return change_failed(mirror, error);
    }
    mirror->stats.leaves++;
    mirror_slot_publish(slot, mirror_entry_leaf(page));
    return OK;
}

/* With the lock shared: down from the root, linking what is missing, to the leaf. */
static enum error map_locked(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                             struct leaf_source source)
{
    hpa_t table = mirror->root;
    for (enum level level = MIRROR_ROOT_LEVEL; level > LEVEL_4K; level--) {
        mirror_slot_t *slot = mirror_slot(table, level_index(frame, level));
        struct mirror_entry entry = mirror_slot_read(slot);
        if (mirror_entry_is_frozen(entry)) {
            mirror->stats.races_lost++;
            return ERR_BUSY;
        }
        if (!mirror_entry_is_present(entry)) {
            enum error error = table_link(mirror, caches, table, frame, level);
            if (error)
                return error;
            entry = mirror_slot_read(slot);
        }
        table = mirror_entry_address(entry);
    }
    return leaf_set(mirror, caches, frame, mirror_slot(table, level_index(frame, LEVEL_4K)),
                    source);
}

static enum error map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                      struct leaf_source source)
{
    if (frame.raw >= mirror->frames)
        return ERR_RANGE;
    enum error error = vcpu_caches_fill(caches);
    if (error)
        return error;
    lock_share(&mirror->lock);
    error = map_locked(mirror, caches, frame, source);
    lock_unshare(&mirror->lock);
    return error;
}

enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame)
{
    return map(mirror, caches, frame, (struct leaf_source){LEAF_PENDING, HPA_NONE});
}

enum error mirror_add(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, hpa_t source)
{
    return map(mirror, caches, frame, (struct leaf_source){LEAF_COPIED, source});
}

enum error mirror_corrupt_for_test(struct mirror *mirror, gfn_t frame)
{
    enum level missing;
    mirror_slot_t *slot = frame.raw < mirror->frames ? mirror_walk(mirror, frame, &missing) : NULL;
    if (!slot || !mirror_entry_is_present(mirror_slot_read(slot)))
        return ERR_NOT_FOUND;
    /* Another page than the module has there. */
    atomic_fetch_xor(slot, PAGE_BYTES);
    return OK;
}
