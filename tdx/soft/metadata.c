/* SPDX-License-Identifier: MIT */
#include "tdx/soft/objects.h"

#include "boot/assert.h"
#include "boot/string.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

/* An id's parts. Context, element size and NON_ARCH are ignored: class and code are unique. */
#define ID_CODE_MASK 0xffffffull
#define ID_CONTEXT_MASK (7ull << 52)
#define ID_SIZE_MASK (3ull << 32)
#define ID_CLASS_MASK (0x3full << 56)
#define ID_ZERO_MASK \
    (0xffull << 24 | 0xfull << 34 | 0x1ffull << 38 | 7ull << 47 | 1ull << 55 | 1ull << 62)
#define ID_NULL (~0ull)

#define ACCESS_H (1u << 0)
#define ACCESS_D (1u << 1)
#define ACCESS_G (1u << 2)
#define ACCESS_W (1u << 3)
#define ACCESS_X (1u << 4)
#define ACCESS_V (1u << 5)
#define ACCESS_P (1u << 6)

enum sys_source {
    SYS_CONSTANT,
    SYS_PACKAGES,
    SYS_FMS,
    SYS_FEATURES,
    SYS_CMR_BASE,
    SYS_CMR_SIZE,
    SYS_XFAM_FIXED0,
    SYS_CPUID_LEAF,
    SYS_CPUID_VALUE,
};

enum td_object {
    OBJECT_tdr,
    OBJECT_tdcs,
    OBJECT_none,
};

struct field {
    u64 id;
    u32 count;
    u32 access;
    u32 element_bytes, offset; /* METADATA_TD */
    u8 source;                 /* enum sys_source or enum td_object */
    u64 constant;              /* METADATA_SYS */
};

static const struct field sys_fields[] = {
#define SYS_FIELD(name, id_, count_, source_, value_, access_) \
    {.id = id_, .count = count_, .access = access_, .source = source_, .constant = value_},
#include "tdx/soft/metadata.def"
};

