/* SPDX-License-Identifier: MIT */
#include "tests/soft/seam_host.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "boot/assert.h"
#include "boot/msr.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/soft/objects.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/system.h"
#include "tests/soft/sparse_memory.h"

#define TSC_START 1000000
#define STACK_BYTES (512 * 1024)
#define VMCS_FIELDS_MAX 256
#define TDCALL_BYTES 4
#define SEGMENT_LONG (1u << 13)
#define SEGMENT_32_BIT (1u << 14)

struct vmcs {
    struct vmcs *next;
    u64 tdvpr;
    u32 count;
    struct {
        u32 field;
        u64 value;
    } fields[VMCS_FIELDS_MAX];
};

static struct lp {
    bool interrupt, is_in_guest;
    struct vmcs *vmcs;
    struct tdvps *vcpu;
    struct tdx_regs regs, guest;
    ucontext_t driver, module;
    u8 *stack;
} lps[CPU_MAX];

static struct vmcs *vmcs_all;
static u32 selected;
static u64 tsc_now = TSC_START, misc_enable_now, tsc_adjust_now, random_state;

void machine_select_lp(u32 lp)
{
    selected = lp;
}
void machine_set_interrupt(bool is_pending)
{
    lps[selected].interrupt = is_pending;
}
bool machine_is_in_guest(void)
{
    return lps[selected].is_in_guest;
}
struct tdx_regs *machine_guest_registers(void)
{
    return &lps[selected].guest;
}

bool machine_guest_of(u32 lp, u64 *tdvpr, u64 *tdr)
{
    if (!lps[lp].is_in_guest)
        return false;
    *tdvpr = lps[lp].vcpu->tdvpr;
    *tdr = lps[lp].vcpu->owner_tdr;
    return true;
}

struct machine_image {
    struct memory *memory;
    struct system system;
};

struct machine_image *machine_save(void)
{
    struct machine_image *image = malloc(sizeof *image);
    ASSERT(image && !vmcs_all);
    image->memory = memory_save();
    image->system = soft_system;
    return image;
}

/* A guest that was left inside is forgotten: the next one starts on the same stack. */
static void lp_reset(struct lp *lp)
{
    u8 *stack = lp->stack;
    if (stack)
        ASAN_UNPOISON_MEMORY_REGION(stack, STACK_BYTES);
    memset(lp, 0, sizeof *lp);
    lp->stack = stack;
}

void machine_load(const struct machine_image *image)
{
    for (u32 i = 0; i < CPU_MAX; i++)
        lp_reset(&lps[i]);
    while (vmcs_all) {
        struct vmcs *vmcs = vmcs_all;
        vmcs_all = vmcs->next;
        free(vmcs);
    }
    selected = 0;
    tsc_now = TSC_START;
    misc_enable_now = tsc_adjust_now = random_state = 0;
    memory_load(image ? image->memory : NULL);
    if (image)
        soft_system = image->system;
}

u32 seam_lp(void)
{
    return selected;
}
bool seam_interrupt_is_pending(void)
{
    return lps[selected].interrupt;
}

void machine_set_msrs(u64 misc_enable, u64 tsc_adjust)
{
    misc_enable_now = misc_enable;
    tsc_adjust_now = tsc_adjust;
}

void machine_set_tsc(u64 value)
{
    tsc_now = value;
}

u64 seam_tsc(void)
{
    return tsc_now += 1000;
}

bool seam_guest_is_interrupted(void)
{
    return seam_interrupt_is_pending();
}

#define RANDOM_START 0x9e3779b97f4a7c15ull
#define RANDOM_FACTOR 0xd1342543de82ef95ull
bool seam_random(u64 *value)
{
    random_state = (random_state ? random_state : RANDOM_START) * RANDOM_FACTOR;
    *value = random_state;
    return true;
}

void seam_flush_page(u64 address)
{
    (void)address;
}
void seam_invept(u64 eptp)
{
    (void)eptp;
}

static struct vmcs *vmcs_of(struct tdvps *vcpu)
{
    for (struct vmcs *vmcs = vmcs_all; vmcs; vmcs = vmcs->next)
        if (vmcs->tdvpr == vcpu->tdvpr)
            return vmcs;
    struct vmcs *vmcs = calloc(1, sizeof *vmcs);
    vmcs->tdvpr = vcpu->tdvpr;
    vmcs->next = vmcs_all;
    return vmcs_all = vmcs;
}

void seam_vmcs_clear(struct tdvps *vcpu)
{
    vcpu->vmcs_launched = false;
    if (lps[selected].vmcs == vmcs_of(vcpu))
        lps[selected].vmcs = NULL;
}

void seam_vmcs_load(struct tdvps *vcpu)
{
    lps[selected].vmcs = vmcs_of(vcpu);
}

static u64 *vmcs_field(u32 field)
{
    struct vmcs *vmcs = lps[selected].vmcs;
    ASSERT(vmcs);
    for (u32 i = 0; i < vmcs->count; i++)
        if (vmcs->fields[i].field == field)
            return &vmcs->fields[i].value;
    ASSERT(vmcs->count < VMCS_FIELDS_MAX);
    vmcs->fields[vmcs->count].field = field;
    vmcs->fields[vmcs->count].value = 0;
    return &vmcs->fields[vmcs->count++].value;
}

