/* SPDX-License-Identifier: MIT */
#include "tdx/soft/metadata.h"

#include "boot/string.h"
#include "tdx/soft/system.h"

/* An id's parts. Context, element size, INC_SIZE and NON_ARCH are ignored: class and code do. */
#define ID_CONTEXT_SHIFT 52
#define ID_CONTEXT_MASK (7ull << ID_CONTEXT_SHIFT)
#define ID_SIZE_SHIFT 32
#define ID_SIZE_MASK (3ull << ID_SIZE_SHIFT)
#define ID_INC_SIZE (1ull << 50)
#define ID_CLASS_MASK (0x3full << 56)
#define ID_CLASS_VMCS 0ull
/* 31:24, LAST_ELEMENT, LAST_FIELD and the reserved bits. */
#define ID_ZERO_MASK \
    (0xffull << 24 | 0xfull << 34 | 0x1ffull << 38 | 7ull << 47 | 1ull << 55 | 1ull << 62)
#define VMCS_HIGH_HALF 1

static struct metadata_table table_of(enum metadata_scope scope)
{
    return scope == METADATA_SYS ? sys_fields : scope == METADATA_TD ? td_fields : vcpu_fields;
}

bool metadata_field_is_null(u64 field)
{
    return (field | ID_CONTEXT_MASK) == METADATA_ID_NONE;
}

static u32 field_stride(const struct metadata_field *field)
{
    return field->id & ID_INC_SIZE ? 2 : 1;
}

static u32 row_elements(const struct metadata_field *field)
{
    return (u32)field->fields * field->elements;
}

u64 metadata_size_mask(const struct metadata_field *field)
{
    u32 bits = 8u << ((field->id & ID_SIZE_MASK) >> ID_SIZE_SHIFT);
    return bits == 64 ? ~0ull : (1ull << bits) - 1;
}

u64 metadata_place_id(const struct metadata_place *place)
{
    return place->field->id + (u64)place->element * field_stride(place->field);
}

static bool field_is_there(const struct metadata_context *context,
                           const struct metadata_field *field)
{
    switch (context->scope) {
    case METADATA_SYS:
        return sys_field_is_there(field);
    case METADATA_TD:
        return td_field_is_there(context, field);
    case METADATA_VP:
        break;
    }
    return true;
}

static u64 readable_bits(const struct metadata_context *context, const struct metadata_field *field)
{
    if (!field_is_there(context, field))
        return 0;
    return field->masks.read[context->reader] & metadata_size_mask(field);
}

static bool place_find(const struct metadata_context *context, u64 id, struct metadata_place *place)
{
    struct metadata_table table = table_of(context->scope);
    u64 code = id & METADATA_CODE_MASK;

    for (const struct metadata_field *f = table.fields; f < table.fields + table.count; f++) {
        u64 distance = code - (f->id & METADATA_CODE_MASK);
        if ((id ^ f->id) & ID_CLASS_MASK || !field_is_there(context, f) ||
            distance >= (u64)f->rows * row_elements(f) * field_stride(f))
            continue;
        *place = (struct metadata_place){f, (u32)distance / field_stride(f)};
        return true;
    }
    return false;
}

static bool id_is_cpuid(enum metadata_scope scope, u64 id)
{
    return scope == METADATA_TD && (id & ID_CLASS_MASK) == (MD_TD_CPUID_VALUES & ID_CLASS_MASK);
}

/* CPUID_VALUES counts in leaves and subleaves: the row stands for all of them. */
static bool cpuid_place(const struct metadata_context *context, u64 id,
                        struct metadata_place *place)
{
    if (!place_find(context, MD_TD_CPUID_VALUES, place))
        return false;
    place->element = (u32)(id & METADATA_CODE_MASK);
    return true;
}

bool metadata_place_find(const struct metadata_context *context, u64 id,
                         struct metadata_place *place)
{
    if (id & ID_ZERO_MASK)
        return false;
    if (id_is_cpuid(context->scope, id))
        return cpuid_place(context, id, place);
    bool is_high_half = context->scope == METADATA_VP && (id & ID_CLASS_MASK) == ID_CLASS_VMCS &&
                        id & VMCS_HIGH_HALF;
    return !is_high_half && place_find(context, id, place);
}

/* The first element that may be read, of the rows from `field`. */
static u64 first_from(const struct metadata_context *context, const struct metadata_field *field)
{
    struct metadata_table table = table_of(context->scope);

    for (; field < table.fields + table.count; field++)
        if (readable_bits(context, field))
            return field->source == FROM_CPUID_VALUES ? field->id + td_cpuid_first() : field->id;
    return METADATA_ID_NONE;
}

u64 metadata_first(const struct metadata_context *context)
{
    return first_from(context, table_of(context->scope).fields);
}

