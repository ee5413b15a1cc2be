/* SPDX-License-Identifier: MIT */
/*
 * The history of a mirror: each store of the real sources is seen, and after each, what a walker
 * that takes no lock finds at that moment is held against the model of the external table.
 *
 * The sources are compiled as for the thread sanitizer, whose calls history.c answers itself; they
 * are not changed for it. Between two stores are the calls to the owner: history_ops looks
 * before and after each.
 */
#ifndef TESTS_MM_HISTORY_H
#define TESTS_MM_HISTORY_H

#include "tests/mm/external_model.h"

/* From here on each step is looked at, until history_end. Memory is `pages` pages; a failure names
 * `name`. */
void history_begin(struct model *model, u64 pages, const char *name);
/* Before the end of the mirror: nobody walks it then. */
void history_end(void);
/* Stores to pages of tables since history_begin. */
u64 history_stores(void);

#endif
