/* SPDX-License-Identifier: MIT */
/*
 * A model of the external table's owner, written from the rules and not from the mirror: a set of
 * entries, each with a state. A call against the rules fails the test at once. It answers as told
 * on the nth call of an op, and looks at the mirror from inside each op.
 */
#ifndef TESTS_MM_EXTERNAL_MODEL_H
#define TESTS_MM_EXTERNAL_MODEL_H

#include "mm/mirror.h"

enum model_op {
    OP_LINK,
    OP_ADD,
    OP_SET,
    OP_BLOCK,
    OP_TRACK,
    OP_UNBLOCK,
    OP_REMOVE,
    OP_UNLINK,
    OP_DEMOTE,
    OP_PROMOTE,
    OP_RECLAIM,
    OP_READ,
    OP_HOLD,
    OP_RELEASE,
    OP_KINDS,
};

#define MODEL_ENTRIES_MAX 16384 /* a power of two */
#define MODEL_HISTORY_MAX 16384
#define MODEL_PAGES_MAX (1 << 19)

struct model_entry {
    bool used;
    enum external_state state; /* TABLE, PENDING or MAPPED, whether blocked or not */
    bool blocked;
    enum level level;
    gfn_t frame;
    hpa_t page; /* of a leaf or a table */
    u64 blocked_epoch;
};

struct model {
    struct mirror mirror;
    struct vcpu_caches caches;
    struct model_entry entries[MODEL_ENTRIES_MAX]; /* hashed by level and frame */
    bool page_is_given[MODEL_PAGES_MAX];           /* from HOST_MEMORY_START on */
    u64 epoch;
    u32 calls[OP_KINDS]; /* of rows: entries, */
    u32 rows[OP_KINDS];  /* and the rows that were asked for */
    enum model_op history[MODEL_HISTORY_MAX];
    u32 history_len;
    bool key_freed, held;
    /* "Answer calls [fail_first, fail_last] of fail_op with fail_error", from 1; 0: none. */
    enum model_op fail_op;
    u32 fail_first, fail_last;
    enum error fail_error;
    /* Called inside each map op, as another processor. */
    void (*inside)(struct model *model, gfn_t frame);
};

#define MODEL_GPA_BITS 47
extern const struct mirror_ops model_ops;

/* Fresh memory of `pages` pages, allocator, mirror and caches. */
void model_create(struct model *model, u64 pages);
/* Everything is given back: the count of free pages is what it was. */
void model_destroy(struct model *model);
/* No frozen entry, mirror and model agree, page counts add up. */
void model_check(struct model *model);
void model_fail(struct model *model, enum model_op op, u32 first, u32 last, enum error error);
/* Forgets calls, history, and the failure that was ordered. */
void model_calm(struct model *model);
struct model_entry *model_entry_find(struct model *model, gfn_t frame, enum level level);
/* What the guest does: the pending leaf that maps `frame` is its own from then on. */
void model_accept(struct model *model, gfn_t frame);
/* The leaf that maps `frame`, at whatever level; null: none. */
struct model_entry *model_leaf_find(struct model *model, gfn_t frame);
/* How the mirror looks to a walker that takes no lock. */
hpa_t model_walk(struct model *model, gfn_t frame);

#endif
