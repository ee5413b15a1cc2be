/* SPDX-License-Identifier: MIT */
/* Metadata of a vCPU: tdx/soft/vcpu_fields.def in action. */
#include "boot/string.h"
#include "tdx/soft/run.h"
#include "tdx/soft/vcpu.h"

#define ID_CODE_MASK 0xffffffull
#define ID_CLASS_MASK (1ull << 63 | 0x3full << 56)
#define ID_CLASS_VMCS 0ull
/* Must be zero in an id: 31:24, LAST_ELEMENT, LAST_FIELD, and the reserved bits. */
#define ID_ZERO_MASK \
    (0xffull << 24 | 0xfull << 34 | 0x1ffull << 38 | 7ull << 47 | 1ull << 55 | 1ull << 62)
#define ID_NONE (~0ull)

#define VECTOR_LIMIT 256
#define DESCRIPTOR_ALIGN 64

enum source {
    NOTHING, /* it exists, and nobody may read or write it */
    VMCS,
    TDVPS_BYTES,
    POSTED_VECTOR,
    POSTED_DESCRIPTOR,
    SHARED_EPTP,
    PIN_CONTROLS,
    STATE_DETAILS,
    XFAM,
};

enum access {
    H = 1 << 0,
    D = 1 << 1,
    W = 1 << 2,
    V = 1 << 3,
    G = 1 << 4,
    X = 1 << 5,
};

static const struct vp_field {
    u64 id;
    u16 elements, step;
    u16 source;   /* enum source */
    u16 access;   /* enum access */
    u32 argument; /* VMCS: encoding; TDVPS_BYTES: offset */
    u32 bytes;    /* TDVPS_BYTES: of one element */
} fields[] = {
#define ARGUMENT_VMCS(argument) argument, 0
#define ARGUMENT_TDVPS_BYTES(member) \
    offsetof(struct tdvps, member), sizeof(((struct tdvps *)0)->member)
#define ARGUMENT_NOTHING(unused) 0, 0
#define ARGUMENT_POSTED_VECTOR(unused) 0, 0
#define ARGUMENT_POSTED_DESCRIPTOR(unused) 0, 0
#define ARGUMENT_SHARED_EPTP(unused) 0, 0
#define ARGUMENT_PIN_CONTROLS(unused) 0, 0
#define ARGUMENT_STATE_DETAILS(unused) 0, 0
#define ARGUMENT_XFAM(unused) 0, 0
#define VP_FIELD(id, elements, step, source, argument, access) \
    {id, elements, step, source, access, ARGUMENT_##source(argument)},
#include "tdx/soft/vcpu_fields.def"
#undef VP_FIELD
};

struct place {
    const struct vp_field *field;
    u32 element;
};

static bool place_find(u64 id, struct place *place)
{
    if (id & ID_ZERO_MASK)
        return false;
    for (u32 i = 0; i < ARRAY_LENGTH(fields); i++) {
        u64 distance = (id & ID_CODE_MASK) - (fields[i].id & ID_CODE_MASK);
        if ((id ^ fields[i].id) & ID_CLASS_MASK || distance % fields[i].step ||
            distance / fields[i].step >= fields[i].elements)
            continue;
        *place = (struct place){&fields[i], (u32)(distance / fields[i].step)};
        return true;
    }
    return false;
}

/* Fields of the VMCS that no row lists are the module's own. */
static bool field_is_hidden(u64 id)
{
    const char *name = vmcs_field_name((u32)(id & ID_CODE_MASK));
    return !(id & (ID_ZERO_MASK | ID_CLASS_MASK)) && name[0] != '?';
}

static u32 readable(enum metadata_reader reader)
{
    return reader == METADATA_GUEST ? G : reader == METADATA_HOST ? H : H | D;
}

static u32 writable(enum metadata_reader reader)
{
    return reader == METADATA_GUEST ? X : reader == METADATA_HOST ? W : W | V;
}

static u64 first_from(u32 row, enum metadata_reader reader)
{
    for (; row < ARRAY_LENGTH(fields); row++)
        if (fields[row].access & readable(reader))
            return fields[row].id;
    return ID_NONE;
}

u64 vcpu_field_first(const struct metadata_context *context)
{
    return first_from(0, context->reader);
}

static u64 pin_controls(const struct tdvps *vcpu)
{
    u64 hardware = seam_vmcs_read(VMCS_PIN_CONTROLS) & ~(u64)PIN_PREEMPTION_TIMER;
    return hardware | (vcpu->posted_enabled ? PIN_POSTED_INTERRUPTS : 0);
}

static u8 *tdvps_bytes(struct tdvps *vcpu, const struct place *place)
{
    return (u8 *)vcpu + place->field->argument + place->element * place->field->bytes;
}

static u64 place_read(const struct metadata_context *context, const struct place *place)
{
    struct tdvps *vcpu = context->vcpu;
    u64 value = 0;

    switch ((enum source)place->field->source) {
    case VMCS:
        return seam_vmcs_read(place->field->argument + place->element * place->field->step);
    case TDVPS_BYTES:
        memcpy(&value, tdvps_bytes(vcpu, place), place->field->bytes);
        return value;
    case POSTED_VECTOR:
        return vcpu->posted_vector;
    case POSTED_DESCRIPTOR:
        return vcpu->posted_descriptor;
    case SHARED_EPTP:
        return vcpu->shared_eptp;
    case PIN_CONTROLS:
        return pin_controls(vcpu);
    case STATE_DETAILS:
        return interrupts_is_deliverable(vcpu) ? MD_VP_STATE_DETAILS_INTERRUPT : 0;
    case XFAM:
        return context->td->tdcs->xfam;
    case NOTHING:
        break;
    }
    return 0;
}

u64 vcpu_field_read(const struct metadata_context *context, u64 id, u64 *value, u64 *next)
{
    struct place place;

    if (!place_find(id, &place))
        return completion(field_is_hidden(id) ? TDX_METADATA_FIELD_NOT_READABLE
                                              : TDX_METADATA_FIELD_ID_INCORRECT,
                          0);
    if (!(place.field->access & readable(context->reader)))
        return completion(TDX_METADATA_FIELD_NOT_READABLE, 0);
    *value = place_read(context, &place);
    if (place.element + 1u < place.field->elements)
        *next = place.field->id + (u64)(place.element + 1) * place.field->step;
    else
        *next = first_from((u32)(place.field - fields) + 1, context->reader);
    return 0;
}

static u64 pin_controls_write(struct tdvps *vcpu, u64 value)
{
    bool enable = value & PIN_POSTED_INTERRUPTS;

    if (enable && vcpu->posted_descriptor == VCPU_POINTER_NONE)
        return completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_DESC_ADDR);
    if (enable && vcpu->posted_vector == VCPU_NO_VECTOR)
        return completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_NV);
    vcpu->posted_enabled = enable;
    return 0;
}

