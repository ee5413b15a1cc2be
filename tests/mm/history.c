/* SPDX-License-Identifier: MIT */
#include "tests/mm/history.h"

#include "tests/host/cmocka.h"

#include <stdio.h>
#include <string.h>

#include "mm/mirror_entry.h"
#include "tests/host/machine.h"
#include "tests/mm/history_seam.h"

#define HISTORY_PAGES_MAX 4096
#define STORES_TOLD 6 /* of the last ones, when the test fails */

struct store {
    hpa_t address;
    u64 before, after;
};

static struct {
    struct model *model; /* null: nothing is looked at */
    u64 pages;
    const char *name;
    bool owner_called; /* since the last walk: what did not change in the mirror may be wrong */
    /* A plain store is told before it happens: it is looked at with the next call. */
    bool pending;
    struct store stores[STORES_TOLD]; /* a ring */
    u64 store_count;
    u64 walks;
    /* By page: the last walk to reach it, and its words then. */
    u64 reached_by[HISTORY_PAGES_MAX];
    u64 words[HISTORY_PAGES_MAX][TABLE_ENTRIES];
} history;

enum entry_state {
    STATE_ABSENT,
    STATE_FROZEN,
    STATE_BLOCKED,
    STATE_TABLE,
    STATE_LEAF,
    STATES,
};

static const char *const state_names[STATES] = {"absent", "frozen", "blocked", "a table", "a leaf"};

/* A word becomes frozen and stays what it was but for that; only a frozen one becomes another. */
static const bool can_become[STATES][STATES] = {
    [STATE_ABSENT] = {[STATE_FROZEN] = true},
    [STATE_BLOCKED] = {[STATE_FROZEN] = true},
    [STATE_TABLE] = {[STATE_FROZEN] = true},
    [STATE_LEAF] = {[STATE_FROZEN] = true},
    [STATE_FROZEN] =
        {[STATE_ABSENT] = true, [STATE_BLOCKED] = true, [STATE_TABLE] = true, [STATE_LEAF] = true},
};

static enum entry_state entry_state(struct mirror_entry entry, enum level level)
{
    if (entry_is_absent(entry))
        return STATE_ABSENT;
    if (entry_is_frozen(entry))
        return STATE_FROZEN;
    if (entry_is_blocked(entry))
        return STATE_BLOCKED;
    return entry_is_leaf(entry, level) ? STATE_LEAF : STATE_TABLE;
}

/* One entry as the walk meets it. */
struct met {
    gfn_t frame;
    enum level level;
    struct mirror_entry entry;
};

static void wrong(const struct met *met, const char *what)
{
    u64 first = history.store_count > STORES_TOLD ? history.store_count - STORES_TOLD : 0;
    for (u64 i = first; i < history.store_count; i++) {
        const struct store *store = &history.stores[i % STORES_TOLD];
        fprintf(stderr, "stored at %#llx: %#llx, before it %#llx\n",
                (unsigned long long)store->address.raw, (unsigned long long)store->after,
                (unsigned long long)store->before);
    }
    history.model = NULL;
    fail_msg("%s: entry %#llx of frame %#llx at level %u: %s", history.name,
             (unsigned long long)met->entry.raw, (unsigned long long)met->frame.raw, met->level,
             what);
}

static void transition_check(const struct met *met, struct mirror_entry before)
{
    enum entry_state from = entry_state(before, met->level);
    enum entry_state to = entry_state(met->entry, met->level);
    char what[64];
    if (!can_become[from][to]) {
        snprintf(what, sizeof what, "it was %s and is %s now", state_names[from], state_names[to]);
        wrong(met, what);
    }
    if (to == STATE_FROZEN && met->entry.raw != (before.raw | ENTRY_FROZEN))
        wrong(met, "freezing it changed more of it");
}

static void leaf_check(const struct met *met, const struct model_entry *external)
{
    hpa_t page = entry_page(met->entry);
    if (!external || external->state == EXTERNAL_TABLE)
        wrong(met, "a leaf that is not mapped in the external table");
    if (external->blocked)
        wrong(met, "a leaf that is blocked in the external table");
    if (!hpa_equal(external->page, page))
        wrong(met, "another page than in the external table");
    if (page_owner(page) != PAGE_PRIVATE)
        wrong(met, "its page is not private memory");
}

static void table_check(const struct met *met, const struct model_entry *external)
{
    hpa_t table = entry_page(met->entry);
    if (!external || external->state != EXTERNAL_TABLE)
        wrong(met, "a table that is not linked in the external table");
    if (external->blocked)
        wrong(met, "a table that is blocked in the external table");
    if (page_owner(table) != PAGE_MIRROR_TABLE)
        wrong(met, "its page is not a mirror table");
    if (!hpa_equal(page_partner(table), external->page))
        wrong(met, "its partner is not the table that is linked");
}

static void entry_check(const struct met *met)
{
    const struct model_entry *external = model_entry_find(history.model, met->frame, met->level);
    switch (entry_state(met->entry, met->level)) {
    case STATE_ABSENT: /* a walker would map it */
        if (external)
            wrong(met, "absent, but there in the external table");
        break;
    case STATE_BLOCKED:
        if (!external || !external->blocked)
            wrong(met, "blocked, but not in the external table");
        break;
    case STATE_TABLE:
        table_check(met, external);
        break;
    case STATE_LEAF:
        leaf_check(met, external);
        break;
    default: /* a walker goes away: it is the changer's alone */
        break;
    }
}

static u64 page_number(hpa_t page)
{
    return (page.raw - HOST_MEMORY_START) / PAGE_BYTES;
}

