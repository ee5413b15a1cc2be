/* SPDX-License-Identifier: MIT */
/*
 * An external page table for tests: a plain list of entries with rules of its own, which aborts
 * when the mirror breaks one, and answers BUSY or REFUSED when told to.
 */
#ifndef TESTS_MM_EXTERNAL_MODEL_H
#define TESTS_MM_EXTERNAL_MODEL_H

#include "mm/mirror.h"

enum model_call {
    MODEL_LINK_TABLE,
    MODEL_ADD_LEAF,
    MODEL_SET_LEAF,
    MODEL_BLOCK,
    MODEL_UNBLOCK,
    MODEL_TRACK,
    MODEL_REMOVE_LEAF,
    MODEL_RECLAIM,
    MODEL_READ,
    MODEL_CALLS,
};

#define MODEL_ENTRIES 8192

struct model_entry {
    bool used;
    u64 frame;
    enum level level;
    enum external_state state;
    bool leaf;
    hpa_t page;
    u64 blocked_epoch;
};

struct model {
    struct model_entry entries[MODEL_ENTRIES];
    u64 epoch;
    u32 calls[MODEL_CALLS];
    /* The fail_at-th call of kind `fail_call` from now on answers `fail_with`; 0: none. */
    enum model_call fail_call;
    u32 fail_at, fail_times;
    enum error fail_with;
    u32 holds, releases;
    bool held;
    bool key_free; /* reclaim is allowed, removal is not */
    struct mirror *mirror;
    void (*inside)(struct model *model, u64 frame); /* runs inside each map call */
};

extern const struct mirror_ops model_ops;

void model_reset(struct model *model, struct mirror *mirror);
void model_fail(struct model *model, enum model_call call, u32 at, u32 times, enum error with);
struct model_entry *model_find(struct model *model, u64 frame, enum level level);
u64 model_leaves(const struct model *model);
u64 model_tables(const struct model *model);

#endif
