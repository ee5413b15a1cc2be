/* SPDX-License-Identifier: MIT */
#include "tdx/soft/processor.h"

#include "boot/apic.h"
#include "boot/msr.h"
#include "boot/paging.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/soft/entry.h"
#include "tdx/soft/td.h"

/* The features whose XSAVE state, in the standard format, ends within one page. */
#define XFEATURES_IN_PAGE 0x2e7ull
#define XFEATURE_SSE (1ull << 1)
#define XSAVE_MXCSR_OFFSET 24
#define XSAVE_XMM_OFFSET 160
#define XSAVE_XMM_BYTES 16
#define XSAVE_BV_OFFSET 512
#define XSAVE_LEGACY_BYTES 576 /* with the header */
#define MXCSR_RESET 0x1f80u

#define DR6_RESET 0xffff0ff0ull
#define FMASK_RESET 0x20200ull

#define CPUID_XSTATE 0xd
#define CPUID_D1_EAX_XSAVES (1u << 3)

/* MSRs that the guest reaches without an exit and no VMCS field holds. */
static const struct switched_msr {
    u32 index;
    u32 offset; /* in struct tdvps */
    u64 vmm_value;
} switched_msrs[] = {
    {MSR_STAR, offsetof(struct tdvps, msr_star), 0},
    {MSR_LSTAR, offsetof(struct tdvps, msr_lstar), 0},
    {MSR_FMASK, offsetof(struct tdvps, msr_fmask), FMASK_RESET},
    {MSR_KERNEL_GS_BASE, offsetof(struct tdvps, msr_kernel_gs_base), 0},
    {MSR_TSC_AUX, offsetof(struct tdvps, msr_tsc_aux), 0},
};

static u64 *msr_slot(struct tdvps *vcpu, const struct switched_msr *msr)
{
    return (u64 *)((u8 *)vcpu + msr->offset);
}

struct cpuid_values processor_cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_result r = cpuid(leaf, subleaf);
    return (struct cpuid_values){r.eax, r.ebx, r.ecx, r.edx};
}

u64 processor_msr_read(u32 index)
{
    u64 value = 0;
    return rdmsr_try(index, &value) ? value : 0;
}

u64 processor_xfeatures(void)
{
    struct cpuid_result r = cpuid(CPUID_XSTATE, 0);
    return ((u64)r.edx << 32 | r.eax) & XFEATURES_IN_PAGE;
}

static void xsave(u8 *area, u64 mask)
{
    __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((u32)mask), "d"((u32)(mask >> 32)) : "memory");
}

static void xrstor(const u8 *area, u64 mask)
{
    __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
                     : "memory");
}

static u8 *guest_area(struct tdvps *vcpu)
{
    return seam_page(vcpu->pages[TDVPS_PAGE_XSTATE]);
}

void processor_state_reset(struct tdvps *vcpu)
{
    u8 *area = guest_area(vcpu);
    memset(area, 0, PAGE_BYTES);
    /* XRSTOR takes MXCSR from here even where the header says "initial". */
    *(u32 *)(area + XSAVE_MXCSR_OFFSET) = MXCSR_RESET;
}