/* Calls itself once a level at most. */
static void table_walk(hpa_t table, gfn_t first, enum level level)
{
    mirror_slot *slots = phys_to_virt(table);
    u64 *known = history.words[page_number(table)];
    u64 *reached_by = &history.reached_by[page_number(table)];
    /* What was not to be reached a moment ago may have become anything. */
    bool is_known = *reached_by + 1 == history.walks;
    *reached_by = history.walks;
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        struct met met = {gfn(first.raw + i * level_pages(level)), level, slot_read(&slots[i])};
        bool is_table = entry_state(met.entry, level) == STATE_TABLE;
        bool is_same = is_known && known[i] == met.entry.raw;
        if (is_known && !is_same)
            transition_check(&met, (struct mirror_entry){known[i]});
        known[i] = met.entry.raw;
        /* A table's page could have been freed. */
        if (!is_same || is_table || history.owner_called)
            entry_check(&met);
        if (is_table)
            table_walk(entry_page(met.entry), met.frame, level - 1);
    }
}

static void look(void)
{
    history.pending = false;
    if (!history.model || hpa_is_none(history.model->mirror.root))
        return;
    history.walks++;
    table_walk(history.model->mirror.root, gfn(0), LEVEL_512G);
    history.owner_called = false;
}

/* --- What the instrumented sources tell ------------------------------------------------------ */

static bool is_in_table(const void *address)
{
    hpa_t at = virt_to_phys(address);
    if (!history.model || at.raw - HOST_MEMORY_START >= history.pages * PAGE_BYTES)
        return false;
    return page_owner(hpa(align_down(at.raw, PAGE_BYTES))) == PAGE_MIRROR_TABLE;
}

static void store_note(const void *address, u64 before, u64 after)
{
    history.stores[history.store_count++ % STORES_TOLD] =
        (struct store){virt_to_phys(address), before, after};
}

void seam_store_follows(const void *address)
{
    seam_nothing_follows();
    if (!is_in_table(address))
        return;
    look();
    const u64 *word = (const u64 *)align_down((u64)address, sizeof(u64));
    store_note(word, *word, *word);
    history.pending = true;
}

void seam_nothing_follows(void)
{
    if (!history.pending)
        return;
    struct store *last = &history.stores[(history.store_count - 1) % STORES_TOLD];
    last->after = *(const u64 *)phys_to_virt(last->address);
    look();
}

void seam_atomic_follows(const void *address)
{
    seam_nothing_follows();
    if (is_in_table(address))
        look();
}

void seam_atomic_done(const void *address, u64 before, u64 after)
{
    if (!is_in_table(address))
        return;
    store_note(address, before, after);
    look();
}

/* --- The owner of the external table ---------------------------------------------------------- */

static enum error answered(enum error error)
{
    history.owner_called = true;
    look();
    return error;
}

static enum error link_table(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t table)
{
    look();
    return answered(model_ops.link_table(owner, caches, frame, level, table));
}

static enum error add_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                           hpa_t source)
{
    look();
    return answered(model_ops.add_leaf(owner, caches, frame, page, source));
}

static enum error set_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                           hpa_t page)
{
    look();
    return answered(model_ops.set_leaf(owner, caches, frame, level, page));
}

/* A look between each two entries of a row: the module is seen there, too. */
static enum error row_ask(void *owner, struct entry_row *row,
                          enum error (*ask)(void *owner, struct entry_row *row))
{
    enum error error = OK;
    look();
    while (!error && row->count) {
        struct entry_row one = *row;
        one.count = 1;
        error = answered(ask(owner, &one));
        entry_row_advance(row, !error);
    }
    return error;
}

static enum error block(void *owner, struct entry_row *row)
{
    return row_ask(owner, row, model_ops.block);
}

static enum error track(void *owner)
{
    look();
    return answered(model_ops.track(owner));
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    look();
    return answered(model_ops.unblock(owner, frame, level));
}

static enum error remove_row(void *owner, struct entry_row *row)
{
    return row_ask(owner, row, model_ops.remove);
}

static enum error unlink_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    look();
    return answered(model_ops.unlink_table(owner, frame, level, table));
}

static enum error demote(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                         hpa_t page, hpa_t table)
{
    look();
    return answered(model_ops.demote(owner, caches, frame, level, page, table));
}

static enum error promote(void *owner, gfn_t frame, enum level level, hpa_t page, hpa_t table)
{
    look();
    return answered(model_ops.promote(owner, frame, level, page, table));
}

static struct mirror_ops history_ops;

void history_begin(struct model *model, u64 pages, const char *name)
{
    assert_true(pages <= HISTORY_PAGES_MAX);
    memset(history.reached_by, 0, sizeof history.reached_by);
    history.walks = 1;
    history.store_count = 0;
    history.pages = pages;
    history.name = name;
    history.model = model;
    history_ops = model_ops;
    history_ops.link_table = link_table;
    history_ops.add_leaf = add_leaf;
    history_ops.set_leaf = set_leaf;
    history_ops.block = block;
    history_ops.track = track;
    history_ops.unblock = unblock;
    history_ops.remove = remove_row;
    history_ops.unlink_table = unlink_table;
    history_ops.demote = demote;
    history_ops.promote = promote;
    model->mirror.ops = &history_ops;
    look();
}

void history_end(void)
{
    seam_nothing_follows();
    history.owner_called = true; /* once more in full */
    look();
    history.model = NULL;
}

u64 history_stores(void)
{
    return history.store_count;
}
