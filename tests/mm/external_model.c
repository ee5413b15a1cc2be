/* SPDX-License-Identifier: MIT */
#include "tests/mm/external_model.h"

#include <stdlib.h>
#include <string.h>

#include "boot/assert.h"
#include "boot/paging.h"
#include "boot/phys.h"
#include "mm/mirror_table.h"

void model_reset(struct model *model, struct mirror *mirror)
{
    memset(model, 0, sizeof *model);
    model->mirror = mirror;
    model->epoch = 1;
}

void model_fail(struct model *model, enum model_call call, u32 at, u32 times, enum error with)
{
    model->fail_call = call;
    model->fail_at = at;
    model->fail_times = times;
    model->fail_with = with;
}

struct model_entry *model_find(struct model *model, u64 frame, enum level level)
{
    frame = align_down(frame, level_pages(level));
    for (u32 i = 0; i < MODEL_ENTRIES; i++)
        if (model->entries[i].used && model->entries[i].frame == frame &&
            model->entries[i].level == level)
            return &model->entries[i];
    return NULL;
}

static u64 count(const struct model *model, bool leaf)
{
    u64 sum = 0;
    for (u32 i = 0; i < MODEL_ENTRIES; i++)
        sum += model->entries[i].used && model->entries[i].leaf == leaf;
    return sum;
}

u64 model_leaves(const struct model *model)
{
    return count(model, true);
}

u64 model_tables(const struct model *model)
{
    return count(model, false);
}

static enum error answer(struct model *model, enum model_call call)
{
    model->calls[call]++;
    if (!model->fail_at || model->fail_call != call)
        return OK;
    if (model->fail_at > 1) {
        model->fail_at--;
        return OK;
    }
    if (model->fail_times == 0)
        return OK;
    model->fail_times--;
    return model->fail_with;
}

/* The slot of the mirror's entry at `level`; the tables above it are there. */
static struct mirror_entry mirror_entry_at(struct model *model, u64 frame, enum level level)
{
    hpa_t table = model->mirror->root;
    for (enum level at = LEVEL_512G; at > level; at--) {
        struct mirror_entry entry =
            mirror_slot_read(mirror_slot(table, level_index(gfn(frame), at)));
        ASSERT(mirror_entry_is_present(entry));
        table = mirror_entry_address(entry);
    }
    return mirror_slot_read(mirror_slot(table, level_index(gfn(frame), level)));
}

static enum error insert(struct model *model, u64 frame, enum level level, struct model_entry entry)
{
    /* Invariants 1, 2, 4: while we are asked, the entry is frozen, not published. */
    ASSERT(mirror_entry_is_frozen(mirror_entry_at(model, frame, level)));
    /* Invariant 5: the ancestors are there. */
    for (enum level above = level + 1; above <= LEVEL_512G; above++)
        ASSERT(model_find(model, frame, above) && !model_find(model, frame, above)->leaf);
    ASSERT(!model_find(model, frame, level));
    ASSERT(!model->key_free);
    if (model->inside)
        model->inside(model, frame);
    for (u32 i = 0; i < MODEL_ENTRIES; i++) {
        if (model->entries[i].used)
            continue;
        entry.used = true;
        entry.frame = align_down(frame, level_pages(level));
        entry.level = level;
        model->entries[i] = entry;
        paging_hide_page(entry.page);
        return OK;
    }
    abort();
}

static enum error link_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_LINK_TABLE);
    ASSERT(level >= LEVEL_2M);
    return error ? error
                 : insert(model, frame.raw, level,
                          (struct model_entry){.state = EXTERNAL_TABLE, .page = table});
}

static enum error add_leaf(void *owner, gfn_t frame, hpa_t page, hpa_t source)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_ADD_LEAF);
    if (error)
        return error;
    memcpy(phys_to_virt(page), phys_to_virt(source), PAGE_BYTES);
    return insert(model, frame.raw, LEVEL_4K,
                  (struct model_entry){.state = EXTERNAL_MAPPED, .leaf = true, .page = page});
}

static enum error set_leaf(void *owner, gfn_t frame, enum level level, hpa_t page)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_SET_LEAF);
    ASSERT(level == LEVEL_4K);
    return error ? error
                 : insert(
                       model, frame.raw, LEVEL_4K,
                       (struct model_entry){.state = EXTERNAL_PENDING, .leaf = true, .page = page});
}

static enum error block(void *owner, gfn_t frame, enum level level)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_BLOCK);
    if (error)
        return error;
    struct model_entry *entry = model_find(model, frame.raw, level);
    ASSERT(entry && entry->state != EXTERNAL_BLOCKED);
    entry->state = EXTERNAL_BLOCKED;
    entry->blocked_epoch = model->epoch;
    return OK;
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_UNBLOCK);
    if (error)
        return error;
    struct model_entry *entry = model_find(model, frame.raw, level);
    ASSERT(entry && entry->state == EXTERNAL_BLOCKED);
    entry->state = EXTERNAL_MAPPED;
    return OK;
}

static enum error track(void *owner)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_TRACK);
    if (!error)
        model->epoch++;
    return error;
}

static enum error remove_leaf(void *owner, gfn_t frame, enum level level, hpa_t page)
{
    struct model *model = owner;
    ASSERT(mirror_entry_is_frozen(mirror_entry_at(model, frame.raw, level)));
    enum error error = answer(model, MODEL_REMOVE_LEAF);
    if (error)
        return error;
    struct model_entry *entry = model_find(model, frame.raw, level);
    /* Invariants 17 and 20. */
    ASSERT(entry && entry->state == EXTERNAL_BLOCKED && entry->blocked_epoch < model->epoch);
    ASSERT(hpa_equal(entry->page, page) && !model->key_free);
    entry->used = false;
    paging_show_page(page);
    return OK;
}

static void hold_vcpus(void *owner)
{
    struct model *model = owner;
    ASSERT(!model->held);
    model->held = true;
    model->holds++;
}

static void release_vcpus(void *owner)
{
    struct model *model = owner;
    ASSERT(model->held);
    model->held = false;
    model->releases++;
}

static enum error reclaim_page(void *owner, hpa_t page)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_RECLAIM);
    ASSERT(model->key_free);
    if (error)
        return error;
    for (u32 i = 0; i < MODEL_ENTRIES; i++) {
        if (!model->entries[i].used || !hpa_equal(model->entries[i].page, page))
            continue;
        model->entries[i].used = false;
        paging_show_page(page);
        return OK;
    }
    abort(); /* never handed over: invariant 22 */
}

static enum error read_entry(void *owner, gfn_t frame, enum level level,
                             struct external_entry *entry)
{
    struct model *model = owner;
    enum error error = answer(model, MODEL_READ);
    if (error)
        return error;
    struct model_entry *found = model_find(model, frame.raw, level);
    *entry = (struct external_entry){EXTERNAL_FREE, HPA_NONE};
    if (found)
        *entry = (struct external_entry){found->state, found->leaf ? found->page : HPA_NONE};
    return OK;
}

const struct mirror_ops model_ops = {
    .link_table = link_table,
    .add_leaf = add_leaf,
    .set_leaf = set_leaf,
    .block = block,
    .unblock = unblock,
    .track = track,
    .remove_leaf = remove_leaf,
    .hold_vcpus = hold_vcpus,
    .release_vcpus = release_vcpus,
    .reclaim_page = reclaim_page,
    .read_entry = read_entry,
};
