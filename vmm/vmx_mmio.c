/* SPDX-License-Identifier: MIT */
/* A VM's access to device memory: an EPT violation whose instruction is executed here. */
#include "boot/log.h"
#include "vmm/layout.h"
#include "vmm/mmio.h"
#include "vmm/mmio_decode.h"
#include "vmm/vmx_exit.h"
#include "vmm/vmx_linear.h"
#include "vmm/xapic.h"

#define APIC_REGISTER_STRIDE 16u

typedef unsigned long long number; /* what %llu takes */

static u32 mode_bits(void)
{
    u64 access = vmx_field(VMCS_GUEST_CS_ACCESS);
    if ((access & SEGMENT_LONG) && (vmx_field(VMCS_GUEST_EFER) & EFER_LMA))
        return 64;
    return access & SEGMENT_DEFAULT_32 ? 32 : 16;
}

/* The end of the guest: one line with the bytes that were not understood. */
static void end_for_instruction(struct vcpu *vcpu, gpa_t address, const u8 *bytes, u32 count)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * INSTRUCTION_BYTES_MAX + 1];
    for (u32 i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = 0;
    log_line("guest %s: vCPU %u %s: GPA %#llx, RIP %#llx, bytes %s", vcpu->vm->config->name,
             vcpu->index, vm_end_text(VM_END_BAD_INSTRUCTION), (number)address.raw,
             (number)vmx_field(VMCS_GUEST_RIP), count ? text : "none");
    vm_end(vcpu->vm, VM_END_BAD_INSTRUCTION);
}

/* Its local APIC is a vCPU's own; everything else is the VM's. */
static bool is_local_apic(gpa_t address)
{
    return address.raw - LAYOUT_LAPIC < PAGE_BYTES;
}

/* Registers are read and written whole, in xAPIC mode alone. */
static bool is_apic_register(const struct vcpu *vcpu, gpa_t address, u32 size_bytes)
{
    return vcpu->lapic.mode == LAPIC_XAPIC && size_bytes == sizeof(u32) &&
           is_aligned(address.raw, APIC_REGISTER_STRIDE);
}

static u64 device_read(struct vcpu *vcpu, gpa_t address, u32 size_bytes)
{
    if (!is_local_apic(address))
        return mmio_read(vcpu->vm, address, size_bytes);
    if (!is_apic_register(vcpu, address, size_bytes))
        return ~0ull;
    return xapic_read(&vcpu->lapic, &vcpu->vmx.apic, address.raw & PAGE_MASK);
}

static void device_write(struct vcpu *vcpu, gpa_t address, u32 size_bytes, u64 value)
{
    struct interrupt interrupt;
    if (!is_local_apic(address)) {
        mmio_write(vcpu->vm, address, size_bytes, value);
        return;
    }
    if (!is_apic_register(vcpu, address, size_bytes))
        return;
    xapic_write(&vcpu->lapic, &vcpu->vmx.apic, address.raw & PAGE_MASK, (u32)value, &interrupt);
    vm_deliver(vcpu->vm, &interrupt, vcpu->index);
    vcpu->vmx.attention = true;
}

static void execute(struct vcpu *vcpu, gpa_t address, const struct mmio_instruction *instruction)
{
    u64 reg = vmx_register(vcpu, instruction->reg), old = reg;
    u64 flags = vmx_field(VMCS_GUEST_RFLAGS), old_flags = flags, memory = 0;
    if (mmio_reads(instruction))
        memory = device_read(vcpu, address, instruction->size_bytes);
    u64 result = mmio_execute(instruction, memory, &reg, &flags);
    if (mmio_writes(instruction))
        device_write(vcpu, address, instruction->size_bytes, result);
    if (reg != old)
        vmx_register_set(vcpu, instruction->reg, reg);
    if (flags != old_flags)
        vmx_field_set(VMCS_GUEST_RFLAGS, flags);
    vmx_field_set(VMCS_GUEST_RIP, vmx_field(VMCS_GUEST_RIP) + instruction->len_bytes);
}

bool vmx_serve_mmio(struct vcpu *vcpu, gpa_t address)
{
    u8 bytes[INSTRUCTION_BYTES_MAX];
    struct mmio_instruction instruction;
    if (!is_local_apic(address) && !mmio_is_device(vcpu->vm, address))
        return false;
    /* An event that is delivered by way of a device is no instruction's doing. */
    bool is_delivery = vmx_field(VMCS_IDT_VECTORING_INFO) & INTR_VALID;
    bool is_fetch = vmx_field(VMCS_EXIT_QUALIFICATION) & EPT_VIOLATION_EXECUTE;
    u64 linear = vmx_field(VMCS_GUEST_CS_BASE) + vmx_field(VMCS_GUEST_RIP);
    u32 count = is_delivery || is_fetch ? 0 : vmx_linear_read(vcpu, linear, bytes, sizeof bytes);
    if (mmio_decode(bytes, count, mode_bits(), &instruction))
        end_for_instruction(vcpu, address, bytes, count);
    else
        execute(vcpu, address, &instruction);
    return true;
}
