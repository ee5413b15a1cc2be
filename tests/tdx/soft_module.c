/* SPDX-License-Identifier: MIT */
#include "tests/tdx/soft_module.h"

#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/msr.h"
#include "boot/x86.h"
#include "tdx/seamcall.h"
#include "tdx/soft/objects.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/run.h"
#include "tdx/soft/seam.h"
#include "tdx/soft/system.h"
#include "tests/host/machine.h"

#define SEGMENT_LONG (1u << 13)

static _Atomic u32 counts[TDH_LEAF_LIMIT];
_Atomic u32 soft_module_interrupts;
void (*soft_module_guest)(struct tdvps *vcpu, struct guest_exit *exit);
void (*soft_module_page_hook)(void);
void (*soft_module_invept_hook)(u64 eptp);

u32 soft_module_count(u32 leaf)
{
    return counts[leaf];
}

void soft_module_counts_clear(void)
{
    for (u32 i = 0; i < TDH_LEAF_LIMIT; i++)
        counts[i] = 0;
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
    if (soft_module_page_hook)
        soft_module_page_hook();
    return host_memory_at(platform_address(address));
}

u32 seam_lp(void)
{
    return cpu_this()->index;
}

bool seam_interrupt_is_pending(void)
{
    u32 left = soft_module_interrupts;
    while (left != 0 && !atomic_compare_exchange_weak(&soft_module_interrupts, &left, left - 1))
        ;
    return left != 0;
}

bool seam_guest_is_interrupted(void)
{
    return seam_interrupt_is_pending();
}

bool seam_random(u64 *value)
{
    static _Atomic u64 next;
    *value = atomic_fetch_add(&next, 1) * 0x9e3779b97f4a7c15;
    return true;
}

u64 seam_tsc(void)
{
    static _Atomic u64 now;
    return atomic_fetch_add(&now, 1000);
}

void seam_flush_page(u64 address)
{
    (void)address;
}

void seam_invept(u64 eptp)
{
    if (soft_module_invept_hook)
        soft_module_invept_hook(eptp);
}

/* A VMCS is a table of fields in its page; each processor has a current one. */
struct vmcs_word {
    u32 is_used, field;
    u64 value;
};
#define VMCS_FIELDS (PAGE_BYTES / sizeof(struct vmcs_word))
#define TDVPS_PAGE_VMCS 1
static struct vmcs_word *vmcs_current[CPU_MAX];

static struct vmcs_word *vmcs_field_find(u32 field)
{
    struct vmcs_word *fields = vmcs_current[cpu_this()->index];
    ASSERT(fields);
    for (u32 i = 0, at = field * 0x9e3779b1 >> 24; i < VMCS_FIELDS; i++, at++) {
        struct vmcs_word *found = &fields[at % VMCS_FIELDS];
        if (found->is_used && found->field != field)
            continue;
        found->is_used = 1;
        found->field = field;
        return found;
    }
    panic("a VMCS with too many fields");
}

void seam_vmcs_clear(struct tdvps *vcpu)
{
    vcpu->vmcs_launched = false;
    vmcs_current[cpu_this()->index] = NULL;
}

void seam_vmcs_load(struct tdvps *vcpu)
{
    vmcs_current[cpu_this()->index] = seam_page(vcpu->pages[TDVPS_PAGE_VMCS]);
}

u64 seam_vmcs_read(u32 field)
{
    return vmcs_field_find(field)->value;
}

void seam_vmcs_write(u32 field, u64 value)
{
    vmcs_field_find(field)->value = value;
}

/* A guest that never ran is put into 64-bit mode. */
static void guest_start(struct tdvps *vcpu)
{
    seam_vmcs_write(VMCS_GUEST_EFER, seam_vmcs_read(VMCS_GUEST_EFER) | EFER_LMA);
    seam_vmcs_write(VMCS_GUEST_CS_ACCESS, seam_vmcs_read(VMCS_GUEST_CS_ACCESS) | SEGMENT_LONG);
    vcpu->vmcs_launched = true;
}

bool seam_run_guest(struct tdvps *vcpu)
{
    struct guest_exit exit = {.reason = EXIT_HLT};
    if (!soft_module_guest)
        return false;
    if (!vcpu->vmcs_launched)
        guest_start(vcpu);
    soft_module_guest(vcpu, &exit);
    seam_vmcs_write(VMCS_EXIT_REASON, exit.reason);
    seam_vmcs_write(VMCS_EXIT_QUALIFICATION, exit.qualification);
    seam_vmcs_write(VMCS_GUEST_PHYSICAL_ADDRESS, exit.address);
    seam_vmcs_write(VMCS_EXIT_INSTRUCTION_LEN, TDCALL_BYTES);
    seam_vmcs_write(VMCS_EXIT_INTR_INFO, exit.interruption);
    return true;
}

struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf)
{
    (void)leaf;
    (void)subleaf;
    return (struct cpuid_values){~0u, ~0u, ~0u, ~0u};
}

u64 processor_msr_read(u32 index)
{
    return index == MSR_MISC_ENABLE ? 0 : ~0ull;
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
