/* SPDX-License-Identifier: MIT */
/* Metadata fields of a vCPU that live in its VMCS, its registers, or stand for a VMCS's. */
#include "tdx/soft/vcpu.h"

#define FIELD_CODE_MASK 0xffffffull
#define FIELD_CLASS_SHIFT 56
#define FIELD_CLASS_MASK 0x3full
#define CLASS_VMCS 0x00
#define CLASS_GPR 0x10

#define VECTOR_LIMIT 256
#define DESCRIPTOR_ALIGN 64

static u64 virtual_pin_controls(const struct tdvps *vcpu)
{
    u64 hardware = seam_vmcs_read(VMCS_PIN_CONTROLS) & ~(u64)PIN_PREEMPTION_TIMER;
    return hardware | (vcpu->posted_enabled ? PIN_POSTED_INTERRUPTS : 0);
}

/* Fields that the VMM sees as a VMCS's, but that the module serves in software. */
static bool virtual_field_read(const struct tdvps *vcpu, u32 encoding, u64 *value)
{
    switch (encoding) {
    case VMCS_POSTED_INTR_NV:
        *value = vcpu->posted_vector;
        return true;
    case VMCS_POSTED_INTR_DESC_ADDR:
        *value = vcpu->posted_descriptor;
        return true;
    case VMCS_SHARED_EPT_POINTER:
        *value = vcpu->shared_eptp;
        return true;
    case VMCS_PIN_CONTROLS:
        *value = virtual_pin_controls(vcpu);
        return true;
    default:
        return false;
    }
}

u64 vcpu_field_read(const struct metadata_context *context, u64 field, u64 *value)
{
    struct tdvps *vcpu = context->vcpu;
    u32 code = (u32)(field & FIELD_CODE_MASK);

    switch (field >> FIELD_CLASS_SHIFT & FIELD_CLASS_MASK) {
    case CLASS_VMCS:
        if (!virtual_field_read(vcpu, code, value))
            *value = seam_vmcs_read(code);
        return 0;
    case CLASS_GPR:
        if (code >= GPR_COUNT)
            break;
        *value = code == GPR_RSP ? seam_vmcs_read(VMCS_GUEST_RSP) : vcpu->gpr[code];
        return 0;
    default:
        break;
    }
    return completion(TDX_METADATA_FIELD_ID_INCORRECT, 0);
}

static u64 not_initialized(u32 encoding)
{
    return completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, encoding);
}

static u64 pin_controls_write(struct tdvps *vcpu, u64 value)
{
    bool enable = value & PIN_POSTED_INTERRUPTS;

    if (enable && vcpu->posted_descriptor == VCPU_POINTER_NONE)
        return not_initialized(VMCS_POSTED_INTR_DESC_ADDR);
    if (enable && vcpu->posted_vector == VCPU_NO_VECTOR)
        return not_initialized(VMCS_POSTED_INTR_NV);
    vcpu->posted_enabled = enable;
    return 0;
}

static u64 virtual_field_write(struct tdvps *vcpu, u32 encoding, u64 value)
{
    u64 invalid = completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);

    switch (encoding) {
    case VMCS_POSTED_INTR_NV:
        if (value >= VECTOR_LIMIT)
            return invalid;
        vcpu->posted_vector = (u16)value;
        return 0;
    case VMCS_POSTED_INTR_DESC_ADDR:
        if (operand_shared(value, DESCRIPTOR_ALIGN, OPERAND_R8))
            return invalid;
        vcpu->posted_descriptor = value;
        return 0;
    case VMCS_SHARED_EPT_POINTER:
        if (operand_shared(value, PAGE_BYTES, OPERAND_R8))
            return invalid;
        vcpu->shared_eptp = value;
        return 0;
    default:
        return pin_controls_write(vcpu, value);
    }
}

u64 vcpu_field_write(const struct metadata_context *context, u64 field, u64 value, u64 mask,
                     u64 *previous)
{
    struct tdvps *vcpu = context->vcpu;
    u32 code = (u32)(field & FIELD_CODE_MASK);
    u64 unused;

    u64 status = vcpu_field_read(context, field, previous);
    if (status)
        return status;
    value = (*previous & ~mask) | (value & mask);
    if ((field >> FIELD_CLASS_SHIFT & FIELD_CLASS_MASK) == CLASS_VMCS) {
        if (virtual_field_read(vcpu, code, &unused))
            return virtual_field_write(vcpu, code, value);
        seam_vmcs_write(code, value);
    } else if (code == GPR_RSP) {
        seam_vmcs_write(VMCS_GUEST_RSP, value);
    } else {
        vcpu->gpr[code] = value;
    }
    return 0;
}
