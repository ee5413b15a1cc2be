/* SPDX-License-Identifier: MIT */
/*
 * TDH.SYS.RDALL and TDG.SYS.RDALL: a page with a header (bytes, number of sequences) and sequences,
 * each the id of its first element, which also says how many follow, and the elements as quadwords.
 */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/system.h"

#define LIST_QUADWORDS (PAGE_BYTES / sizeof(u64))
#define LIST_SEQUENCES_SHIFT 16
#define ID_LAST_FIELD_SHIFT 38
#define ID_NON_ARCH (1ull << 63)
#define SEQUENCE_MAX 512 /* LAST_FIELD has 9 bits */
#define ID_NONE (~0ull)

/* Ids that differ by one, of one class and size, share a sequence; NON_ARCH does not matter. */
static bool id_follows(u64 id, u64 next)
{
    return (next & ~ID_NON_ARCH) == (id & ~ID_NON_ARCH) + 1;
}

/* Writes the sequence that starts at *id and moves on; false if the page is full. */
static bool sequence_write(const struct metadata_context *context, u64 *id, u64 *list, u64 *used)
{
    u64 header = *used, count = 0, first = *id, now;
    if (*used + 2 > LIST_QUADWORDS)
        return false;
    (*used)++;
    do {
        now = *id;
        if (metadata_read(context, now, &list[*used], id))
            break;
        (*used)++;
        count++;
    } while (id_follows(now, *id) && count < SEQUENCE_MAX && *used < LIST_QUADWORDS);
    list[header] = first | (count - 1) << ID_LAST_FIELD_SHIFT;
    return true;
}

static u64 list_write(const struct metadata_context *context, u64 *id, u64 *list)
{
    u64 used = 1, sequences = 0;
    while (*id != ID_NONE && sequence_write(context, id, list, &used))
        sequences++;
    list[0] = used * sizeof(u64) | sequences << LIST_SEQUENCES_SHIFT;
    return *id == ID_NONE ? 0 : completion(TDX_METADATA_LIST_OVERFLOW, 0);
}

u64 metadata_list(const struct metadata_context *context, u64 *id, u64 *list)
{
    u64 value, first = *id, status = 0;
    *id = ID_NONE;
    if (metadata_field_is_null(first))
        first = metadata_first(context);
    else
        status = metadata_read(context, first, &value, NULL);
    if (status)
        return status;
    *id = first;
    return list_write(context, id, list);
}

u64 tdh_sys_rdall(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RDX], id = leaf->regs->gpr[GPR_R8];
    leaf->regs->gpr[GPR_R8] = ID_NONE;
    if (!(soft_system.lps_initialized & 1ull << seam_lp()))
        return completion(TDX_SYS_LP_INIT_NOT_DONE, 0);
    u64 status = operand_shared(page, PAGE_BYTES, OPERAND_RDX);
    if (status)
        return status;
    struct metadata_context context = {.scope = METADATA_SYS, .reader = METADATA_HOST};
    status = metadata_list(&context, &id, seam_page(page));
    leaf->regs->gpr[GPR_R8] = id;
    return status;
}
