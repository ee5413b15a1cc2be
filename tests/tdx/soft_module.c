/* SPDX-License-Identifier: MIT */
#include "tests/tdx/soft_module.h"

#include <string.h>

#include "boot/cpu.h"
#include "tdx/seamcall.h"
#include "tdx/soft/objects.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/seam.h"
#include "tdx/soft/system.h"
#include "tests/host/machine.h"

static u32 counts[TDH_LEAF_LIMIT];
u32 soft_module_interrupts;

u32 soft_module_count(u32 leaf)
{
    return counts[leaf];
}

void soft_module_counts_clear(void)
{
    memset(counts, 0, sizeof counts);
}

bool tdx_call(struct tdx_regs *regs)
{
    counts[regs->gpr[GPR_RAX] & (TDH_LEAF_LIMIT - 1)]++;
    soft_dispatch(regs);
    return false;
}

void soft_seamcall_entry(void) {}

/* The module sees what the VMM has hidden from itself. */
void *seam_page(u64 address)
{
    return host_memory_at(platform_address(address));
}

u32 seam_lp(void)
{
    return cpu_this()->index;
}

bool seam_interrupt_is_pending(void)
{
    if (soft_module_interrupts == 0)
        return false;
    soft_module_interrupts--;
    return true;
}

bool seam_guest_is_interrupted(void)
{
    return seam_interrupt_is_pending();
}

bool seam_random(u64 *value)
{
    static u64 next;
    *value = ++next * 0x9e3779b97f4a7c15;
    return true;
}

u64 seam_tsc(void)
{
    static u64 now;
    return now += 1000;
}

void seam_flush_page(u64 address)
{
    (void)address;
}

/* No guest runs here, so that nobody reads what is written. */
void seam_vmcs_clear(struct tdvps *vcpu)
{
    (void)vcpu;
}

void seam_vmcs_load(struct tdvps *vcpu)
{
    (void)vcpu;
}

u64 seam_vmcs_read(u32 field)
{
    (void)field;
    return 0;
}

void seam_vmcs_write(u32 field, u64 value)
{
    (void)field;
    (void)value;
}

void seam_invept(u64 eptp)
{
    (void)eptp;
}

bool seam_run_guest(struct tdvps *vcpu)
{
    (void)vcpu;
    return false;
}

struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf)
{
    (void)leaf;
    (void)subleaf;
    return (struct cpuid_values){~0u, ~0u, ~0u, ~0u};
}

u64 processor_msr_read(u32 index)
{
    (void)index;
    return ~0ull;
}

u64 processor_xfeatures(void)
{
    return 7;
}

void processor_state_load(struct tdvps *vcpu, u64 xfam)
{
    (void)vcpu;
    (void)xfam;
}

void processor_state_save(struct tdvps *vcpu, u64 xfam, u16 xmm_mask)
{
    (void)vcpu;
    (void)xfam;
    (void)xmm_mask;
}

void processor_xmm_take(struct tdvps *vcpu, u16 xmm_mask)
{
    (void)vcpu;
    (void)xmm_mask;
}

void processor_state_reset(struct tdvps *vcpu)
{
    (void)vcpu;
}

void processor_xcr0_write(u64 value)
{
    (void)value;
}

void processor_xss_write(u64 value)
{
    (void)value;
}

void processor_cr2_write(u64 value)
{
    (void)value;
}

void processor_host_fields_write(void) {}

u32 processor_interrupt_acknowledge(void)
{
    return PROCESSOR_NO_INTERRUPT;
}

void processor_interrupt_end(void) {}
