/* SPDX-License-Identifier: MIT */
#include "tests/mm/external_model.h"

#include "tests/host/cmocka.h"

#include <string.h>

#include "tests/host/machine.h"

static struct pages_stats at_start;

struct model_entry *model_entry_find(struct model *model, gfn_t frame, enum level level)
{
    for (u32 i = 0; i < model->entry_count; i++) {
        struct model_entry *entry = &model->entries[i];
        if (entry->level == level && entry->frame.raw == frame.raw)
            return entry;
    }
    return NULL;
}

static enum error answer(struct model *model, enum model_op op)
{
    u32 nth = ++model->calls[op];
    assert_true(model->history_len < MODEL_HISTORY_MAX);
    model->history[model->history_len++] = op;
    if (op == model->fail_op && nth >= model->fail_first && nth <= model->fail_last)
        return model->fail_error;
    return OK;
}

static void ancestors_check(struct model *model, gfn_t frame, enum level level)
{
    for (enum level above = level + 1; above <= LEVEL_512G; above++) {
        struct model_entry *entry =
            model_entry_find(model, gfn(align_down(frame.raw, level_pages(above))), above);
        assert_non_null(entry);
        assert_int_equal(entry->state, EXTERNAL_TABLE);
    }
}

static struct model_entry *entry_new(struct model *model, gfn_t frame, enum level level, hpa_t page)
{
    assert_true(is_aligned(frame.raw, level_pages(level)));
    assert_true(frame.raw < 1ull << (MODEL_GPA_BITS - PAGE_SHIFT));
    ancestors_check(model, frame, level);
    assert_null(model_entry_find(model, frame, level));
    for (u32 i = 0; i < model->entry_count; i++)
        assert_false(hpa_equal(model->entries[i].page, page));
    assert_true(model->entry_count < MODEL_ENTRIES_MAX);
    struct model_entry *entry = &model->entries[model->entry_count++];
    *entry = (struct model_entry){.level = level, .frame = frame, .page = page};
    return entry;
}

static void look_inside(struct model *model, gfn_t frame)
{
    assert_true(hpa_is_none(mirror_lookup(&model->mirror, frame)));
    if (model->inside)
        model->inside(model, frame);
}

static enum error link_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    struct model *model = owner;
    look_inside(model, frame);
    assert_int_equal(page_owner(table), PAGE_EXTERNAL);
    enum error error = answer(model, OP_LINK);
    if (!error)
        entry_new(model, frame, level, table)->state = EXTERNAL_TABLE;
    return error;
}

static enum error add_leaf(void *owner, gfn_t frame, hpa_t page, hpa_t source)
{
    struct model *model = owner;
    look_inside(model, frame);
    assert_int_equal(page_owner(page), PAGE_PRIVATE);
    assert_false(hpa_is_none(source));
    enum error error = answer(model, OP_ADD);
    if (!error)
        entry_new(model, frame, LEVEL_4K, page)->state = EXTERNAL_MAPPED;
    return error;
}

static enum error set_leaf(void *owner, gfn_t frame, enum level level, hpa_t page)
{
    struct model *model = owner;
    look_inside(model, frame);
    assert_int_equal(page_owner(page), PAGE_PRIVATE);
    enum error error = answer(model, OP_SET);
    if (!error)
        entry_new(model, frame, level, page)->state = EXTERNAL_PENDING;
    return error;
}

static enum error block(void *owner, gfn_t frame, enum level level)
{
    struct model *model = owner;
    assert_true(hpa_is_none(mirror_lookup(&model->mirror, frame)));
    assert_false(model->key_freed);
    enum error error = answer(model, OP_BLOCK);
    struct model_entry *entry = model_entry_find(model, frame, level);
    assert_non_null(entry);
    assert_int_not_equal(entry->state, EXTERNAL_BLOCKED);
    if (!error) {
        entry->state = EXTERNAL_BLOCKED;
        entry->blocked_epoch = model->epoch;
    }
    return error;
}

static enum error track(void *owner)
{
    struct model *model = owner;
    enum error error = answer(model, OP_TRACK);
    if (!error)
        model->epoch++;
    return error;
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    struct model *model = owner;
    enum error error = answer(model, OP_UNBLOCK);
    struct model_entry *entry = model_entry_find(model, frame, level);
    assert_non_null(entry);
    assert_int_equal(entry->state, EXTERNAL_BLOCKED);
    if (entry->blocked_epoch == model->epoch)
        return ERR_REFUSED;
    if (!error)
        entry->state = EXTERNAL_MAPPED;
    return error;
}

