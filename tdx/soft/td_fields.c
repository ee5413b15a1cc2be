/* SPDX-License-Identifier: MIT */
/* Metadata of a TD: values of TDR and TDCS fields, and what may be written into them. */
#include "tdx/soft/cpuid.h"
#include "tdx/soft/metadata.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/system.h"

#define LOCK_TIMEOUT_MIN_US 10000u
#define LOCK_TIMEOUT_MAX_US 100000000u

/* The code of CPUID_VALUES: leaf 31 at 16, leaf 6:0 at 15:9, "no subleaf" at 8, subleaf at 7:1. */
#define CODE_LEAF_31 (1ull << 16)
#define CODE_LEAF_SHIFT 9
#define CODE_LEAF_MASK 0x7full
#define CODE_NO_SUBLEAF (1ull << 8)
#define CODE_SUBLEAF_SHIFT 1
#define CODE_SUBLEAF_MASK 0x7full
#define CODE_RESERVED (0x7full << 17)

#define XSAVE_LEAF 0xdu
#define XSAVE_AREA_MIN_BYTES 576u

static const struct metadata_field fields[] = {
#define MEMBER_TDR(member) METADATA_MEMBER(FROM_TDR, tdr, member)
#define MEMBER_TDCS(member) METADATA_MEMBER(FROM_TDCS, tdcs, member)
#define MEMBER_TDCS_OLDER(member) METADATA_MEMBER(FROM_TDCS_OLDER, tdcs, member)
#define MEMBER_TDCS_NEWER(member) METADATA_MEMBER(FROM_TDCS_NEWER, tdcs, member)
/* Bytes that are read as quadwords. */
#define MEMBER_DIGEST(member) \
    .source = FROM_TDCS, .step = 8, .bytes = 8, .offset = offsetof(struct tdcs, member)
#define MEMBER_TDCS_PAGE(page) .source = FROM_TDCS_PAGE, .offset = (page)
#define MEMBER_ZERO(unused) .source = FROM_ZERO
#define MEMBER_CPUID_COUNT(unused) .source = FROM_CPUID_COUNT
#define MEMBER_CPUID_VALID(unused) .source = FROM_CPUID_VALID
#define MEMBER_CPUID_VALUES(unused) .source = FROM_CPUID_VALUES
#define MEMBER_XBUFF_SIZE(unused) .source = FROM_XBUFF_SIZE
#define MEMBER_XBUFF_OFFSET(unused) .source = FROM_XBUFF_OFFSET
#define TD_FIELD(name, id, rows, fields_, elements, access, source_, argument) \
    METADATA_ROW(id, rows, fields_, elements, access, MEMBER_##source_(argument))
#include "tdx/soft/metadata.def"
#undef TD_FIELD
};
const struct metadata_table td_fields = {fields, ARRAY_LENGTH(fields)};

/* An L2 VM has a root of its own. */
bool td_field_is_there(const struct metadata_context *context, const struct metadata_field *field)
{
    bool is_newer = td_ctls_offered() & TD_CTLS_CPUID;
    if (field->source == FROM_TDCS_OLDER || field->source == FROM_TDCS_NEWER)
        return is_newer == (field->source == FROM_TDCS_NEWER);
    return field->source != FROM_TDCS_PAGE ||
           field->offset < TDCX_PAGES_BASE + context->td->tdcs->num_l2_vms;
}

static void code_split(u64 code, u32 *leaf, u32 *subleaf)
{
    *leaf = (u32)(code >> CODE_LEAF_SHIFT & CODE_LEAF_MASK) | (code & CODE_LEAF_31 ? 1u << 31 : 0);
    *subleaf = code & CODE_NO_SUBLEAF ? CPUID_NO_SUBLEAF
                                      : (u32)(code >> CODE_SUBLEAF_SHIFT & CODE_SUBLEAF_MASK);
}

static u64 code_of_field(u32 index)
{
    const struct cpuid_field *field = cpuid_field(index);
    if (!field)
        return METADATA_ID_NONE;
    return (field->leaf >> 31 ? CODE_LEAF_31 : 0) |
           (field->leaf & CODE_LEAF_MASK) << CODE_LEAF_SHIFT |
           (field->subleaf == CPUID_NO_SUBLEAF ? CODE_NO_SUBLEAF : 0) |
           (field->subleaf & CODE_SUBLEAF_MASK) << CODE_SUBLEAF_SHIFT;
}

u64 td_cpuid_check(u64 code)
{
    u32 leaf, subleaf;
    code_split(code, &leaf, &subleaf);
    const struct cpuid_field *field = cpuid_field(cpuid_field_index(leaf, subleaf));
    if (code & CODE_RESERVED || !field)
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    return field->raises_ve ? completion(TDX_METADATA_FIELD_NOT_READABLE, 0) : 0;
}

u64 td_cpuid_first(void)
{
    return code_of_field(0);
}

u64 td_cpuid_next(u64 code)
{
    u32 leaf, subleaf;
    if (!(code & 1))
        return code + 1;
    code_split(code, &leaf, &subleaf);
    return code_of_field(cpuid_field_index(leaf, subleaf) + 1);
}

static u64 cpuid_value(const struct td *td, u64 code)
{
    u32 leaf, subleaf;
    code_split(code, &leaf, &subleaf);
    struct cpuid_values v = cpuid_stored(td_measured(td), leaf, subleaf);
    return code & 1 ? v.ecx | (u64)v.edx << 32 : v.eax | (u64)v.ebx << 32;
}

/* Where an extended feature's state begins in the XSAVE area, which has the standard format. */
static u64 xbuff_offset(const struct tdcs *tdcs, u32 feature)
{
    if (feature < 2 || !(tdcs->xfam & processor_xfeatures() & 1ull << feature))
        return 0;
    return processor_cpuid(XSAVE_LEAF, feature).ebx;
}

static u64 xbuff_bytes(const struct tdcs *tdcs)
{
    u64 bytes = XSAVE_AREA_MIN_BYTES;
    for (u32 feature = 2; feature < 64; feature++) {
        u64 start = xbuff_offset(tdcs, feature);
        u64 end = start ? start + processor_cpuid(XSAVE_LEAF, feature).eax : 0;
        bytes = end > bytes ? end : bytes;
    }
    return bytes;
}

static u64 page_value(const struct td *td, u32 page, u32 element)
{
    return ((const u64 *)seam_page(td->tdr->tdcx[page]))[element];
}

u64 td_field_value(const struct metadata_context *context, const struct metadata_place *place)
{
    const struct td *td = context->td;
    const struct cpuid_field *cpuid;

    switch ((enum metadata_source)place->field->source) {
    case FROM_TDR:
        return metadata_member_read(td->tdr, place);
    case FROM_TDCS:
    case FROM_TDCS_OLDER:
    case FROM_TDCS_NEWER:
        return metadata_member_read(td->tdcs, place);
    case FROM_TDCS_PAGE:
        return page_value(td, place->field->offset, place->element);
    case FROM_CPUID_COUNT:
        return cpuid_field_count();
    case FROM_CPUID_VALID:
        cpuid = cpuid_field(place->element);
        return cpuid && !cpuid->raises_ve;
    case FROM_CPUID_VALUES:
        return cpuid_value(td, place->element);
    case FROM_XBUFF_SIZE:
        return xbuff_bytes(td->tdcs);
    case FROM_XBUFF_OFFSET:
        return xbuff_offset(td->tdcs, place->element);
    default:
        return 0;
    }
}

u64 td_field_write(const struct metadata_context *context, const struct metadata_place *place,
                   u64 value, u64 mask)
{
    struct tdcs *tdcs = context->td->tdcs;
    u64 invalid = completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);

    switch (place->field->id) {
    case MD_TD_HP_LOCK_TIMEOUT:
        if (mask != ~0ull)
            return completion(TDX_METADATA_WR_MASK_NOT_VALID, 0);
        if (value < LOCK_TIMEOUT_MIN_US || value > LOCK_TIMEOUT_MAX_US)
            return invalid;
        break;
    case MD_TD_TD_CTLS:
        if ((value ^ tdcs->td_ctls) & TD_CTLS_PENDING_VE_DISABLE &&
            !(tdcs->config_flags & TD_CONFIG_FLEXIBLE_PENDING_VE))
            return invalid;
        if (value & ~td_ctls_offered())
            return invalid;
        if (value & TD_CTLS_REDUCE_VE)
            value |= td_ctls_offered() & TD_CTLS_CPUID;
        if ((value & (TD_CTLS_ENUM_TOPOLOGY | TD_CTLS_REDUCE_VE)) && !tdcs->topology_is_configured)
            return invalid;
        break;
    default:
        break;
    }
    metadata_member_write(tdcs, place, value);
    return 0;
}
