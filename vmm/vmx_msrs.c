/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_msrs.h"

#include "boot/msr.h"
#include "boot/string.h"
#include "vmm/vmx_exit.h"
#include "vmm/vmx_policy.h"

/* "MSR-Bitmap Address": a bit an MSR, clear: no exit. The low and high MSRs, reads and writes. */
#define BITMAP_BYTES 1024u
#define HIGH_MSRS 0xc0000000u
#define MSRS_MASK 0x1fffu
#define X2APIC_MSRS 0x100u

static void let_through(u8 *bitmap, u32 index)
{
    u8 *reads = bitmap + (index >= HIGH_MSRS ? BITMAP_BYTES : 0),
       *writes = reads + 2 * BITMAP_BYTES;
    u32 at = (index & MSRS_MASK) / 8;
    u8 bit = (u8)(1u << index % 8);
    reads[at] &= (u8)~bit;
    writes[at] &= (u8)~bit;
}

/* Made anew, and alike, by each VM. */
const u8 *vmx_msr_bitmap(void)
{
    static const u32 direct[] = {
#define VMX_MSR_DIRECT(name) MSR_##name,
#define VMX_MSR_SWITCHED(name) MSR_##name,
#include "vmm/vmx_msrs.def"
    };
    static u8 bitmap[PAGE_BYTES] __attribute__((aligned(4096)));
    static bool is_made;
    if (!is_made)
        memset(bitmap, 0xff, sizeof bitmap);
    is_made = true;
    for (u32 i = 0; i < ARRAY_LENGTH(direct); i++)
        let_through(bitmap, direct[i]);
    return bitmap;
}

static u64 efer_read(struct vcpu *vcpu)
{
    (void)vcpu;
    return vmx_field(VMCS_GUEST_EFER);
}

/* LMA is the processor's; a write does not change it. */
static enum error efer_write(struct vcpu *vcpu, u64 value)
{
    u64 present = vmx_field(VMCS_GUEST_EFER);
    (void)vcpu;
    value = (value & ~EFER_LMA) | (present & EFER_LMA);
    if (!vmx_efer_is_valid(value, present, vmx_field(VMCS_GUEST_CR0) & CR0_PG))
        return ERR_INVALID;
    vmx_field_set(VMCS_GUEST_EFER, value);
    return OK;
}

static void tsc_shift(struct vcpu *vcpu, u64 ticks)
{
    vcpu->vmx.tsc_offset += ticks;
    vcpu->vmx.tsc_adjust += ticks;
    vmx_field_set(VMCS_TSC_OFFSET, vcpu->vmx.tsc_offset);
    vcpu->vmx.attention = true; /* its deadline is at another time now */
}

static u64 tsc_msr_read(struct vcpu *vcpu)
{
    return tsc_read() + vcpu->vmx.tsc_offset;
}

static enum error tsc_msr_write(struct vcpu *vcpu, u64 value)
{
    tsc_shift(vcpu, value - tsc_msr_read(vcpu));
    return OK;
}

static u64 tsc_adjust_read(struct vcpu *vcpu)
{
    return vcpu->vmx.tsc_adjust;
}

static enum error tsc_adjust_write(struct vcpu *vcpu, u64 value)
{
    tsc_shift(vcpu, value - vcpu->vmx.tsc_adjust);
    return OK;
}

static u64 capabilities_read(struct vcpu *vcpu)
{
    (void)vcpu;
    return vmx_arch_capabilities();
}

static enum error write_nothing(struct vcpu *vcpu, u64 value)
{
    (void)vcpu;
    (void)value;
    return ERR_INVALID;
}

static const struct {
    u32 index;
    u64 (*read)(struct vcpu *vcpu);
    enum error (*write)(struct vcpu *vcpu, u64 value);
} emulated[] = {
#define VMX_MSR_EMULATED(name, read, write) {MSR_##name, read, write},
#include "vmm/vmx_msrs.def"
};

static const struct {
    u32 index;
    u64 value;
} constants[] = {
#define VMX_MSR_CONSTANT(name, value) {MSR_##name, value},
#include "vmm/vmx_msrs.def"
};

