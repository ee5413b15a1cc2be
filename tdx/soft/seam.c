/* SPDX-License-Identifier: MIT */
/* The hardware seam on the machine itself. */
#include "tdx/soft/seam.h"

#include "boot/apic.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/phys.h"
#include "boot/x86.h"
#include "tdx/soft/entry.h"
#include "tdx/soft/objects.h"

#define VMCS_REVISION_MASK 0x7fffffffull
#define CPUID_1_ECX_RDRAND (1u << 30)
#define RANDOM_TRIES 10
#define CACHE_LINE_BYTES 64

u8 soft_stacks[CPU_MAX][SOFT_STACK_BYTES] __attribute__((aligned(16)));

/*
 * The module's address space and the VMM's are identity maps both: code, stack and descriptor
 * tables stay where they are when CR3 changes.
 */
void soft_frame_serve(struct soft_frame *frame)
{
    u64 vmm_space = cr3_read();
    hpa_t vmm_vmcs = vmptrst();

    cr3_write(platform()->annex_root.raw);
    soft_dispatch(&frame->regs);
    hpa_t vmcs = vmptrst();
    if (!hpa_is_none(vmm_vmcs) && !hpa_equal(vmcs, vmm_vmcs) && vmptrld(vmm_vmcs) != VMX_SUCCEED)
        log_line("soft: the VMM's VMCS %lx cannot be made current again", vmm_vmcs.raw);
    cr3_write(vmm_space);
}

void *seam_page(u64 address)
{
    return phys_to_virt(hpa(platform_address(address)));
}

u32 seam_lp(void)
{
    return cpu_this()->index;
}

bool seam_interrupt_is_pending(void)
{
    u64 flags;
    /* The door left RFLAGS.IF as the VMM had it: with interrupts off there is no hurry. */
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    return (flags & RFLAGS_IF) && apic_interrupt_is_pending();
}

bool seam_guest_is_interrupted(void)
{
    return apic_interrupt_is_pending();
}

bool seam_random(u64 *value)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_RDRAND))
        return false;
    for (u32 i = 0; i < RANDOM_TRIES; i++) {
        bool drawn;
        __asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(drawn));
        if (drawn)
            return true;
    }
    return false;
}

u64 seam_tsc(void)
{
    return tsc_read();
}

void seam_flush_page(u64 address)
{
    const u8 *page = seam_page(address);
    for (u32 offset = 0; offset < PAGE_BYTES; offset += CACHE_LINE_BYTES)
        clflush(page + offset);
}

/* 0 where there is no current VMCS to ask. */
static u64 instruction_error(void)
{
    u64 error = 0;
    return vmread(VMCS_INSTRUCTION_ERROR, &error) == VMX_SUCCEED ? error : 0;
}

static hpa_t vmcs_of(const struct tdvps *vcpu)
{
    return hpa(platform_address(vcpu->pages[TDVPS_PAGE_VMCS]));
}

void seam_vmcs_clear(struct tdvps *vcpu)
{
    u32 *region = seam_page(vcpu->pages[TDVPS_PAGE_VMCS]);
    *region = (u32)(rdmsr(MSR_VMX_BASIC) & VMCS_REVISION_MASK);
    if (vmclear(vmcs_of(vcpu)) != VMX_SUCCEED)
        log_line("soft: VMCLEAR %lx failed, error %lu", vmcs_of(vcpu).raw, instruction_error());
    vcpu->vmcs_launched = false;
}

void seam_vmcs_load(struct tdvps *vcpu)
{
    if (vmptrld(vmcs_of(vcpu)) != VMX_SUCCEED)
        log_line("soft: VMPTRLD %lx failed, error %lu", vmcs_of(vcpu).raw, instruction_error());
}

u64 seam_vmcs_read(u32 field)
{
    u64 value = 0;
    if (vmread((enum vmcs_field)field, &value) != VMX_SUCCEED)
        log_line("soft: VMREAD of %s (%x) failed, error %lu", vmcs_field_name(field), field,
                 instruction_error());
    return value;
}

void seam_vmcs_write(u32 field, u64 value)
{
    if (vmwrite((enum vmcs_field)field, value) != VMX_SUCCEED)
        log_line("soft: VMWRITE of %s (%x) failed, error %lu", vmcs_field_name(field), field,
                 instruction_error());
}

void seam_invept(u64 eptp)
{
    if (invept(INVEPT_SINGLE, eptp) != VMX_SUCCEED)
        log_line("soft: INVEPT of %lx failed, error %lu", eptp, instruction_error());
}

bool seam_run_guest(struct tdvps *vcpu)
{
    enum soft_run_instruction instruction = vcpu->vmcs_launched ? SOFT_RUN_RESUME : SOFT_RUN_LAUNCH;

    if (soft_guest_run(vcpu, instruction) == SOFT_RUN_EXITED) {
        vcpu->vmcs_launched = true;
        return true;
    }
    log_line("soft: %s of vCPU %u failed, error %lu",
             instruction == SOFT_RUN_RESUME ? "VMRESUME" : "VMLAUNCH", vcpu->index,
             instruction_error());
    return false;
}
