/* SPDX-License-Identifier: MIT */
#include "tests/mm/external_model.h"

#include "tests/host/cmocka.h"

#include <string.h>

#include "mm/mirror_entry.h"
#include "tests/host/machine.h"

static struct pages_stats at_start;

static u32 slot_of(gfn_t frame, enum level level)
{
    u64 key = frame.raw * 4 + level;
    return (u32)((key * 0x9e3779b97f4a7c15ull) >> 50) % MODEL_ENTRIES_MAX;
}

struct model_entry *model_entry_find(struct model *model, gfn_t frame, enum level level)
{
    for (u32 i = slot_of(frame, level); model->entries[i].used; i = (i + 1) % MODEL_ENTRIES_MAX) {
        struct model_entry *entry = &model->entries[i];
        if (entry->level == level && entry->frame.raw == frame.raw)
            return entry;
    }
    return NULL;
}

static gfn_t aligned(gfn_t frame, enum level level)
{
    return gfn(align_down(frame.raw, level_pages(level)));
}

struct model_entry *model_leaf_find(struct model *model, gfn_t frame)
{
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS; level++) {
        struct model_entry *entry = model_entry_find(model, aligned(frame, level), level);
        if (entry && entry->state != EXTERNAL_TABLE)
            return entry;
    }
    return NULL;
}

hpa_t model_walk(struct model *model, gfn_t frame)
{
    enum level level;
    struct mirror_entry entry = slot_read(slot_find(&model->mirror, frame, LEVEL_4K, &level));
    if (!entry_is_present(entry))
        return HPA_NONE;
    return hpa(entry_page(entry).raw + (frame.raw % level_pages(level)) * PAGE_BYTES);
}

static void page_mark(struct model *model, hpa_t first, enum level level, bool given)
{
    for (u64 i = 0; i < level_pages(level); i++) {
        u64 page = (first.raw - HOST_MEMORY_START) / PAGE_BYTES + i;
        assert_true(page < MODEL_PAGES_MAX);
        assert_int_equal(model->page_is_given[page], !given);
        model->page_is_given[page] = given;
    }
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
        struct model_entry *entry = model_entry_find(model, aligned(frame, above), above);
        assert_non_null(entry);
        assert_int_equal(entry->state, EXTERNAL_TABLE);
        assert_false(entry->blocked);
    }
}

static struct model_entry *entry_new(struct model *model, gfn_t frame, enum level level, hpa_t page,
                                     enum external_state state)
{
    assert_true(is_aligned(frame.raw, level_pages(level)));
    assert_true(frame.raw < 1ull << (MODEL_GPA_BITS - PAGE_SHIFT));
    ancestors_check(model, frame, level);
    assert_null(model_entry_find(model, frame, level));
    u32 at = slot_of(frame, level), tried = 0;
    while (model->entries[at].used) {
        at = (at + 1) % MODEL_ENTRIES_MAX;
        assert_true(++tried < MODEL_ENTRIES_MAX / 2);
    }
    model->entries[at] = (struct model_entry){
        .used = true, .level = level, .frame = frame, .page = page, .state = state};
    return &model->entries[at];
}

/* Takes it out, and puts what its place held back behind it. */
static void entry_drop(struct model *model, struct model_entry *entry)
{
    entry->used = false;
    u32 at = (u32)(entry - model->entries);
    for (at = (at + 1) % MODEL_ENTRIES_MAX; model->entries[at].used;
         at = (at + 1) % MODEL_ENTRIES_MAX) {
        struct model_entry moved = model->entries[at];
        model->entries[at].used = false;
        u32 to = slot_of(moved.frame, moved.level);
        while (model->entries[to].used)
            to = (to + 1) % MODEL_ENTRIES_MAX;
        model->entries[to] = moved;
    }
}

static void look_inside(struct model *model, gfn_t frame)
{
    assert_true(hpa_is_none(model_walk(model, frame)));
    if (model->inside)
        model->inside(model, frame);
}

static enum error link_table(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t table)
{
    struct model *model = owner;
    (void)caches;
    look_inside(model, frame);
    assert_int_equal(page_owner(table), PAGE_EXTERNAL);
    enum error error = answer(model, OP_LINK);
    if (!error) {
        entry_new(model, frame, level, table, EXTERNAL_TABLE);
        page_mark(model, table, LEVEL_4K, true);
    }
    return error;
}