#define DEBUG_REGISTER(n)                                     \
    static u64 dr##n##_read(void)                             \
    {                                                         \
        u64 value;                                            \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value)); \
        return value;                                         \
    }                                                         \
    static void dr##n##_write(u64 value)                      \
    {                                                         \
        __asm__ volatile("mov %0, %%dr" #n ::"r"(value));     \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)

static void debug_registers_write(const u64 dr[4], u64 dr6)
{
    dr0_write(dr[0]);
    dr1_write(dr[1]);
    dr2_write(dr[2]);
    dr3_write(dr[3]);
    dr6_write(dr6);
}

void processor_xss_write(u64 value)
{
    if (cpuid(CPUID_XSTATE, 1).eax & CPUID_D1_EAX_XSAVES)
        wrmsr(MSR_XSS, value);
}

void processor_state_load(struct tdvps *vcpu, u64 xfam)
{
    u64 mask = xfam & processor_xfeatures();

    for (u32 i = 0; i < ARRAY_LENGTH(switched_msrs); i++)
        (void)wrmsr_try(switched_msrs[i].index, *msr_slot(vcpu, &switched_msrs[i]));
    debug_registers_write(vcpu->dr, vcpu->dr6);
    cr2_write(vcpu->cr2);
    xcr0_write(mask);
    xrstor(guest_area(vcpu), mask);
    xcr0_write(vcpu->xcr0);
    processor_xss_write(vcpu->msr_xss);
}

/* Leaves XCR0 at the TD's features, as TDH.VP.ENTER is documented to. */
static void extended_state_save(struct tdvps *vcpu, u64 mask, u16 xmm_mask)
{
    u8 scrubbed[XSAVE_LEGACY_BYTES] __attribute__((aligned(64)));
    u8 *area = guest_area(vcpu);

    xcr0_write(mask);
    xsave(area, mask);
    memset(scrubbed, 0, sizeof scrubbed);
    *(u32 *)(scrubbed + XSAVE_MXCSR_OFFSET) = MXCSR_RESET;
    for (u32 i = 0; i < 16; i++)
        if (xmm_mask >> i & 1)
            memcpy(scrubbed + XSAVE_XMM_OFFSET + i * XSAVE_XMM_BYTES,
                   area + XSAVE_XMM_OFFSET + i * XSAVE_XMM_BYTES, XSAVE_XMM_BYTES);
    *(u64 *)(scrubbed + XSAVE_BV_OFFSET) = xmm_mask ? XFEATURE_SSE : 0;
    xrstor(scrubbed, mask | XFEATURE_SSE);
}

void processor_state_save(struct tdvps *vcpu, u64 xfam, u16 xmm_mask)
{
    static const u64 no_breakpoints[4];

    extended_state_save(vcpu, xfam & processor_xfeatures(), xmm_mask);
    vcpu->cr2 = cr2_read();
    cr2_write(0);
    vcpu->dr[0] = dr0_read();
    vcpu->dr[1] = dr1_read();
    vcpu->dr[2] = dr2_read();
    vcpu->dr[3] = dr3_read();
    vcpu->dr6 = dr6_read();
    debug_registers_write(no_breakpoints, DR6_RESET);
    for (u32 i = 0; i < ARRAY_LENGTH(switched_msrs); i++) {
        (void)rdmsr_try(switched_msrs[i].index, msr_slot(vcpu, &switched_msrs[i]));
        (void)wrmsr_try(switched_msrs[i].index, switched_msrs[i].vmm_value);
    }
}

void processor_xmm_take(struct tdvps *vcpu, u16 xmm_mask)
{
    u8 taken[XSAVE_LEGACY_BYTES] __attribute__((aligned(64)));
    u8 *area = guest_area(vcpu);

    if (!xmm_mask)
        return;
    memset(taken, 0, sizeof taken);
    xsave(taken, XFEATURE_SSE);
    for (u32 i = 0; i < 16; i++)
        if (xmm_mask >> i & 1)
            memcpy(area + XSAVE_XMM_OFFSET + i * XSAVE_XMM_BYTES,
                   taken + XSAVE_XMM_OFFSET + i * XSAVE_XMM_BYTES, XSAVE_XMM_BYTES);
    *(u64 *)(area + XSAVE_BV_OFFSET) |= XFEATURE_SSE;
}

void processor_xcr0_write(u64 value)
{
    xcr0_write(value);
}
void processor_cr2_write(u64 value)
{
    cr2_write(value);
}

struct __attribute__((packed)) table_register {
    u16 limit;
    u64 base;
};

static u16 selector_task(void)
{
    u16 selector;
    __asm__ volatile("str %0" : "=r"(selector));
    return selector;
}

#define SEGMENT_SELECTOR(name)                                    \
    static u16 selector_##name(void)                              \
    {                                                             \
        u16 selector;                                             \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(selector)); \
        return selector;                                          \
    }
SEGMENT_SELECTOR(cs)
SEGMENT_SELECTOR(ss)

static u64 task_base(u64 gdt, u16 selector)
{
    const u64 *descriptor = (const u64 *)(gdt + (selector & ~7u));
    u64 low = descriptor[0];
    return (low >> 16 & 0xffffff) | (low >> 56 & 0xff) << 24 | descriptor[1] << 32;
}

void processor_host_fields_write(void)
{
    struct table_register gdt, idt;
    __asm__ volatile("sgdt %0" : "=m"(gdt));
    __asm__ volatile("sidt %0" : "=m"(idt));
    u16 task = selector_task();

    seam_vmcs_write(VMCS_HOST_CS_SELECTOR, selector_cs() & ~7u);
    seam_vmcs_write(VMCS_HOST_SS_SELECTOR, selector_ss() & ~7u);
    /* Flat data segments hold nothing in 64-bit mode; null ones need no descriptor. */
    seam_vmcs_write(VMCS_HOST_DS_SELECTOR, 0);
    seam_vmcs_write(VMCS_HOST_ES_SELECTOR, 0);
    seam_vmcs_write(VMCS_HOST_FS_SELECTOR, 0);
    seam_vmcs_write(VMCS_HOST_GS_SELECTOR, 0);
    seam_vmcs_write(VMCS_HOST_TR_SELECTOR, task & ~7u);
    seam_vmcs_write(VMCS_HOST_CR0, cr0_read());
    seam_vmcs_write(VMCS_HOST_CR3, cr3_read());
    seam_vmcs_write(VMCS_HOST_CR4, cr4_read());
    seam_vmcs_write(VMCS_HOST_FS_BASE, rdmsr(MSR_FS_BASE));
    seam_vmcs_write(VMCS_HOST_GS_BASE, rdmsr(MSR_GS_BASE));
    seam_vmcs_write(VMCS_HOST_TR_BASE, task_base(gdt.base, task));
    seam_vmcs_write(VMCS_HOST_GDTR_BASE, gdt.base);
    seam_vmcs_write(VMCS_HOST_IDTR_BASE, idt.base);
    seam_vmcs_write(VMCS_HOST_SYSENTER_CS, rdmsr(MSR_SYSENTER_CS));
    seam_vmcs_write(VMCS_HOST_SYSENTER_ESP, rdmsr(MSR_SYSENTER_ESP));
    seam_vmcs_write(VMCS_HOST_SYSENTER_EIP, rdmsr(MSR_SYSENTER_EIP));
    seam_vmcs_write(VMCS_HOST_PAT, rdmsr(MSR_PAT));
    seam_vmcs_write(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    seam_vmcs_write(VMCS_HOST_RIP, (u64)soft_guest_exit);
}

/*
 * The IDT of the interrupt window. Exceptions and NMIs keep the handlers that the processor has;
 * every other vector goes to a stub. Written by whoever is first; others write the same.
 */
#define FIRST_INTERRUPT_VECTOR 32
#define GATE_QWORDS 2
static u64 window_idt[256 * GATE_QWORDS] __attribute__((aligned(16)));

#define GATE_INTERRUPT_64 0x8eull

static void window_idt_write(const struct table_register *current)
{
    memcpy(window_idt, (const void *)current->base,
           FIRST_INTERRUPT_VECTOR * GATE_QWORDS * sizeof window_idt[0]);
    for (u32 vector = FIRST_INTERRUPT_VECTOR; vector < 256; vector++) {
        u64 stub = (u64)(soft_interrupt_stubs + vector * SOFT_INTERRUPT_STUB_BYTES);
        window_idt[vector * GATE_QWORDS] = (stub & 0xffff) | (u64)selector_cs() << 16 |
                                           GATE_INTERRUPT_64 << 40 | (stub >> 16 & 0xffff) << 48;
        window_idt[vector * GATE_QWORDS + 1] = stub >> 32;
    }
}

u32 processor_interrupt_acknowledge(void)
{
    struct table_register current;
    struct table_register window = {sizeof window_idt - 1, (u64)window_idt};

    if (!apic_interrupt_is_pending())
        return PROCESSOR_NO_INTERRUPT;
    __asm__ volatile("sidt %0" : "=m"(current));
    window_idt_write(&current);
    __asm__ volatile("lidt %0" ::"m"(window));
    u32 vector = soft_interrupt_window();
    __asm__ volatile("lidt %0" ::"m"(current));
    return vector;
}

void processor_interrupt_end(void)
{
    apic_end_of_interrupt();
}
