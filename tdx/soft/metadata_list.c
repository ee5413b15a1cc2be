/* SPDX-License-Identifier: MIT */
/*
 * TDH.SYS.RDALL and TDG.SYS.RDALL: a page with a header (bytes, number of sequences) and sequences
 * of fields, each the id of its first element, which also says how many elements and fields follow,
 * and the elements as quadwords.
 */
#include "boot/string.h"
#include "tdx/soft/metadata.h"
#include "tdx/soft/system.h"

#define LIST_QUADWORDS (PAGE_BYTES / sizeof(u64))
#define LIST_SEQUENCES_SHIFT 16
#define ID_LAST_ELEMENT_SHIFT 34
#define ID_LAST_FIELD_SHIFT 38
#define ID_SIZE_MASK (3ull << 32)
#define ID_NON_ARCH (1ull << 63)
/* What names a field; a list looks at nothing else of the id that it begins with. */
#define ID_NAMES_MASK (0x3full << 56 | METADATA_CODE_MASK)

static u32 id_elements(const struct metadata_context *context, u64 id)
{
    struct metadata_place place;
    return metadata_place_find(context, id, &place) ? place.field->elements : 0;
}

/* Fields that follow each other, of one class, size and form, share a sequence. */
static bool field_follows(const struct metadata_context *context, u64 id, u64 next)
{
    u32 elements = id_elements(context, id);
    return (next & ~ID_NON_ARCH) == (id & ~ID_NON_ARCH) + elements &&
           id_elements(context, next) == elements;
}

/* The elements of the field *id, and *id becomes the next field. */
static void field_write(const struct metadata_context *context, u64 *id, u64 *list, u64 *used)
{
    for (u32 left = id_elements(context, *id); left; left--)
        (void)metadata_read(context, *id, &list[(*used)++], id);
}

static bool field_fits(const struct metadata_context *context, u64 id, u64 used)
{
    return used + id_elements(context, id) <= LIST_QUADWORDS;
}

/* The sequence that begins with the field *id, which fits. */
static void sequence_write(const struct metadata_context *context, u64 *id, u64 *list, u64 *used)
{
    u64 header = (*used)++, first = *id, last_field = 0, now = *id;

    field_write(context, id, list, used);
    while (field_follows(context, now, *id) && field_fits(context, *id, *used)) {
        now = *id;
        field_write(context, id, list, used);
        last_field++;
    }
    list[header] = first | (u64)(id_elements(context, first) - 1) << ID_LAST_ELEMENT_SHIFT |
                   last_field << ID_LAST_FIELD_SHIFT;
}

static u64 list_write(const struct metadata_context *context, u64 *id, u64 *list)
{
    u64 used = 1, sequences = 0;

    for (; *id != METADATA_ID_NONE && field_fits(context, *id, used + 1); sequences++)
        sequence_write(context, id, list, &used);
    list[0] = used * sizeof(u64) | sequences << LIST_SEQUENCES_SHIFT;
    return *id == METADATA_ID_NONE ? 0 : completion(TDX_METADATA_LIST_OVERFLOW, 0);
}

/* Where a list begins: at the first element of a field, its size said, which may be read. */
static u64 start_find(const struct metadata_context *context, u64 *id)
{
    struct metadata_place place;

    if (metadata_field_is_null(*id)) {
        *id = metadata_first(context);
        return 0;
    }
    if (!metadata_place_find(context, *id & ID_NAMES_MASK, &place) ||
        (*id ^ place.field->id) & ID_SIZE_MASK || place.element % place.field->elements)
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    *id = metadata_readable_from(context, &place);
    return 0;
}

u64 metadata_list(const struct metadata_context *context, u64 *id, u64 *list)
{
    u64 first = *id;

    *id = METADATA_ID_NONE;
    u64 status = start_find(context, &first);
    if (status)
        return status;
    *id = first;
    return list_write(context, id, list);
}

u64 tdh_sys_rdall(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RDX], id = leaf->regs->gpr[GPR_R8];
    struct metadata_context context = {.scope = METADATA_SYS, .reader = METADATA_HOST};

    leaf->regs->gpr[GPR_R8] = METADATA_ID_NONE;
    if (!(soft_system.lps_initialized & 1ull << seam_lp()))
        return completion(TDX_SYS_LP_INIT_NOT_DONE, 0);
    u64 status = operand_shared(page, PAGE_BYTES, OPERAND_RDX);
    if (status)
        return status;
    status = metadata_list(&context, &id, seam_page(page));
    leaf->regs->gpr[GPR_R8] = id;
    return status;
}
