/* SPDX-License-Identifier: MIT */
/*
 * The vCPU of an ordinary VM: its VMCS and registers. The VMM keeps off the vector registers, so
 * that the guest's stay where they are while the vCPU is loaded on a processor.
 */
#ifndef VMM_VMX_VCPU_H
#define VMM_VMX_VCPU_H

#include "boot/assert.h"
#include "boot/error.h"
#include "boot/types.h"
#include "boot/vmx.h"
#include "tdx/abi/abi.h"
#include "vmm/vlapic.h"
#include "vmm/vmx_registers.h"

struct vcpu;
struct shim_parameters;

/* Answers of CPUID that were worked out once. */
#define VMX_CPUID_LINES 32u
struct vmx_cpuid_line {
    u32 leaf, subleaf;
    struct cpuid_values values;
    bool is_filled;
};

struct vmx_vcpu {
    u64 gpr[16];               /* in the order of GPR_...; RSP is the VMCS's (vmm/vmx_enter.asm) */
    u64 enter_tsc, return_tsc; /* of vmx_enter_measured */
    hpa_t vmcs;                /* HPA_NONE: there is none */
    bool launched;
    _Atomic bool attention; /* vmx_attend before the next entry (vmm/vmx_interrupt.h) */
    enum vmx_activity {
        VMX_RUNS,
        VMX_HALTED,            /* until an interrupt */
        VMX_WAITS_FOR_STARTUP, /* after INIT */
    } activity;
    bool nmi_waits, nmi_came; /* to be injected; ever injected */
    u32 windows;              /* PROC_..._WINDOW that are open */
    u64 due_tsc;              /* until then there is nothing to attend to by itself */
    u64 tsc_offset, tsc_adjust;
    struct vlapic apic;
    struct vmx_registers registers;
    struct vmx_cpuid_line cpuid[VMX_CPUID_LINES];
    u64 exits[EXIT_REASON_LIMIT];
};
_Static_assert(offsetof(struct vmx_vcpu, gpr) == 0 &&
                   offsetof(struct vmx_vcpu, enter_tsc) == 16 * 8 &&
                   offsetof(struct vmx_vcpu, return_tsc) == 17 * 8,
               "vmm/vmx_enter.asm");

/*
 * Makes the VMCS. vCPU 0 starts in 64-bit mode where `start` says; the others wait for INIT and
 * start-up. A control that the processor lacks is named in one line (ERR_UNSUPPORTED).
 */
enum error vmx_vcpu_create(struct vcpu *vcpu, const struct shim_parameters *start);
void vmx_vcpu_destroy(struct vcpu *vcpu);

/*
 * Puts the vCPU's registers into this processor and makes its VMCS current, which is where exits
 * return to from now on; and back. Between the two nothing else runs here that uses either.
 */
void vmx_vcpu_load(struct vcpu *vcpu);
void vmx_vcpu_unload(struct vcpu *vcpu);
/* Real mode, at the start of the page: what a start-up IPI does. The VMCS is current. */
void vmx_vcpu_start_up(struct vcpu *vcpu, u8 page);

/* One slice (vmm/run.h). The vCPU stays in the processor until it leaves. */
void vmx_vcpu_run(struct vcpu *vcpu);
/* Takes the VM's vCPU that this processor holds, if any, out of it. */
void vmx_vcpu_leave(void);
/* Nothing will wake any vCPU of its VM again; this one, which is loaded, was the last to run. */
void vmx_end_for_halt(struct vcpu *vcpu);

/*
 * Enters the guest of the current VMCS with these registers; true after the exit that follows,
 * false if VMLAUNCH (`launched`: VMRESUME) itself failed. (vmm/vmx_enter.asm)
 */
bool vmx_enter(u64 gpr[16], bool launched);
/* The guest's way back into vmx_enter: HOST_RIP. */
void vmx_exit(void);

/*
 * The same with VMRESUME, and vmx_exit_measured as HOST_RIP: leaves the TSC's values of right
 * before and right after the guest in the struct vmx_vcpu that `gpr` is of.
 */
bool vmx_enter_measured(u64 gpr[16]);
void vmx_exit_measured(void);

/* Looks up from the guest some time from now, whatever the guest does. */
void vmx_poll_arm(void);

#define SEGMENT_LONG (1u << 13) /* of an access-rights field: 64-bit code */
#define SEGMENT_DEFAULT_32 (1u << 14)

/* Fields of the current VMCS. That there is none, or no such field, is a bug of ours. */
static inline u64 vmx_field(enum vmcs_field field)
{
    u64 value;
    /* A single jump, as every exit comes by here: boot/vmx.h's vmread makes both flags a number. */
    __asm__ goto("vmread %1, %0\n\t"
                 "jbe %l2"
                 : "=r"(value)
                 : "r"((u64)field)
                 : "memory", "cc"
                 : failed);
    return value;
failed:
    panic("VMREAD of %s failed", vmcs_field_name(field));
}

static inline void vmx_field_set(enum vmcs_field field, u64 value)
{
    __asm__ goto("vmwrite %1, %0\n\t"
                 "jbe %l2"
                 :
                 : "r"((u64)field), "r"(value)
                 : "memory", "cc"
                 : failed);
    return;
failed:
    panic("VMWRITE of %s failed", vmcs_field_name(field));
}

#endif