static enum error add_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                           hpa_t source)
{
    struct model *model = owner;
    (void)caches;
    look_inside(model, frame);
    assert_int_equal(page_owner(page), PAGE_PRIVATE);
    assert_false(hpa_is_none(source));
    enum error error = answer(model, OP_ADD);
    if (!error) {
        entry_new(model, frame, LEVEL_4K, page, EXTERNAL_MAPPED);
        page_mark(model, page, LEVEL_4K, true);
    }
    return error;
}

static enum error set_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                           hpa_t page)
{
    struct model *model = owner;
    (void)caches;
    look_inside(model, frame);
    assert_true(page_is_owned(page, level, PAGE_PRIVATE));
    assert_true(is_aligned(page.raw, level_bytes(level)));
    enum error error = answer(model, OP_SET);
    if (!error) {
        entry_new(model, frame, level, page, EXTERNAL_PENDING);
        page_mark(model, page, level, true);
    }
    return error;
}

/* A row lies under one table; only of leaves there are several. */
static void row_check(struct model *model, enum model_op op, const struct entry_row *row)
{
    model->rows[op]++;
    assert_true(row->count >= 1);
    assert_true(level_index(row->frame, row->level) + row->count <= TABLE_ENTRIES);
    assert_true(is_aligned(row->frame.raw, level_pages(row->level)));
}

static enum error block_one(struct model *model, const struct entry_row *row)
{
    assert_true(hpa_is_none(model_walk(model, row->frame)));
    assert_false(model->key_freed);
    ancestors_check(model, row->frame, row->level);
    enum error error = answer(model, OP_BLOCK);
    struct model_entry *entry = model_entry_find(model, row->frame, row->level);
    assert_non_null(entry);
    assert_false(entry->blocked);
    if (entry->state != EXTERNAL_TABLE)
        assert_int_equal(entry->page.raw, row->page.raw);
    if (!error) {
        entry->blocked = true;
        entry->blocked_epoch = model->epoch;
    }
    return error;
}