static enum error remove_leaf(void *owner, gfn_t frame, enum level level, hpa_t page)
{
    struct model *model = owner;
    assert_true(hpa_is_none(mirror_lookup(&model->mirror, frame)));
    assert_false(model->key_freed);
    enum error error = answer(model, OP_REMOVE);
    struct model_entry *entry = model_entry_find(model, frame, level);
    assert_non_null(entry);
    assert_int_equal(entry->state, EXTERNAL_BLOCKED);
    assert_true(entry->blocked_epoch < model->epoch);
    assert_true(hpa_equal(entry->page, page));
    if (!error)
        *entry = model->entries[--model->entry_count];
    return error;
}

static void hold_vcpus(void *owner)
{
    struct model *model = owner;
    (void)!answer(model, OP_HOLD);
    assert_false(model->held);
    model->held = true;
}

static void release_vcpus(void *owner)
{
    struct model *model = owner;
    (void)!answer(model, OP_RELEASE);
    assert_true(model->held);
    model->held = false;
}

static enum error reclaim_page(void *owner, hpa_t page)
{
    struct model *model = owner;
    assert_true(model->key_freed);
    enum error error = answer(model, OP_RECLAIM);
    for (u32 i = 0; i < model->entry_count; i++) {
        if (!hpa_equal(model->entries[i].page, page))
            continue;
        if (!error)
            model->entries[i] = model->entries[--model->entry_count];
        return error;
    }
    fail_msg("page %#llx was never given", (unsigned long long)page.raw);
    return ERR_INVALID;
}

static enum error read_entry(void *owner, gfn_t frame, enum level level,
                             struct external_entry *external)
{
    struct model *model = owner;
    enum error error = answer(model, OP_READ);
    model->history_len--;
    if (error)
        return error;
    struct model_entry *entry = model_entry_find(model, frame, level);
    *external = (struct external_entry){EXTERNAL_FREE, HPA_NONE};
    if (entry)
        *external = (struct external_entry){
            entry->state, entry->state == EXTERNAL_TABLE ? HPA_NONE : entry->page};
    return OK;
}

const struct mirror_ops model_ops = {
    .link_table = link_table,
    .add_leaf = add_leaf,
    .set_leaf = set_leaf,
    .block = block,
    .track = track,
    .unblock = unblock,
    .remove_leaf = remove_leaf,
    .hold_vcpus = hold_vcpus,
    .release_vcpus = release_vcpus,
    .reclaim_page = reclaim_page,
    .read_entry = read_entry,
};

void model_create(struct model *model, u64 pages)
{
    host_memory_create(pages * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + pages * PAGE_BYTES));
    pages_statistics(&at_start);
    *model = (struct model){};
    vcpu_caches_init(&model->caches);
    assert_int_equal(mirror_init(&model->mirror, MODEL_GPA_BITS, &model_ops, model), OK);
}

void model_destroy(struct model *model)
{
    model_calm(model);
    model->key_freed = true;
    assert_int_equal(mirror_destroy(&model->mirror), OK);
    vcpu_caches_drain(&model->caches);
    assert_int_equal(model->entry_count, 0);
    struct pages_stats now;
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    host_memory_destroy();
}

void model_check(struct model *model)
{
    char message[AUDIT_MESSAGE_BYTES];
    if (mirror_audit(&model->mirror, message))
        fail_msg("audit: %s", message);
    struct pages_stats stats;
    pages_statistics(&stats);
    u64 leaves = 0, tables = 0;
    for (u32 i = 0; i < model->entry_count; i++) {
        tables += model->entries[i].state == EXTERNAL_TABLE;
        leaves += model->entries[i].state != EXTERNAL_TABLE;
    }
    assert_int_equal(model->mirror.stats.leaves, leaves);
    assert_int_equal(model->mirror.stats.tables, tables);
    assert_int_equal(stats.pages[PAGE_PRIVATE], leaves + model->caches.private_pages.count);
    assert_int_equal(stats.pages[PAGE_EXTERNAL], tables + model->caches.external_tables.count);
    assert_int_equal(stats.pages[PAGE_MIRROR_TABLE],
                     1 + tables + model->caches.mirror_tables.count);
    assert_false(model->held);
}

void model_fail(struct model *model, enum model_op op, u32 first, u32 last, enum error error)
{
    model_calm(model);
    model->fail_op = op;
    model->fail_first = first;
    model->fail_last = last;
    model->fail_error = error;
}

void model_calm(struct model *model)
{
    memset(model->calls, 0, sizeof model->calls);
    model->history_len = 0;
    model->fail_first = model->fail_last = 0;
}
