/* SPDX-License-Identifier: MIT */
/*
 * Random walks through the life of several TDs. A walk is a list of operations whose numbers mean
 * something whatever came before, so that any of them may be left out.
 */
#ifndef TESTS_TDX_WALK_H
#define TESTS_TDX_WALK_H

#include <stdio.h>

#include "boot/types.h"

#define WALK_TDS 3
#define WALK_FRAMES 65536u /* of each TD: 256 MiB */
#define WALK_CHAPTER 5000u /* operations between two fresh starts */
#define WALK_ERRORS_LIMIT 16

enum walk_kind {
#define WALK_OP(kind, name, weight) WALK_##kind,
#include "tests/tdx/walk.def"
#undef WALK_OP
    WALK_KINDS,
};

struct walk_op {
    enum walk_kind kind;
    u32 td;
    u32 frame, length; /* frames */
    u32 level;
    u32 extra;
};

/* A generator of its own: the same walk from the same seed everywhere. */
struct walk_random {
    u64 state;
};
u64 walk_random_next(struct walk_random *random);

void walk_op_generate(struct walk_random *random, struct walk_op *op);
void walk_op_print(FILE *file, const struct walk_op *op);
const char *walk_kind_name(enum walk_kind kind);
/* One line of walk_op_print's; false: it is none. */
bool walk_op_parse(const char *line, struct walk_op *op);

/* What a walk has met, seen from outside its process. */
struct walk_progress {
    u32 begun;                               /* operations */
    u32 ends[WALK_KINDS][WALK_ERRORS_LIMIT]; /* by enum error */
    u32 accepted_large, refusals;
};

/*
 * From a fresh start, all of them. A difference from the reference ends the process with a line on
 * standard error, as the sanitizers do.
 */
void walk_run(const struct walk_op *ops, u32 count, volatile struct walk_progress *progress);

/*
 * Runs the walk in a process of its own: true if all went well. *progress is as far as it came;
 * without `verbose` nothing is printed.
 */
bool walk_survives(const struct walk_op *ops, u32 count, bool verbose,
                   struct walk_progress *progress);
/* Leaves out of a failing walk what its failure does not need; returns how many are left. */
u32 walk_shrink(struct walk_op *ops, u32 count, u32 limit_s);

/* The mode of the module in the walks that follow. */
extern bool walk_pamt_is_dynamic;

#endif