static const struct field td_fields[] = {
#define TD_FIELD(name, id_, count_, bytes_, object_, member_, access_) \
    {.id = id_,                                                        \
     .count = count_,                                                  \
     .access = access_,                                                \
     .element_bytes = bytes_,                                          \
     .offset = offsetof(struct object_, member_),                      \
     .source = OBJECT_##object_},
#define TD_ZERO(name, id_, count_, access_) \
    {.id = id_, .count = count_, .access = access_, .source = OBJECT_none},
#include "tdx/soft/metadata.def"
};

struct table {
    const struct field *fields;
    u32 count;
};

static struct table table_of(enum metadata_scope scope)
{
    if (scope == METADATA_SYS)
        return (struct table){sys_fields, ARRAY_LENGTH(sys_fields)};
    return (struct table){td_fields, ARRAY_LENGTH(td_fields)};
}

bool metadata_field_is_null(u64 field)
{
    return (field | ID_CONTEXT_MASK) == ID_NULL;
}

static u64 identity(u64 id)
{
    return id & ID_CLASS_MASK;
}

static bool field_is_there(const struct field *field)
{
    return !(field->access & ACCESS_P) || (platform()->newer_features & TDX_FEATURE_DYNAMIC_PAMT);
}

/* The row of an id and the element; false if there is none. */
static bool field_find(struct table table, u64 id, u32 *row, u32 *element)
{
    if (id & ID_ZERO_MASK)
        return false;
    for (*row = 0; *row < table.count; ++*row) {
        const struct field *field = &table.fields[*row];
        u64 index = (id & ID_CODE_MASK) - (field->id & ID_CODE_MASK);
        if (identity(id) != identity(field->id) || index >= field->count || !field_is_there(field))
            continue;
        *element = (u32)index;
        return true;
    }
    return false;
}

static bool field_is_readable(const struct field *field, enum metadata_reader reader)
{
    if (!field_is_there(field))
        return false;
    switch (reader) {
    case METADATA_HOST:
        return field->access & ACCESS_H;
    case METADATA_HOST_DEBUG:
        return field->access & (ACCESS_H | ACCESS_D);
    case METADATA_GUEST:
        return field->access & ACCESS_G;
    }
    return false;
}

static bool field_is_writable(const struct field *field, enum metadata_reader reader)
{
    switch (reader) {
    case METADATA_HOST:
        return field->access & ACCESS_W;
    case METADATA_HOST_DEBUG:
        return field->access & (ACCESS_W | ACCESS_V);
    case METADATA_GUEST:
        return field->access & ACCESS_X;
    }
    return false;
}

static u64 id_after(const struct metadata_context *context, u32 row, u32 element)
{
    struct table table = table_of(context->scope);
    if (element + 1 < table.fields[row].count)
        return table.fields[row].id + element + 1;
    for (row++; row < table.count; row++)
        if (field_is_readable(&table.fields[row], context->reader))
            return table.fields[row].id;
    return ID_NULL;
}

u64 metadata_first(const struct metadata_context *context)
{
    if (context->scope == METADATA_VP)
        return vcpu_field_first(context);
    struct table table = table_of(context->scope);
    for (u32 row = 0; row < table.count; row++)
        if (field_is_readable(&table.fields[row], context->reader))
            return table.fields[row].id;
    return ID_NULL;
}

static u64 cpuid_config_element(enum sys_source source, u32 element)
{
    u64 leaf;
    struct cpuid_values mask;
    bool is_value = source == SYS_CPUID_VALUE;
    if (!cpuid_config_row(is_value ? element / 2 : element, &leaf, &mask))
        return is_value ? 0 : ID_NULL;
    if (!is_value)
        return leaf;
    return element % 2 ? mask.ecx | (u64)mask.edx << 32 : mask.eax | (u64)mask.ebx << 32;
}

static u64 sys_value(const struct field *field, u32 element)
{
    const struct soft_platform *p = platform();
    switch ((enum sys_source)field->source) {
    case SYS_CONSTANT:
        return field->constant;
    case SYS_PACKAGES:
        return p->package_count;
    case SYS_FMS:
        return element ? 0 : p->family_model_stepping;
    case SYS_FEATURES:
        return field->constant | p->newer_features;
    case SYS_CMR_BASE:
        return element < p->cmr_count ? p->cmrs[element].base : 0;
    case SYS_CMR_SIZE:
        return element < p->cmr_count ? p->cmrs[element].bytes : 0;
    case SYS_XFAM_FIXED0:
        return xfam_fixed0();
    case SYS_CPUID_LEAF:
    case SYS_CPUID_VALUE:
        return cpuid_config_element((enum sys_source)field->source, element);
    }
    return 0;
}

static void *td_element(const struct metadata_context *context, const struct field *field,
                        u32 element)
{
    u8 *object = field->source == OBJECT_tdr ? (u8 *)context->td->tdr : (u8 *)context->td->tdcs;
    return object + field->offset + element * field->element_bytes;
}

static u64 td_value(const struct metadata_context *context, const struct field *field, u32 element)
{
    u64 value = 0;
    if (field->source == OBJECT_none)
        return 0;
    memcpy(&value, td_element(context, field, element), field->element_bytes);
    /* GPAW is one bit of CONFIG_FLAGS under a name of its own. */
    return field->id == MD_TD_GPAW ? value & TD_CONFIG_GPAW_52 : value;
}

static bool is_gpa_width(const struct metadata_context *context, u64 id)
{
    return context->scope == METADATA_SYS && platform()->gpa_bits < 48 &&
           (id & ~(ID_CONTEXT_MASK | ID_SIZE_MASK)) ==
               (MD_SYS_SOFT_GPA_WIDTH & ~(ID_CONTEXT_MASK | ID_SIZE_MASK));
}

/* CPUID_VALUES: leaf bit 31 at 16, leaf 6:0 at 15:9, "no subleaf" at 8, subleaf at 7:1. */
static bool cpuid_value(const struct metadata_context *context, u64 id, u64 *value)
{
    if (identity(id) != identity(MD_TD_CPUID_VALUES) || id & ID_ZERO_MASK || id >> 17 & 0x7f)
        return false;
    u32 leaf = (u32)(id >> 16 & 1) << 31 | (u32)(id >> 9 & 0x7f);
    u32 subleaf = id >> 8 & 1 ? ~0u : (u32)(id >> 1 & 0x7f);
    const struct tdcs_measured *measured = td_measured(context->td);
    for (u32 i = 0; i < measured->cpuid_count; i++) {
        if (measured->cpuid[i].leaf != leaf || measured->cpuid[i].subleaf != subleaf)
            continue;
        const struct cpuid_values *v = &measured->cpuid[i].values;
        *value = id & 1 ? v->ecx | (u64)v->edx << 32 : v->eax | (u64)v->ebx << 32;
        return true;
    }
    return false;
}

u64 metadata_read(const struct metadata_context *context, u64 id, u64 *value, u64 *next)
{
    u64 ignored;
    next = next ? next : &ignored;
    *value = 0;
    *next = ID_NULL;
    if (context->scope == METADATA_VP)
        return vcpu_field_read(context, id, value, next);
    if (is_gpa_width(context, id)) {
        *value = platform()->gpa_bits;
        return 0;
    }
    if (context->scope == METADATA_SYS && checker_field(id, value))
        return 0;
    if (context->scope == METADATA_TD && cpuid_value(context, id, value))
        return 0;
    struct table table = table_of(context->scope);
    u32 row, element;
    if (!field_find(table, id, &row, &element))
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    const struct field *field = &table.fields[row];
    if (!field_is_readable(field, context->reader))
        return completion(TDX_METADATA_FIELD_NOT_READABLE, 0);
    *value = context->scope == METADATA_SYS ? sys_value(field, element)
                                            : td_value(context, field, element);
    *next = id_after(context, row, element);
    return 0;
}

/* The bits of a field that may be written at all. */
static u64 writable_bits(const struct field *field)
{
    return field->id == MD_TD_HP_LOCK_TIMEOUT ? ~0ull : 1;
}

static bool value_is_valid(const struct metadata_context *context, const struct field *field,
                           u64 old, u64 value)
{
    switch (field->id) {
    case MD_TD_HP_LOCK_TIMEOUT:
        return value >= 10000 && value <= 100000000;
    case MD_TD_TD_CTLS:
        if (value != old && !(context->td->tdcs->config_flags & TD_CONFIG_FLEXIBLE_PENDING_VE))
            return false;
        break;
    default:
        break;
    }
    return !(value & ~writable_bits(field));
}

u64 metadata_write(const struct metadata_context *context, u64 id, u64 value, u64 mask,
                   u64 *previous)
{
    *previous = 0;
    if (context->scope == METADATA_VP)
        return vcpu_field_write(context, id, value, mask, previous);
    u32 row, element;
    struct table table = table_of(context->scope);
    if (context->scope == METADATA_SYS || !field_find(table, id, &row, &element))
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    const struct field *field = &table.fields[row];
    if (!field_is_writable(field, context->reader))
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    if (!(mask & writable_bits(field)))
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    if (field->id == MD_TD_HP_LOCK_TIMEOUT && mask != ~0ull)
        return completion(TDX_METADATA_WR_MASK_NOT_VALID, 0);
    u64 old = td_value(context, field, element);
    u64 merged = (old & ~mask) | (value & mask);
    if (!value_is_valid(context, field, old, merged))
        return completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);
    memcpy(td_element(context, field, element), &merged, field->element_bytes);
    *previous = old;
    return 0;
}
