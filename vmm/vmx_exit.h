/* SPDX-License-Identifier: MIT */
/* What the handlers of a VM's exits share. The vCPU's VMCS is current on this processor. */
#ifndef VMM_VMX_EXIT_H
#define VMM_VMX_EXIT_H

#include "boot/x86.h"
#include "vmm/vm.h"

/* "Blocking by STI" may stay: before an injection that it would hold back it is looked at. */
static inline void vmx_skip_instruction(void)
{
    vmx_field_set(VMCS_GUEST_RIP, vmx_field(VMCS_GUEST_RIP) + vmx_field(VMCS_EXIT_INSTRUCTION_LEN));
}

/* The instruction raises the exception instead. */
static inline void vmx_inject_gp(void)
{
    vmx_field_set(VMCS_ENTRY_ERROR_CODE, 0);
    vmx_field_set(VMCS_ENTRY_INTR_INFO,
                  INTR_VALID | INTR_HAS_ERROR_CODE | INTR_TYPE_EXCEPTION | VECTOR_GP);
}
static inline void vmx_inject_ud(void)
{
    vmx_field_set(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_EXCEPTION | VECTOR_UD);
}

/* What CPUID answers has changed. */
static inline void vmx_cpuid_forget(struct vcpu *vcpu)
{
    for (u32 i = 0; i < VMX_CPUID_LINES; i++)
        vcpu->vmx.cpuid[i].is_filled = false;
}

/* A general register by the number that instructions have for it: GPR_RAX... */
static inline u64 vmx_register(const struct vcpu *vcpu, u32 number)
{
    return number == GPR_RSP ? vmx_field(VMCS_GUEST_RSP) : vcpu->vmx.gpr[number];
}
static inline void vmx_register_set(struct vcpu *vcpu, u32 number, u64 value)
{
    if (number == GPR_RSP)
        vmx_field_set(VMCS_GUEST_RSP, value);
    else
        vcpu->vmx.gpr[number] = value;
}

static inline u64 vmx_edx_eax(const struct vcpu *vcpu)
{
    return vcpu->vmx.gpr[GPR_RDX] << 32 | (u32)vcpu->vmx.gpr[GPR_RAX];
}

/* The end of a guest by an exit: one line with what the VMCS says of it. */
void vmx_end_for_exit(struct vcpu *vcpu, enum vm_end end);

/* Handlers, by exit reason, that have files of their own. */
void vmx_serve_control_register(struct vcpu *vcpu);
void vmx_serve_io(struct vcpu *vcpu);
void vmx_serve_rdmsr(struct vcpu *vcpu);
void vmx_serve_wrmsr(struct vcpu *vcpu);
/* False: no device is there. */
bool vmx_serve_mmio(struct vcpu *vcpu, gpa_t address);
void vmx_serve_hlt(struct vcpu *vcpu);
void vmx_serve_exception(struct vcpu *vcpu);

#endif