static enum error other_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    for (u32 i = 0; i < ARRAY_LENGTH(emulated); i++) {
        if (emulated[i].index == index) {
            *value = emulated[i].read(vcpu);
            return OK;
        }
    }
    for (u32 i = 0; i < ARRAY_LENGTH(constants); i++) {
        if (constants[i].index == index) {
            *value = constants[i].value;
            return OK;
        }
    }
    return ERR_INVALID;
}

static enum error other_write(struct vcpu *vcpu, u32 index, u64 value)
{
    for (u32 i = 0; i < ARRAY_LENGTH(emulated); i++) {
        if (emulated[i].index == index)
            return emulated[i].write(vcpu, value);
    }
    for (u32 i = 0; i < ARRAY_LENGTH(constants); i++) {
        if (constants[i].index == index)
            return value == constants[i].value ? OK : ERR_INVALID;
    }
    return ERR_INVALID;
}

/* They are there in x2APIC mode alone. */
static bool x2apic_is_missing(const struct vcpu *vcpu, u32 index)
{
    return vcpu->lapic.mode != LAPIC_X2APIC && index >= MSR_X2APIC_BASE &&
           index < MSR_X2APIC_BASE + X2APIC_MSRS;
}

enum error vmx_msr_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    if (x2apic_is_missing(vcpu, index))
        return ERR_INVALID;
    if (vlapic_owns_msr(index))
        return vlapic_read(&vcpu->vmx.apic, index, value);
    if (lapic_owns_msr(index))
        return lapic_read(&vcpu->lapic, index, value);
    return other_read(vcpu, index, value);
}

/* What the local APIC is told may change what is due, or what of that which waits is delivered. */
static enum error apic_write(struct vcpu *vcpu, u32 index, u64 value)
{
    struct interrupt interrupt = {.kind = INTERRUPT_NONE};
    enum error e;
    if (vlapic_owns_msr(index)) {
        e = vlapic_write(&vcpu->vmx.apic, index, value);
        if (vlapic_is_waiting(&vcpu->vmx.apic))
            vcpu->vmx.attention = true;
        return e;
    }
    e = lapic_write(&vcpu->lapic, index, value, &interrupt);
    vcpu->vmx.attention = true;
    vm_deliver(vcpu->vm, &interrupt, vcpu->index);
    return e;
}

static enum error apic_base_write(struct vcpu *vcpu, u64 value)
{
    enum lapic_mode old = vcpu->lapic.mode;
    enum error e = lapic_base_write(&vcpu->lapic, value);
    if (!e && old == LAPIC_OFF && vcpu->lapic.mode != LAPIC_OFF)
        vlapic_reset(&vcpu->vmx.apic);
    vmx_cpuid_forget(vcpu);
    vcpu->vmx.attention = true;
    return e;
}

enum error vmx_msr_write(struct vcpu *vcpu, u32 index, u64 value)
{
    if (index == MSR_APIC_BASE)
        return apic_base_write(vcpu, value);
    if (x2apic_is_missing(vcpu, index))
        return ERR_INVALID;
    if (vlapic_owns_msr(index) || lapic_owns_msr(index))
        return apic_write(vcpu, index, value);
    return other_write(vcpu, index, value);
}

static void refuse(struct vcpu *vcpu)
{
    vcpu->msrs_refused++;
    vmx_inject_gp();
}

void vmx_serve_rdmsr(struct vcpu *vcpu)
{
    u64 *gpr = vcpu->vmx.gpr, value;
    if (vmx_msr_read(vcpu, (u32)gpr[GPR_RCX], &value)) {
        refuse(vcpu);
        return;
    }
    gpr[GPR_RAX] = (u32)value;
    gpr[GPR_RDX] = value >> 32;
    vmx_skip_instruction();
}

void vmx_serve_wrmsr(struct vcpu *vcpu)
{
    if (vmx_msr_write(vcpu, (u32)vcpu->vmx.gpr[GPR_RCX], vmx_edx_eax(vcpu)))
        refuse(vcpu);
    else
        vmx_skip_instruction();
}