u64 seam_vmcs_read(u32 field)
{
    return *vmcs_field(field);
}
void seam_vmcs_write(u32 field, u64 value)
{
    *vmcs_field(field) = value;
}

/* A guest that never ran is put into 64-bit mode, as the traces assume. */
static void guest_start(void)
{
    seam_vmcs_write(VMCS_GUEST_CR0, seam_vmcs_read(VMCS_GUEST_CR0) | CR0_PG);
    seam_vmcs_write(VMCS_GUEST_EFER, seam_vmcs_read(VMCS_GUEST_EFER) | EFER_LMA);
    u64 cs = seam_vmcs_read(VMCS_GUEST_CS_ACCESS) & ~(u64)SEGMENT_32_BIT;
    seam_vmcs_write(VMCS_GUEST_CS_ACCESS, cs | SEGMENT_LONG);
}

bool seam_run_guest(struct tdvps *vcpu)
{
    struct lp *lp = &lps[selected];
    if (!vcpu->vmcs_launched)
        guest_start();
    vcpu->vmcs_launched = true;
    lp->vcpu = vcpu;
    lp->is_in_guest = true;
    swapcontext(&lp->module, &lp->driver);
    return true;
}

static void module_main(void)
{
    soft_dispatch(&lps[selected].regs);
    lps[selected].is_in_guest = false;
    swapcontext(&lps[selected].module, &lps[selected].driver);
}

static enum call_end module_resume(struct lp *lp, struct tdx_regs *regs)
{
    lp->is_in_guest = false;
    swapcontext(&lp->driver, &lp->module);
    *regs = lp->regs;
    return lp->is_in_guest ? CALL_IN_GUEST : CALL_RETURNED;
}

enum call_end machine_seamcall(struct tdx_regs *regs)
{
    struct lp *lp = &lps[selected];
    if ((regs->gpr[GPR_RAX] & TDX_LEAF_MASK) != TDH_VP_ENTER) {
        soft_dispatch(regs);
        return CALL_RETURNED;
    }
    lp->regs = *regs;
    if (!lp->stack)
        lp->stack = malloc(STACK_BYTES);
    getcontext(&lp->module);
    lp->module.uc_stack.ss_sp = lp->stack;
    lp->module.uc_stack.ss_size = STACK_BYTES;
    makecontext(&lp->module, module_main, 0);
    return module_resume(lp, regs);
}

enum call_end machine_guest_exit(const struct guest_exit *exit, struct tdx_regs *regs)
{
    struct lp *lp = &lps[selected];
    memcpy(lp->vcpu->gpr, lp->guest.gpr, sizeof lp->guest.gpr);
    seam_vmcs_write(VMCS_EXIT_REASON, exit->reason);
    seam_vmcs_write(VMCS_EXIT_QUALIFICATION, exit->qualification);
    seam_vmcs_write(VMCS_GUEST_PHYSICAL_ADDRESS, exit->address);
    seam_vmcs_write(VMCS_EXIT_INSTRUCTION_LEN, TDCALL_BYTES);
    u64 interruption = 0;
    if (exit->reason == EXIT_EXTERNAL_INTERRUPT)
        interruption = 0x80000020;
    if (exit->reason == EXIT_EXCEPTION_OR_NMI)
        interruption = 0x80000202;
    seam_vmcs_write(VMCS_EXIT_INTR_INFO, interruption);
    enum call_end end = module_resume(lp, regs);
    if (end == CALL_IN_GUEST)
        memcpy(lp->guest.gpr, lp->vcpu->gpr, sizeof lp->guest.gpr);
    return end;
}

/* The processor of the traces, as far as it matters: family/model/stepping and widths. */
struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf)
{
    (void)subleaf;
    switch (leaf) {
    case 0:
        return (struct cpuid_values){.eax = 0x23};
    case 1:
        return (struct cpuid_values){0x806f8, 0x00010800, ~0u, ~0u};
    case 0x80000000:
        return (struct cpuid_values){.eax = 0x80000008};
    case 0x80000008:
        return (struct cpuid_values){.eax = 0x3934};
    default:
        return (struct cpuid_values){~0u, ~0u, ~0u, ~0u};
    }
}

/* Every VMX control may be set and cleared; CR0 and CR4 as VMX demands them. */
u64 processor_msr_read(u32 index)
{
    switch (index) {
    case MSR_MISC_ENABLE:
        return misc_enable_now;
    case MSR_TSC_ADJUST:
        return tsc_adjust_now;
    case MSR_VMX_CR0_FIXED0:
        return CR0_PE | CR0_NE | CR0_PG;
    case MSR_VMX_CR4_FIXED0:
        return CR4_VMXE;
    case MSR_VMX_CR0_FIXED1:
    case MSR_VMX_CR4_FIXED1:
        return ~0ull;
    default:
        return index >= MSR_VMX_BASIC && index <= MSR_VMX_BASIC + 0x12 ? 0xffffffffull << 32 : 0;
    }
}

u64 processor_xfeatures(void)
{
    return 0x6dbe7;
}
void processor_state_load(struct tdvps *vcpu, u64 xfam)
{
    (void)vcpu, (void)xfam;
}
void processor_state_save(struct tdvps *vcpu, u64 xfam, u16 xmm_mask)
{
    (void)vcpu, (void)xfam, (void)xmm_mask;
}
void processor_xmm_take(struct tdvps *vcpu, u16 xmm_mask)
{
    (void)vcpu, (void)xmm_mask;
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
