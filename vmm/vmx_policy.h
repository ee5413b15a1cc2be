/* SPDX-License-Identifier: MIT */
/* What an ordinary VM sees of its processor: pure functions of the machine and of their arguments.
 */
#ifndef VMM_VMX_POLICY_H
#define VMM_VMX_POLICY_H

#include "boot/types.h"
#include "tdx/abi/abi.h"

/* CPUID, but for the bit that follows the guest's CR4 (VMX_CPUID_1_ECX_OSXSAVE). */
struct cpuid_values vmx_cpuid(u32 leaf, u32 subleaf);
#define VMX_CPUID_1_ECX_OSXSAVE (1u << 27)

/* The features that XSETBV may switch on; 0 without XSAVE. */
u64 vmx_xcr0_allowed(void);
bool vmx_xcr0_is_valid(u64 value, u64 allowed);

/* WRMSR: may the guest give IA32_EFER this value? `present` is what it has. */
bool vmx_efer_is_valid(u64 value, u64 present);
bool vmx_pat_is_valid(u64 value);
bool vmx_address_is_canonical(u64 address);

/* An exit for IN or OUT. */
struct vmx_io {
    u16 port;
    u32 size_bytes; /* 1, 2 or 4 */
    bool in, string;
};
struct vmx_io vmx_io_decode(u64 qualification);
/* RAX after an IN of `value`. */
u64 vmx_io_merge(u64 rax, u32 value, u32 size_bytes);

#endif
