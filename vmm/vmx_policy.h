/* SPDX-License-Identifier: MIT */
/* What an ordinary VM sees of its processor: pure functions of the machine and of their arguments.
 */
#ifndef VMM_VMX_POLICY_H
#define VMM_VMX_POLICY_H

#include "boot/types.h"
#include "tdx/abi/abi.h"

/* Who asks. */
struct vmx_cpu_view {
    u32 apic_id, vcpus;
    bool apic_is_off; /* by IA32_APIC_BASE */
    u64 xcr0;
};

/* CPUID, but for the bit that follows the guest's CR4 (VMX_CPUID_1_ECX_OSXSAVE). */
struct cpuid_values vmx_cpuid(const struct vmx_cpu_view *view, u32 leaf, u32 subleaf);
#define VMX_CPUID_1_ECX_OSXSAVE (1u << 27)

/* The features that XSETBV may switch on; 0 without XSAVE. Their area fits into a page. */
u64 vmx_xcr0_allowed(void);
bool vmx_xcr0_is_valid(u64 value, u64 allowed);
#define XSAVE_LEGACY_BYTES 576u /* with the header */

/*
 * WRMSR: may the guest give IA32_EFER this value, with LMA as it is? `present` is what it has;
 * `paging` is CR0.PG.
 */
bool vmx_efer_is_valid(u64 value, u64 present, bool paging);

/* The guest's modes, as it sees them. */
struct vmx_modes {
    u64 cr0, cr4, efer;
    bool code_64; /* runs in 64-bit mode now */
};

/*
 * Control registers: the bits that are the guest's alone, what the processor gets for a value
 * that the guest sees, and whether MOV to it is possible (else #GP). Caches are always on, FPU
 * errors are always exceptions: of these the guest sees what it wrote.
 */
u64 vmx_cr0_free(void);
u64 vmx_cr0_of(u64 value);
bool vmx_cr0_is_valid(const struct vmx_modes *modes, u64 value);
u64 vmx_cr4_free(void);
u64 vmx_cr4_of(u64 value);
bool vmx_cr4_is_valid(const struct vmx_modes *modes, u64 value);

/* IA32_ARCH_CAPABILITIES */
u64 vmx_arch_capabilities(void);

/* An exit for IN or OUT. */
struct vmx_io {
    u16 port;
    u32 size_bytes; /* 1, 2 or 4 */
    bool in, string, rep;
};
struct vmx_io vmx_io_decode(u64 qualification);
/* RAX after an IN of `value`. */
u64 vmx_io_merge(u64 rax, u32 value, u32 size_bytes);

#endif
