/* SPDX-License-Identifier: MIT */
/*
 * Registers of a VM's vCPU that no VMCS keeps: they are in the processor while the vCPU is loaded
 * there, and here else. The VMM itself uses none of them.
 */
#ifndef VMM_VMX_REGISTERS_H
#define VMM_VMX_REGISTERS_H

#include "boot/error.h"
#include "boot/types.h"

enum vmx_switched_msr {
#define VMX_MSR_SWITCHED(name) VMX_SWITCHED_##name,
#include "vmm/vmx_msrs.def"
    VMX_SWITCHED_MSRS,
};

struct vmx_registers {
    hpa_t extended; /* a page: the XSAVE area, standard format; HPA_NONE: there is none */
    u64 xcr0, cr2, dr6, dr[4];
    u64 msrs[VMX_SWITCHED_MSRS];
};

/* As at reset. ERR_NO_MEMORY. */
enum error vmx_registers_create(struct vmx_registers *registers);
void vmx_registers_destroy(struct vmx_registers *registers);

/* Into this processor, and back. What a guest left in the vector registers is not left there. */
void vmx_registers_load(const struct vmx_registers *registers);
void vmx_registers_save(struct vmx_registers *registers);

#endif
