/* SPDX-License-Identifier: MIT */
#include "tdx/tdmr.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "mm/pages.h"

/* Each firmware leaves something of its own below; it is never convertible. */
#define LOW_MEMORY_END MIB

/* Scratch of one bring-up: too big for a stack. */
static struct span_list not_usable, window_usable;

static enum error map_too_long(void)
{
    log_line("tdx: the memory map has more than %u pieces", SPANS_MAX);
    return ERR_UNSUPPORTED;
}

/* Free memory, which must all be convertible: the allocator does not tell pages apart. */
static enum error usable_find(struct tdmr_plan *plan)
{
    const struct machine *m = machine();
    static struct span_list free;
    spans_clear(&free);
    for (u32 i = 0; i < m->range_count; i++) {
        const struct memory_range *range = &m->ranges[i];
        u64 start = range->start > LOW_MEMORY_END ? range->start : LOW_MEMORY_END;
        if (range->kind == MEMORY_FREE && !spans_append(&free, start, range->end))
            return map_too_long();
    }
    if (!spans_intersect(&plan->usable, &free, &plan->convertible))
        return map_too_long();
    if (spans_bytes(&plan->usable) == spans_bytes(&free))
        return OK;
    log_line("tdx: %llu MiB of free memory are not convertible: the module would refuse them",
             (unsigned long long)((spans_bytes(&free) - spans_bytes(&plan->usable)) / MIB));
    return ERR_UNSUPPORTED;
}

/*
 * Covers every GiB that has usable memory, in pieces of at most `piece_bytes`: the smaller, the
 * more reserved areas there are for the same memory. False if that takes too many TDMRs.
 */
static bool tdmrs_choose(struct tdmr_plan *plan, u64 piece_bytes, u32 limit)
{
    plan->count = 0;
    for (u32 i = 0; i < plan->usable.count; i++) {
        const struct span *span = &plan->usable.spans[i];
        u64 start = align_down(span->start, GIB), end = align_up(span->end, GIB);
        struct tdmr_info *last = plan->count > 0 ? &plan->tdmrs[plan->count - 1] : NULL;
        if (last && last->base + last->size > start)
            start = last->base + last->size;
        for (; start < end; start += GIB) {
            if (last && last->base + last->size == start && last->size < piece_bytes) {
                last->size += GIB;
                continue;
            }
            if (plan->count == limit)
                return false;
            last = &plan->tdmrs[plan->count++];
            *last = (struct tdmr_info){.base = start, .size = GIB};
        }
    }
    return true;
}

static enum error pamts_allocate(struct tdmr_plan *plan, const struct tdmr_limits *limits)
{
    plan->pamt_pages = 0;
    for (u32 i = 0; i < plan->count; i++) {
        struct tdmr_info *tdmr = &plan->tdmrs[i];
        u64 bytes[PAMT_SIZES], sum = 0;
        for (u32 size = 0; size < PAMT_SIZES; size++) {
            u64 entries = tdmr->size / level_bytes((enum level)size);
            u64 needed = entries * limits->pamt_entry_bytes[size];
            if (size == LEVEL_4K && limits->pamt_bitmap_bits)
                needed = align_up(entries * limits->pamt_bitmap_bits, 8) / 8;
            bytes[size] = align_up(needed, PAGE_BYTES);
            sum += bytes[size];
        }
        enum error error = pages_allocate(PAGE_PAMT, sum / PAGE_BYTES, 1, &plan->pamts[i].first);
        if (error) {
            log_line("tdx: no %llu KiB in one piece for the PAMT of the TDMR at 0x%llx",
                     (unsigned long long)(sum / KIB), (unsigned long long)tdmr->base);
            return error;
        }
        plan->pamts[i].pages = sum / PAGE_BYTES;
        plan->pamt_pages += sum / PAGE_BYTES;
        tdmr->pamt_4k_base = plan->pamts[i].first.raw;
        tdmr->pamt_4k_size = bytes[LEVEL_4K];
        tdmr->pamt_2m_base = tdmr->pamt_4k_base + bytes[LEVEL_4K];
        tdmr->pamt_2m_size = bytes[LEVEL_2M];
        tdmr->pamt_1g_base = tdmr->pamt_2m_base + bytes[LEVEL_2M];
        tdmr->pamt_1g_size = bytes[LEVEL_1G];
    }
    return OK;
}

static bool span_has_pamt(const struct tdmr_plan *plan, struct span span)
{
    for (u32 i = 0; i < plan->count; i++) {
        u64 start = plan->pamts[i].first.raw;
        if (start < span.end && span.start < start + plan->pamts[i].pages * PAGE_BYTES)
            return true;
    }
    return false;
}

static bool span_is_convertible(const struct tdmr_plan *plan, struct span span)
{
    for (u32 i = 0; i < plan->convertible.count; i++)
        if (plan->convertible.spans[i].start <= span.start &&
            span.end <= plan->convertible.spans[i].end)
            return true;
    return false;
}

/*
 * Forgets the smallest spans that need not be reserved: convertible memory that is somebody
 * else's. The module may have it in a TDMR, the allocator will never hand it out. Free memory is
 * never swallowed, as the allocator would hand that out.
 */
