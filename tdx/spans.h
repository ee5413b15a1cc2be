/* SPDX-License-Identifier: MIT */
/* Lists of half-open ranges of bytes, ascending and disjoint: the arithmetic of memory maps. */
#ifndef TDX_SPANS_H
#define TDX_SPANS_H

#include "boot/types.h"

#define SPANS_MAX 640

struct span {
    u64 start, end;
};

struct span_list {
    struct span spans[SPANS_MAX];
    u32 count;
};

void spans_clear(struct span_list *list);
/*
 * Appends [start, end), which must not start before the end of the last one; joins it to the
 * last one where they touch. False if the list is full.
 */
bool spans_append(struct span_list *list, u64 start, u64 end);
/* Puts [start, end) in its place, whatever it overlaps. False if the list is full. */
bool spans_insert(struct span_list *list, u64 start, u64 end);
/* What is in both lists. `out` is neither. False if it would not hold the result. */
bool spans_intersect(struct span_list *out, const struct span_list *a, const struct span_list *b);
/* What is in `window` and in no span of `list`. `out` is not `list`. */
bool spans_complement(struct span_list *out, const struct span_list *list, struct span window);
u64 spans_bytes(const struct span_list *list);
bool spans_overlap(const struct span_list *list, struct span span);

#endif
