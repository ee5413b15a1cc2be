/* SPDX-License-Identifier: MIT */
/* TDH.SYS.CONFIG: the TDMRs, their reserved areas and their PAMTs are checked one by one. */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/system.h"

struct span {
    u64 start, end;
};

static bool spans_overlap(struct span a, struct span b)
{
    return a.start < b.end && b.start < a.end;
}

/* A completion of several small numbers: TDMR, then what the status says. */
static u64 config_error(enum tdx_status_code code, u32 tdmr, u32 second, u32 third)
{
    return completion(code, tdmr | second << 8 | third << 16);
}

static struct span tdmr_span(const struct tdmr *tdmr)
{
    return (struct span){tdmr->base, tdmr->base + tdmr->size};
}

static struct span pamt_span(const struct tdmr *tdmr, u32 level)
{
    return (struct span){tdmr->pamt_base[level], tdmr->pamt_base[level] + tdmr->pamt_size[level]};
}

/* Convertible ranges that touch count as one. */
static bool span_is_convertible(struct span span)
{
    for (u32 i = 0; i < platform()->cmr_count && span.start < span.end; i++) {
        const struct tdx_cmr *cmr = &platform()->cmrs[i];
        if (span.start >= cmr->base && span.start < cmr->base + cmr->bytes)
            span.start = cmr->base + cmr->bytes;
    }
    return span.start >= span.end;
}

/* The non-reserved piece number `index` of a TDMR; empty spans are possible. */
static struct span usable_span(const struct tdmr *tdmr, u32 index)
{
    struct span span = tdmr_span(tdmr);
    if (index)
        span.start = tdmr->reserved[index - 1].end;
    if (index < tdmr->reserved_count)
        span.end = tdmr->reserved[index].start;
    return span;
}

static bool overlaps_usable(struct span span, const struct tdmr *tdmr)
{
    for (u32 i = 0; i <= tdmr->reserved_count; i++) {
        struct span usable = usable_span(tdmr, i);
        if (usable.start < usable.end && spans_overlap(span, usable))
            return true;
    }
    return false;
}

static u64 base_check(const struct tdmr *tdmr, u32 index)
{
    const struct tdmr *previous = index ? tdmr - 1 : NULL;
    if (tdmr->base + tdmr->size < tdmr->base)
        return config_error(TDX_INVALID_TDMR, index, 0, 0);
    if (previous && tdmr->base < previous->base + previous->size)
        return config_error(TDX_NON_ORDERED_TDMR, index, 0, 0);
    u64 last = tdmr->base + tdmr->size - 1;
    if (!is_aligned(tdmr->base, GIB) || !is_aligned(tdmr->size, GIB) || !tdmr->size ||
        platform_address(tdmr->base) != tdmr->base || platform_address(last) != last)
        return config_error(TDX_INVALID_TDMR, index, 0, 0);
    return 0;
}

static u64 reserved_take(struct tdmr *tdmr, const struct tdmr_info *info, u32 index)
{
    bool ended = false;
    u64 end_before = 0;
    for (u32 j = 0; j < TDMR_RESERVED_MAX; j++) {
        u64 offset = info->reserved[j].offset, size = info->reserved[j].size;
        if (!size) {
            ended = true;
            continue;
        }
        if (ended)
            return config_error(TDX_INVALID_RESERVED_IN_TDMR, index, j, 0);
        if (j && (offset < end_before))
            return config_error(TDX_NON_ORDERED_RESERVED_IN_TDMR, index, j, 0);
        if (!is_aligned(offset | size, PAGE_BYTES) || offset + size < offset ||
            offset + size > tdmr->size)
            return config_error(TDX_INVALID_RESERVED_IN_TDMR, index, j, 0);
        end_before = offset + size;
        tdmr->reserved[j].start = tdmr->base + offset;
        tdmr->reserved[j].end = tdmr->base + end_before;
        tdmr->reserved_count = j + 1;
    }
    return 0;
}

static u64 pamt_form_check(const struct tdmr *tdmr, u32 index, u32 level)
{
    u64 base = tdmr->pamt_base[level], size = tdmr->pamt_size[level];
    u64 entries = tdmr->size / level_bytes((enum level)level);
    u64 needed = entries * sizeof(struct pamt_entry);
    u64 last = base + size - 1;
    /* With Dynamic PAMT a bit a page. */
    if (level == LEVEL_4K && soft_system.has_dynamic_pamt)
        needed = entries / 8;
    if (!is_aligned(base | size, PAGE_BYTES) || platform_address(base) != base || size < needed ||
        last < base || platform_address(last) != last)
        return config_error(TDX_INVALID_PAMT, index, level, 0);
    return 0;
}

