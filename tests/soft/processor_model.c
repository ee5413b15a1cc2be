/* SPDX-License-Identifier: MIT */
#include "tests/soft/processor_model.h"

#include <string.h>

#include "boot/msr.h"
#include "boot/phys.h"
#include "tdx/soft/processor.h"
#include "tests/host/machine.h"

#define MODEL_PAGES 64
#define FIRST_PAGE HOST_MEMORY_START

struct processor_model processor_model;

void *seam_page(u64 address)
{
    return phys_to_virt(hpa(address));
}
u32 seam_lp(void)
{
    return 0;
}
bool seam_interrupt_is_pending(void)
{
    return false;
}
u64 seam_tsc(void)
{
    return 0;
}
void seam_flush_page(u64 address)
{
    (void)address;
}
void seam_invept(u64 eptp)
{
    (void)eptp;
}
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
    return processor_model.vmcs[field & 0xffff];
}
void seam_vmcs_write(u32 field, u64 value)
{
    processor_model.vmcs[field & 0xffff] = value;
}
bool seam_run_guest(struct tdvps *vcpu)
{
    return vcpu == NULL;
}

bool seam_guest_is_interrupted(void)
{
    return seam_interrupt_is_pending();
}

bool seam_random(u64 *value)
{
    *value = 4;
    return true;
}

struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf)
{
    (void)leaf;
    (void)subleaf;
    return processor_model.features;
}

/* Every control may be 0 or 1; no bit of CR0 and CR4 is fixed. */
u64 processor_msr_read(u32 index)
{
    if (index == MSR_VMX_CR0_FIXED0 || index == MSR_VMX_CR4_FIXED0)
        return 0;
    if (index == MSR_VMX_CR0_FIXED1 || index == MSR_VMX_CR4_FIXED1)
        return ~0ull;
    return 0xffffffff00000000ull;
}

u64 processor_xfeatures(void)
{
    return 7;
}
void processor_state_load(struct tdvps *vcpu, u64 xfam)
{
    (void)vcpu, (void)xfam;
}
void processor_state_reset(struct tdvps *vcpu)
{
    (void)vcpu;
}
void processor_host_fields_write(void) {}
void processor_xmm_take(struct tdvps *vcpu, u16 xmm_mask)
{
    (void)vcpu, (void)xmm_mask;
}
void processor_xcr0_write(u64 value)
{
    processor_model.xcr0 = value;
}
void processor_xss_write(u64 value)
{
    processor_model.xss = value;
}
void processor_cr2_write(u64 value)
{
    processor_model.cr2 = value;
}
void processor_interrupt_end(void)
{
    processor_model.interrupts_ended++;
}

void processor_state_save(struct tdvps *vcpu, u64 xfam, u16 xmm_mask)
{
    (void)vcpu, (void)xfam, (void)xmm_mask;
}

u32 processor_interrupt_acknowledge(void)
{
    u32 vector = processor_model.interrupt_waiting;
    processor_model.interrupt_waiting = PROCESSOR_NO_INTERRUPT;
    return vector;
}

/* Pages in the order of FIRST_PAGE: TDR, 6 of the TDCS, 6 of the TDVPS. */
void processor_model_reset(struct run *run)
{
    static struct leaf leaf;
    static struct tdx_regs regs;
    u64 page = FIRST_PAGE;

    host_memory_create(MODEL_PAGES * PAGE_BYTES);
    memset(&processor_model, 0, sizeof processor_model);
    processor_model.features = (struct cpuid_values){~0u, ~0u, ~0u, ~0u};
    processor_model.interrupt_waiting = PROCESSOR_NO_INTERRUPT;
    memset(&regs, 0, sizeof regs);
    leaf_begin(&leaf, &regs);
    *run = (struct run){.leaf = &leaf, .regs = &regs};
    run->td.address = page;
    run->td.tdr = seam_page(page);
    for (u32 i = 0; i < TDCX_PAGES_BASE; i++)
        run->td.tdr->tdcx[i] = page += PAGE_BYTES;
    run->td.tdr->num_tdcx = TDCX_PAGES_BASE;
    run->tdcs = run->td.tdcs = seam_page(run->td.tdr->tdcx[0]);
    run->measured = seam_page(run->td.tdr->tdcx[1]);
    run->tdcs->gpa_bits = 48;
    run->tdcs->xfam = 3;
    run->tdcs->eptp = run->td.tdr->tdcx[3] | EPTP_WB | EPTP_LEVELS_4;
    u64 *root = seam_page(run->td.tdr->tdcx[3]);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        root[i] = SEPT_ENTRY_FREE;
    run->vcpu = seam_page(page += PAGE_BYTES);
    run->vcpu->pages[0] = page;
    for (u32 i = 1; i < TDVPS_PAGES_BASE; i++)
        run->vcpu->pages[i] = page += PAGE_BYTES;
    run->vcpu->posted_descriptor = ~0ull;
    processor_model.vmcs[VMCS_EXIT_INSTRUCTION_LEN] = 2;
}
