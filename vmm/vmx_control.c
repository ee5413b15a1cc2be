/* SPDX-License-Identifier: MIT */
/* Control registers of a VM: exits of MOV to CR0, CR4 and CR8, where a bit of the VMM's is meant.
 */
#include "boot/cpu.h"
#include "boot/msr.h"
#include "vmm/vmx_exit.h"
#include "vmm/vmx_policy.h"
#include "vmm/vmx_vm.h"

#define NUMBER_MASK 15u
#define ACCESS_SHIFT 4
#define ACCESS_MASK 3u
#define REGISTER_SHIFT 8
enum access { MOV_TO, MOV_FROM, CLTS, LMSW };

static u64 seen(enum vmcs_field field, enum vmcs_field mask_field, enum vmcs_field shadow_field)
{
    u64 mask = vmx_field(mask_field);
    return (vmx_field(field) & ~mask) | (vmx_field(shadow_field) & mask);
}

static struct vmx_modes modes_seen(void)
{
    return (struct vmx_modes){
        .cr0 = seen(VMCS_GUEST_CR0, VMCS_CR0_MASK, VMCS_CR0_SHADOW),
        .cr4 = seen(VMCS_GUEST_CR4, VMCS_CR4_MASK, VMCS_CR4_SHADOW),
        .efer = vmx_field(VMCS_GUEST_EFER),
        .code_64 = vmx_field(VMCS_GUEST_CS_ACCESS) & SEGMENT_LONG,
    };
}

/* Translations that the guest's old modes made are not those of the new ones. */
static void flush(void)
{
    if (invept(INVEPT_ALL, 0))
        panic("INVEPT of all contexts failed on processor %u", cpu_this()->index);
}

/* Switching paging on in legacy PAE mode reads four entries, which VMX keeps in the VMCS. */
static bool load_page_directories(struct vcpu *vcpu)
{
    u64 entries[4];
    static const enum vmcs_field fields[] = {VMCS_GUEST_PDPTE0, VMCS_GUEST_PDPTE1,
                                             VMCS_GUEST_PDPTE2, VMCS_GUEST_PDPTE3};
    u64 table = (u32)vmx_field(VMCS_GUEST_CR3) & ~31u;
    if (!vmx_memory_read(vcpu->vm, gpa(table), entries, sizeof entries))
        return false;
    for (u32 i = 0; i < ARRAY_LENGTH(fields); i++)
        vmx_field_set(fields[i], entries[i]);
    return true;
}

static bool guest_cr0_write(struct vcpu *vcpu, u64 value)
{
    struct vmx_modes modes = modes_seen();
    value |= CR0_ET; /* hardwired */
    if (!vmx_cr0_is_valid(&modes, value))
        return false;
    u64 efer = modes.efer & ~EFER_LMA, controls = vmx_field(VMCS_ENTRY_CONTROLS) & ~ENTRY_GUEST_64;
    if ((value & CR0_PG) && (efer & EFER_LME)) {
        efer |= EFER_LMA;
        controls |= ENTRY_GUEST_64;
    }
    if ((value & CR0_PG) && (modes.cr4 & CR4_PAE) && !(efer & EFER_LMA) &&
        !load_page_directories(vcpu))
        return false;
    vmx_field_set(VMCS_GUEST_EFER, efer);
    vmx_field_set(VMCS_ENTRY_CONTROLS, controls);
    vmx_field_set(VMCS_CR0_SHADOW, value);
    vmx_field_set(VMCS_GUEST_CR0, vmx_cr0_of(value));
    flush();
    return true;
}

static bool guest_cr4_write(struct vcpu *vcpu, u64 value)
{
    struct vmx_modes modes = modes_seen();
    (void)vcpu;
    if (!vmx_cr4_is_valid(&modes, value))
        return false;
    vmx_field_set(VMCS_CR4_SHADOW, value);
    vmx_field_set(VMCS_GUEST_CR4, vmx_cr4_of(value));
    flush();
    return true;
}

static bool guest_cr8_write(struct vcpu *vcpu, u64 value)
{
    vcpu->vmx.attention = true;
    return value < 16 && vlapic_write(&vcpu->vmx.apic, MSR_X2APIC_TPR, value << 4) == OK;
}

void vmx_serve_control_register(struct vcpu *vcpu)
{
    u64 qualification = vmx_field(VMCS_EXIT_QUALIFICATION);
    u32 number = qualification & NUMBER_MASK;
    u32 reg = (u32)(qualification >> REGISTER_SHIFT) & NUMBER_MASK;
    enum access access = (enum access)(qualification >> ACCESS_SHIFT & ACCESS_MASK);
    u64 value = vmx_register(vcpu, reg);
    bool done;
    if (access == MOV_FROM && number == 8) {
        vmx_register_set(vcpu, reg, vcpu->vmx.apic.task_priority >> 4);
        done = true;
    } else if (access == MOV_TO && number == 0) {
        done = guest_cr0_write(vcpu, value);
    } else if (access == MOV_TO && number == 4) {
        done = guest_cr4_write(vcpu, value);
    } else if (access == MOV_TO && number == 8) {
        done = guest_cr8_write(vcpu, value);
    } else {
        vmx_end_for_exit(vcpu, VM_END_BAD_EXIT); /* CLTS and LMSW touch no bit of the VMM's */
        return;
    }
    if (done)
        vmx_skip_instruction();
    else
        vmx_inject_gp();
}