static enum error block(void *owner, struct entry_row *row)
{
    enum error error = OK;
    row_check(owner, OP_BLOCK, row);
    while (!error && row->count) {
        error = block_one(owner, row);
        entry_row_advance(row, !error);
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

/* An entry that was blocked and tracked, with nothing of it present in the mirror. */
static struct model_entry *entry_blocked(struct model *model, gfn_t frame, enum level level)
{
    assert_true(hpa_is_none(model_walk(model, frame)));
    assert_false(model->key_freed);
    struct model_entry *entry = model_entry_find(model, frame, level);
    assert_non_null(entry);
    assert_true(entry->blocked);
    return entry;
}

static struct model_entry *entry_tracked(struct model *model, gfn_t frame, enum level level)
{
    struct model_entry *entry = entry_blocked(model, frame, level);
    assert_true(entry->blocked_epoch < model->epoch);
    return entry;
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    struct model *model = owner;
    enum error error = answer(model, OP_UNBLOCK);
    struct model_entry *entry = entry_blocked(model, frame, level);
    if (entry->blocked_epoch == model->epoch)
        return ERR_REFUSED;
    if (!error)
        entry->blocked = false;
    return error;
}

static enum error remove_one(struct model *model, const struct entry_row *row)
{
    enum error error = answer(model, OP_REMOVE);
    struct model_entry *entry = entry_tracked(model, row->frame, row->level);
    assert_int_not_equal(entry->state, EXTERNAL_TABLE);
    assert_int_equal(entry->page.raw, row->page.raw);
    if (!error) {
        entry_drop(model, entry);
        page_mark(model, row->page, row->level, false);
    }
    return error;
}

static enum error remove_row(void *owner, struct entry_row *row)
{
    enum error error = OK;
    row_check(owner, OP_REMOVE, row);
    while (!error && row->count) {
        error = remove_one(owner, row);
        entry_row_advance(row, !error);
    }
    return error;
}

/* The child number `index` of an entry; null: absent. */
static struct model_entry *child_find(struct model *model, const struct model_entry *entry,
                                      u32 index)
{
    enum level below = entry->level - 1;
    return model_entry_find(model, gfn(entry->frame.raw + index * level_pages(below)), below);
}

static enum error unlink_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    struct model *model = owner;
    enum error error = answer(model, OP_UNLINK);
    struct model_entry *entry = entry_tracked(model, frame, level);
    assert_int_equal(entry->state, EXTERNAL_TABLE);
    assert_true(hpa_equal(entry->page, table));
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        assert_null(child_find(model, entry, i));
    if (!error) {
        entry_drop(model, entry);
        page_mark(model, table, LEVEL_4K, false);
    }
    return error;
}

static enum error demote(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                         hpa_t page, hpa_t table)
{
    struct model *model = owner;
    (void)caches;
    enum error error = answer(model, OP_DEMOTE);
    struct model_entry *entry = entry_tracked(model, frame, level);
    assert_int_equal(page_owner(table), PAGE_EXTERNAL);
    assert_int_not_equal(entry->state, EXTERNAL_TABLE);
    assert_true(level > LEVEL_4K && hpa_equal(entry->page, page));
    if (error)
        return error;
    enum external_state state = entry->state;
    page_mark(model, table, LEVEL_4K, true);
    entry->state = EXTERNAL_TABLE;
    entry->page = table;
    entry->blocked = false;
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        entry_new(model, gfn(frame.raw + i * level_pages(level - 1)), level - 1,
                  hpa(page.raw + i * level_bytes(level - 1)), state);
    return OK;
}

static enum error promote(void *owner, gfn_t frame, enum level level, hpa_t page, hpa_t table)
{
    struct model *model = owner;
    enum error error = answer(model, OP_PROMOTE);
    struct model_entry *entry = entry_tracked(model, frame, level);
    assert_int_equal(entry->state, EXTERNAL_TABLE);
    assert_true(hpa_equal(entry->page, table));
    assert_true(is_aligned(page.raw, level_bytes(level)));
    struct model_entry *first = child_find(model, entry, 0);
    assert_non_null(first);
    enum external_state state = first->state;
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct model_entry *child = child_find(model, entry, i);
        assert_non_null(child);
        assert_int_not_equal(child->state, EXTERNAL_TABLE);
        assert_false(child->blocked);
        assert_int_equal(child->page.raw, page.raw + i * level_bytes(level - 1));
        if (child->state != state)
            return ERR_STATE;
    }
    if (error)
        return error;
    gfn_t at = frame;
    for (u32 i = 0; i < TABLE_ENTRIES; i++, at.raw += level_pages(level - 1))
        entry_drop(model, model_entry_find(model, at, level - 1));
    entry = model_entry_find(model, frame, level);
    entry->state = state;
    entry->page = page;
    entry->blocked = false;
    page_mark(model, table, LEVEL_4K, false);
    return OK;
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

static enum error reclaim_one(struct model *model, hpa_t page, enum level level)
{
    assert_true(model->key_freed);
    enum error error = answer(model, OP_RECLAIM);
    for (u32 i = 0; i < MODEL_ENTRIES_MAX; i++) {
        struct model_entry *entry = &model->entries[i];
        if (!entry->used || !hpa_equal(entry->page, page))
            continue;
        assert_int_equal(level, entry->state == EXTERNAL_TABLE ? LEVEL_4K : entry->level);
        if (!error) {
            page_mark(model, page, level, false);
            entry_drop(model, entry);
        }
        return error;
    }
    fail_msg("page %#llx was never given", (unsigned long long)page.raw);
    return ERR_INVALID;
}

static enum error reclaim(void *owner, struct entry_row *row)
{
    enum error error = OK;
    row_check(owner, OP_RECLAIM, row);
    while (!error && row->count) {
        error = reclaim_one(owner, row->page, row->level);
        entry_row_advance(row, !error);
    }
    return error;
}

static enum error read_entry(void *owner, gfn_t frame, enum level level,
                             struct external_entry *external)
{
    struct model *model = owner;
    enum error error = answer(model, OP_READ);
    model->history_len--;
    if (error)
        return error;
    ancestors_check(model, frame, level);
    struct model_entry *entry = model_entry_find(model, frame, level);
    *external = (struct external_entry){EXTERNAL_FREE, HPA_NONE};
    if (!entry)
        return OK;
    external->state = entry->blocked ? EXTERNAL_BLOCKED : entry->state;
    if (entry->state != EXTERNAL_TABLE)
        external->page = entry->page;
    return OK;
}

const struct mirror_ops model_ops = {
    .link_table = link_table,
    .add_leaf = add_leaf,
    .set_leaf = set_leaf,
    .block = block,
    .track = track,
    .unblock = unblock,
    .remove = remove_row,
    .unlink_table = unlink_table,
    .demote = demote,
    .promote = promote,
    .hold_vcpus = hold_vcpus,
    .release_vcpus = release_vcpus,
    .reclaim = reclaim,
    .read_entry = read_entry,
};

void model_accept(struct model *model, gfn_t frame)
{
    struct model_entry *leaf = model_leaf_find(model, frame);
    assert_non_null(leaf);
    leaf->state = EXTERNAL_MAPPED;
}

void model_create(struct model *model, u64 pages)
{
    host_memory_create(pages * PAGE_BYTES);
    pages_reset_for_test();
    pages_add_range(hpa(HOST_MEMORY_START), hpa(HOST_MEMORY_START + pages * PAGE_BYTES));
    pages_statistics(&at_start);
    memset(model, 0, sizeof *model);
    vcpu_caches_init(&model->caches, 0);
    assert_int_equal(mirror_init(&model->mirror, MODEL_GPA_BITS, &model_ops, model), OK);
}

void model_destroy(struct model *model)
{
    model_calm(model);
    model->key_freed = true;
    assert_int_equal(mirror_destroy(&model->mirror), OK);
    vcpu_caches_drain(&model->caches);
    for (u32 i = 0; i < MODEL_ENTRIES_MAX; i++)
        assert_false(model->entries[i].used);
    struct pages_stats now;
    pages_statistics(&now);
    assert_memory_equal(&now, &at_start, sizeof now);
    host_memory_destroy();
}

/* What is counted by the owners of pages, by the mirror and by the model. */
static void counts_check(struct model *model)
{
    struct pages_stats stats;
    pages_statistics(&stats);
    u64 leaves[MIRROR_LEAF_LEVELS] = {0}, tables = 0, private_pages = 0;
    for (u32 i = 0; i < MODEL_ENTRIES_MAX; i++) {
        const struct model_entry *entry = &model->entries[i];
        if (!entry->used)
            continue;
        if (entry->state == EXTERNAL_TABLE) {
            tables++;
        } else {
            leaves[entry->level]++;
            private_pages += level_pages(entry->level);
        }
    }
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS; level++)
        assert_int_equal(model->mirror.stats.leaves[level], leaves[level]);
    assert_int_equal(model->mirror.stats.tables, tables);
    assert_int_equal(mirror_private_pages(&model->mirror), private_pages);
    const struct vcpu_caches *caches = &model->caches;
    assert_int_equal(stats.pages[PAGE_PRIVATE],
                     private_pages + caches->private_pages.count +
                         caches->private_large.count * level_pages(LEVEL_2M));
    assert_int_equal(stats.pages[PAGE_EXTERNAL], tables + caches->external_tables.count);
    assert_int_equal(stats.pages[PAGE_MIRROR_TABLE], 1 + tables + caches->mirror_tables.count);
}

void model_check(struct model *model)
{
    char message[AUDIT_MESSAGE_BYTES];
    if (mirror_audit(&model->mirror, message))
        fail_msg("audit: %s", message);
    counts_check(model);
    /* Table pages wait zeroed. */
    for (u32 i = 0; i < model->caches.mirror_tables.count; i++) {
        const u64 *words = phys_to_virt(model->caches.mirror_tables.pages[i]);
        for (u32 k = 0; k < TABLE_ENTRIES; k++)
            assert_int_equal(words[k], 0);
    }
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
    memset(model->rows, 0, sizeof model->rows);
    model->history_len = 0;
    model->fail_first = model->fail_last = 0;
}
