/* SPDX-License-Identifier: MIT */
#include "tdx/spans.h"

static u64 lower(u64 a, u64 b)
{
    return a < b ? a : b;
}
static u64 higher(u64 a, u64 b)
{
    return a > b ? a : b;
}

void spans_clear(struct span_list *list)
{
    list->count = 0;
}

bool spans_append(struct span_list *list, u64 start, u64 end)
{
    if (start >= end)
        return true;
    if (list->count > 0 && list->spans[list->count - 1].end >= start) {
        struct span *last = &list->spans[list->count - 1];
        last->end = higher(last->end, end);
        return true;
    }
    if (list->count == SPANS_MAX)
        return false;
    list->spans[list->count++] = (struct span){start, end};
    return true;
}

bool spans_insert(struct span_list *list, u64 start, u64 end)
{
    if (start >= end)
        return true;
    u32 first = 0;
    while (first < list->count && list->spans[first].end < start)
        first++;
    /* [first, after) touch the new one and become part of it. */
    u32 after = first;
    struct span joined = {start, end};
    while (after < list->count && list->spans[after].start <= end) {
        joined.start = lower(joined.start, list->spans[after].start);
        joined.end = higher(joined.end, list->spans[after].end);
        after++;
    }
    if (after == first) {
        if (list->count == SPANS_MAX)
            return false;
        for (u32 i = list->count; i > first; i--)
            list->spans[i] = list->spans[i - 1];
        list->count++;
    } else {
        for (u32 i = after; i < list->count; i++)
            list->spans[first + 1 + i - after] = list->spans[i];
        list->count -= after - first - 1;
    }
    list->spans[first] = joined;
    return true;
}

bool spans_intersect(struct span_list *out, const struct span_list *a, const struct span_list *b)
{
    u32 i = 0, j = 0;
    spans_clear(out);
    while (i < a->count && j < b->count) {
        u64 start = higher(a->spans[i].start, b->spans[j].start);
        u64 end = lower(a->spans[i].end, b->spans[j].end);
        if (!spans_append(out, start, end))
            return false;
        if (a->spans[i].end < b->spans[j].end)
            i++;
        else
            j++;
    }
    return true;
}

bool spans_complement(struct span_list *out, const struct span_list *list, struct span window)
{
    u64 at = window.start;
    spans_clear(out);
    for (u32 i = 0; i < list->count && at < window.end; i++) {
        const struct span *span = &list->spans[i];
        if (span->end <= at)
            continue;
        if (!spans_append(out, at, lower(span->start, window.end)))
            return false;
        at = span->end;
    }
    return spans_append(out, at, window.end);
}

u64 spans_bytes(const struct span_list *list)
{
    u64 sum = 0;
    for (u32 i = 0; i < list->count; i++)
        sum += list->spans[i].end - list->spans[i].start;
    return sum;
}

bool spans_overlap(const struct span_list *list, struct span span)
{
    for (u32 i = 0; i < list->count; i++)
        if (list->spans[i].start < span.end && span.start < list->spans[i].end)
            return true;
    return false;
}