static u64 pamt_overlap_check(const struct tdmr *tdmr, u32 index, u32 level)
{
    struct span span = pamt_span(tdmr, level);
    const struct tdmr *first = tdmr - index;
    for (u32 other = 0; other <= index; other++)
        for (u32 below = 0; below < (other == index ? level : 3); below++)
            if (spans_overlap(span, pamt_span(&first[other], below)))
                return config_error(TDX_PAMT_OVERLAP, index, level, other);
    for (u32 other = 0; other <= index; other++)
        if (overlaps_usable(span, &first[other]))
            return config_error(TDX_PAMT_OVERLAP, index, level, other);
    return 0;
}

static u64 pamt_earlier_check(const struct tdmr *tdmr, u32 index)
{
    const struct tdmr *first = tdmr - index;
    for (u32 other = 0; other < index; other++)
        for (u32 level = 0; level < 3; level++)
            if (overlaps_usable(pamt_span(&first[other], level), tdmr))
                return config_error(TDX_PAMT_OVERLAP, index, level, other);
    return 0;
}

static u64 pamts_check(const struct tdmr *tdmr, u32 index)
{
    u64 status = 0;
    for (u32 level = 0; level < 3 && !status; level++)
        status = pamt_form_check(tdmr, index, level);
    for (u32 level = 0; level < 3 && !status; level++)
        status = pamt_overlap_check(tdmr, index, level);
    if (!status)
        status = pamt_earlier_check(tdmr, index);
    for (u32 level = 0; level < 3 && !status; level++)
        if (!span_is_convertible(pamt_span(tdmr, level)))
            status = config_error(TDX_PAMT_OUTSIDE_CMRS, index, level, 0);
    return status;
}

static u64 tdmr_take(struct tdmr *tdmr, const struct tdmr_info *info, u32 index)
{
    memset(tdmr, 0, sizeof *tdmr);
    tdmr->base = info->base;
    tdmr->size = info->size;
    tdmr->next = info->base;
    u64 bases[] = {info->pamt_4k_base, info->pamt_2m_base, info->pamt_1g_base};
    u64 sizes[] = {info->pamt_4k_size, info->pamt_2m_size, info->pamt_1g_size};
    memcpy(tdmr->pamt_base, bases, sizeof bases);
    memcpy(tdmr->pamt_size, sizes, sizeof sizes);
    u64 status = base_check(tdmr, index);
    if (!status)
        status = reserved_take(tdmr, info, index);
    if (!status)
        status = pamts_check(tdmr, index);
    for (u32 i = 0; !status && i <= tdmr->reserved_count; i++)
        if (!span_is_convertible(usable_span(tdmr, i)))
            status = config_error(TDX_TDMR_OUTSIDE_CMRS, index, 0, 0);
    return status;
}

static u64 tdmrs_take(u64 list, u32 count)
{
    const u64 *addresses =
        (const u64 *)((u8 *)seam_page(align_down(list, PAGE_BYTES)) + (list & PAGE_MASK));
    for (u32 i = 0; i < count; i++) {
        u64 address = addresses[i];
        u64 status = operand_shared(address, TDMR_INFO_ALIGN, OPERAND_RCX);
        if (status)
            return status;
        struct tdmr_info info; /* copied once: the VMM may write while we check */
        memcpy(&info, (u8 *)seam_page(align_down(address, PAGE_BYTES)) + (address & PAGE_MASK),
               sizeof info);
        status = tdmr_take(&soft_system.tdmrs[i], &info, i);
        if (status)
            return status;
    }
    return 0;
}

u64 tdh_sys_config(struct leaf *leaf)
{
    u64 list = leaf->regs->gpr[GPR_RCX], count = leaf->regs->gpr[GPR_RDX];
    u64 keyid = leaf->regs->gpr[GPR_R8];
    bool is_dynamic = (keyid & TDX_CONFIG_DYNAMIC_PAMT) &&
                      (platform()->newer_features & TDX_FEATURE_DYNAMIC_PAMT);
    if (is_dynamic)
        keyid &= ~TDX_CONFIG_DYNAMIC_PAMT;
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_EXCLUSIVE))
        return completion(TDX_SYS_BUSY, 0);
    if (soft_system.state != SYSTEM_INIT_DONE || soft_system.lps_initialized != lps_all())
        return completion(TDX_SYS_CONFIG_NOT_PENDING, 0);
    u64 status = operand_shared(list, TDMR_INFO_ALIGN, OPERAND_RCX);
    if (status)
        return status;
    if (!count || count > SOFT_TDMRS_MAX)
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (!keyid_is_private(keyid))
        return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    soft_system.keyids[keyid].state = KEYID_RESERVED;
    soft_system.global_keyid = (u16)keyid;
    soft_system.tdmr_count = 0;
    soft_system.has_dynamic_pamt = is_dynamic;
    status = tdmrs_take(list, (u32)count);
    if (status)
        return status;
    soft_system.tdmr_count = (u32)count;
    soft_system.packages_with_key = 0;
    soft_system.state = SYSTEM_CONFIG_DONE;
    return 0;
}
