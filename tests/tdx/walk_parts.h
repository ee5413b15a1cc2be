/* SPDX-License-Identifier: MIT */
/* A walk's operations: each ends as the reference allows, or the process ends (walk_fail). */
#ifndef TESTS_TDX_WALK_PARTS_H
#define TESTS_TDX_WALK_PARTS_H

#include "tests/tdx/walk_reference.h"

/* The call that was to fail has failed. */
bool walk_was_refused(void);
extern volatile struct walk_progress *walk_progress;
void walk_tally(const struct walk_op *op, enum error error);

/* An error must have a cause outside the operation: memory is scarce, or a call was refused. */
void walk_error_check(const struct walk_td *walk, const struct walk_op *op, enum error error);

/* Of a running TD. */
void walk_map(struct walk_td *walk, const struct walk_op *op);
void walk_accept(struct walk_td *walk, const struct walk_op *op);
void walk_write(struct walk_td *walk, const struct walk_op *op);
void walk_read(struct walk_td *walk, const struct walk_op *op);
void walk_remove(struct walk_td *walk, const struct walk_op *op);
void walk_demote(struct walk_td *walk, const struct walk_op *op);
void walk_promote(struct walk_td *walk, const struct walk_op *op);

#endif