u64 metadata_readable_from(const struct metadata_context *context,
                           const struct metadata_place *place)
{
    if (readable_bits(context, place->field))
        return metadata_place_id(place);
    return first_from(context, place->field + 1);
}

static u64 id_after(const struct metadata_context *context, u64 id,
                    const struct metadata_place *place)
{
    static const u64 contexts[] = {[METADATA_SYS] = 0, [METADATA_TD] = 1, [METADATA_VP] = 2};
    const struct metadata_field *field = place->field;
    u64 here = (id & ~ID_CONTEXT_MASK) | contexts[context->scope] << ID_CONTEXT_SHIFT;

    if (field->source == FROM_CPUID_VALUES) {
        u64 code = td_cpuid_next(id & METADATA_CODE_MASK);
        if (code != METADATA_ID_NONE)
            return (here & ~METADATA_CODE_MASK) | code;
        return first_from(context, field + 1);
    }
    struct metadata_place next = {field, place->element + 1};
    if (next.element % row_elements(field))
        return here + field_stride(field);
    if (next.element < (u32)field->rows * row_elements(field))
        return metadata_place_id(&next);
    return first_from(context, field + 1);
}

u64 metadata_member_read(const void *object, const struct metadata_place *place)
{
    u64 value = 0;
    const struct metadata_field *field = place->field;
    memcpy(&value, (const u8 *)object + field->offset + (u64)place->element * field->step,
           field->bytes);
    return value;
}

void metadata_member_write(void *object, const struct metadata_place *place, u64 value)
{
    const struct metadata_field *field = place->field;
    memcpy((u8 *)object + field->offset + (u64)place->element * field->step, &value, field->bytes);
}

static u64 place_value(const struct metadata_context *context, const struct metadata_place *place)
{
    switch (context->scope) {
    case METADATA_SYS:
        return sys_field_value(place);
    case METADATA_TD:
        return td_field_value(context, place);
    case METADATA_VP:
        return vcpu_field_value(context, place);
    }
    return 0;
}

/* The module's own field, for a VMM that must know how wide addresses are here. */
static bool is_gpa_width(const struct metadata_context *context, u64 id)
{
    const u64 ignored = ID_CONTEXT_MASK | ID_SIZE_MASK;
    return context->scope == METADATA_SYS && platform()->gpa_bits < 48 &&
           (id & ~ignored) == (MD_SYS_SOFT_GPA_WIDTH & ~ignored);
}

static u64 place_check(const struct metadata_context *context, u64 id, struct metadata_place *place)
{
    if (!metadata_place_find(context, id, place))
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    return id_is_cpuid(context->scope, id) ? td_cpuid_check(id & METADATA_CODE_MASK) : 0;
}

u64 metadata_read(const struct metadata_context *context, u64 id, u64 *value, u64 *next)
{
    struct metadata_place place;

    *value = 0;
    if (next)
        *next = METADATA_ID_NONE;
    if (is_gpa_width(context, id)) {
        *value = platform()->gpa_bits;
        return 0;
    }
    u64 status = place_check(context, id, &place);
    if (status)
        return status;
    u64 mask = readable_bits(context, place.field);
    if (!mask)
        return completion(TDX_METADATA_FIELD_NOT_READABLE, 0);
    *value = place_value(context, &place) & mask;
    if (next)
        *next = id_after(context, id, &place);
    return 0;
}

/*
 * What stays of the old value where `allowed` bits may change: nothing if the whole element of a
 * vCPU is written, and no reserved bit of an address that was not set yet.
 */
static u64 base_value(const struct metadata_context *context, const struct metadata_place *place,
                      u64 old, u64 changed, u64 allowed)
{
    if (context->scope != METADATA_VP)
        return old;
    if (changed == metadata_size_mask(place->field))
        return 0;
    return vcpu_field_is_address(place) && old >> 63 ? old & allowed : old;
}

u64 metadata_write(const struct metadata_context *context, u64 id, u64 value, u64 mask,
                   u64 *previous)
{
    struct metadata_place place;

    *previous = 0;
    if (context->scope == METADATA_SYS)
        return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
    u64 status = place_check(context, id, &place);
    if (status)
        return status;
    u64 size = metadata_size_mask(place.field);
    u64 allowed = place.field->masks.write[context->reader] & size, changed = allowed & mask;
    if (!changed)
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    u64 old = place_value(context, &place) & size;
    u64 base = base_value(context, &place, old, changed, allowed);
    /* The mask may name bits that cannot change; the value must have them as they are. */
    if ((base ^ value) & mask & ~allowed)
        return completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);
    u64 merged = (base & ~changed) | (value & changed);
    status = context->scope == METADATA_TD ? td_field_write(context, &place, merged, changed)
                                           : vcpu_field_write(context, &place, merged, changed);
    if (!status)
        *previous = old & readable_bits(context, place.field);
    return status;
}