static void reserved_shorten(const struct tdmr_plan *plan, struct span_list *list, u32 limit)
{
    while (list->count > limit) {
        u32 smallest = list->count;
        u64 smallest_bytes = ~0ull;
        for (u32 i = 0; i < list->count; i++) {
            u64 bytes = list->spans[i].end - list->spans[i].start;
            if (bytes < smallest_bytes && span_is_convertible(plan, list->spans[i]) &&
                !span_has_pamt(plan, list->spans[i])) {
                smallest = i;
                smallest_bytes = bytes;
            }
        }
        if (smallest == list->count)
            return;
        for (u32 i = smallest; i + 1 < list->count; i++)
            list->spans[i] = list->spans[i + 1];
        list->count--;
    }
}

static enum error reserved_fill(struct tdmr_plan *plan, struct tdmr_info *tdmr, u32 limit)
{
    struct span window = {tdmr->base, tdmr->base + tdmr->size};
    if (!spans_complement(&not_usable, &plan->usable, window))
        return map_too_long();
    for (u32 i = 0; i < plan->count; i++) {
        u64 start = plan->pamts[i].first.raw;
        u64 end = start + plan->pamts[i].pages * PAGE_BYTES;
        start = start > window.start ? start : window.start;
        end = end < window.end ? end : window.end;
        if (!spans_insert(&not_usable, start, end))
            return map_too_long();
    }
    reserved_shorten(plan, &not_usable, limit);
    if (not_usable.count > limit) {
        log_line("tdx: the TDMR at 0x%llx needs %u reserved areas, the module takes %u",
                 (unsigned long long)tdmr->base, not_usable.count, limit);
        return ERR_UNSUPPORTED;
    }
    for (u32 i = 0; i < not_usable.count; i++) {
        tdmr->reserved[i].offset = not_usable.spans[i].start - tdmr->base;
        tdmr->reserved[i].size = not_usable.spans[i].end - not_usable.spans[i].start;
    }
    /* Sums, in convertible memory: all of the window, and what of it is not reserved. */
    if (!spans_complement(&window_usable, &not_usable, window) ||
        !spans_intersect(&not_usable, &window_usable, &plan->convertible))
        return map_too_long();
    plan->given_pages += spans_bytes(&not_usable) / PAGE_BYTES;
    spans_clear(&window_usable);
    if (!spans_append(&window_usable, window.start, window.end) ||
        !spans_intersect(&not_usable, &window_usable, &plan->convertible))
        return map_too_long();
    plan->left_pages -= spans_bytes(&not_usable) / PAGE_BYTES;
    return OK;
}

static enum error reserved_fill_all(struct tdmr_plan *plan, const struct tdmr_limits *limits)
{
    u32 limit = limits->reserved_per_tdmr < TDMR_RESERVED_MAX ? limits->reserved_per_tdmr
                                                              : TDMR_RESERVED_MAX;
    u64 convertible_pages = spans_bytes(&plan->convertible) / PAGE_BYTES;
    plan->given_pages = 0;
    plan->left_pages = convertible_pages;
    for (u32 i = 0; i < plan->count; i++) {
        enum error error = reserved_fill(plan, &plan->tdmrs[i], limit);
        if (error)
            return error;
    }
    plan->reserved_pages = convertible_pages - plan->left_pages - plan->given_pages;
    return OK;
}

void tdmr_plan_release(struct tdmr_plan *plan)
{
    for (u32 i = 0; i < plan->count; i++)
        if (plan->pamts[i].pages > 0)
            pages_free(plan->pamts[i].first, plan->pamts[i].pages);
    plan->count = 0;
    plan->pamt_pages = 0;
}

static enum error tdmrs_choose_all(struct tdmr_plan *plan, u32 limit)
{
    if (plan->usable.count == 0 || limit == 0) {
        log_line("tdx: no convertible memory is free");
        return ERR_NO_MEMORY;
    }
    u64 end = plan->usable.spans[plan->usable.count - 1].end;
    for (u64 piece_bytes = GIB; !tdmrs_choose(plan, piece_bytes, limit); piece_bytes *= 2) {
        /* More islands of memory than TDMRs: no size of piece helps. */
        if (piece_bytes >= end) {
            log_line("tdx: memory does not fit into %u TDMRs", limit);
            return ERR_UNSUPPORTED;
        }
    }
    return OK;
}

enum error tdmr_plan_make(struct tdmr_plan *plan, const struct tdmr_limits *limits)
{
    plan->count = 0;
    for (u32 i = 0; i < TDMRS_MAX; i++)
        plan->pamts[i].pages = 0;
    enum error error = usable_find(plan);
    if (!error)
        error = tdmrs_choose_all(plan, limits->tdmrs < TDMRS_MAX ? limits->tdmrs : TDMRS_MAX);
    if (!error)
        error = pamts_allocate(plan, limits);
    if (!error)
        error = reserved_fill_all(plan, limits);
    if (error)
        tdmr_plan_release(plan);
    return error;
}