/* An element narrower than 64 bits takes no more than it holds. */
static u64 tdvps_bytes_write(struct tdvps *vcpu, const struct place *place, u64 value)
{
    if (place->field->bytes < sizeof value && value >> (8 * place->field->bytes))
        return completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);
    memcpy(tdvps_bytes(vcpu, place), &value, place->field->bytes);
    return 0;
}

static u64 place_write(struct tdvps *vcpu, const struct place *place, u64 value)
{
    u64 invalid = completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);

    switch ((enum source)place->field->source) {
    case VMCS:
        seam_vmcs_write(place->field->argument + place->element * place->field->step, value);
        return 0;
    case TDVPS_BYTES:
        return tdvps_bytes_write(vcpu, place, value);
    case POSTED_VECTOR:
        if (value >= VECTOR_LIMIT)
            return invalid;
        vcpu->posted_vector = (u16)value;
        return 0;
    case POSTED_DESCRIPTOR:
        if (operand_shared(value, DESCRIPTOR_ALIGN, OPERAND_R8))
            return invalid;
        vcpu->posted_descriptor = value;
        return 0;
    case SHARED_EPTP:
        if (operand_shared(value, PAGE_BYTES, OPERAND_R8))
            return invalid;
        vcpu->shared_eptp = value;
        return 0;
    case PIN_CONTROLS:
        return pin_controls_write(vcpu, value);
    default:
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    }
}

u64 vcpu_field_write(const struct metadata_context *context, u64 id, u64 value, u64 mask,
                     u64 *previous)
{
    struct place place;

    if (!place_find(id, &place))
        return completion(field_is_hidden(id) ? TDX_METADATA_FIELD_NOT_WRITABLE
                                              : TDX_METADATA_FIELD_ID_INCORRECT,
                          0);
    if (!(place.field->access & writable(context->reader)) || !mask)
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    u64 before = place_read(context, &place);
    u64 status = place_write(context->vcpu, &place, (before & ~mask) | (value & mask));
    if (!status)
        *previous = before;
    return status;
}
