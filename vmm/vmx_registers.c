/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_registers.h"

#include "boot/msr.h"
#include "boot/phys.h"
#include "boot/x86.h"
#include "mm/pages.h"
#include "vmm/vmx_policy.h"

static const u32 switched[] = {
#define VMX_MSR_SWITCHED(name) MSR_##name,
#include "vmm/vmx_msrs.def"
};

#define FCW_OFFSET 0
#define FCW_RESET 0x37fu
#define MXCSR_OFFSET 24
#define MXCSR_RESET 0x1f80u
#define XCR0_RESET 1 /* x87 alone */
#define DR6_RESET 0xffff0ff0u

/* An XSAVE header of zeros says: every part as at reset, but for MXCSR. FXRSTOR takes it too. */
static void extended_reset(u8 *area)
{
    *(u32 *)(area + FCW_OFFSET) = FCW_RESET;
    *(u32 *)(area + MXCSR_OFFSET) = MXCSR_RESET;
}

enum error vmx_registers_create(struct vmx_registers *registers)
{
    *registers = (struct vmx_registers){.xcr0 = XCR0_RESET, .dr6 = DR6_RESET};
    enum error e = page_allocate_zeroed(PAGE_VMM, &registers->extended);
    if (e)
        registers->extended = HPA_NONE;
    else
        extended_reset(phys_to_virt(registers->extended));
    return e;
}

void vmx_registers_destroy(struct vmx_registers *registers)
{
    if (!hpa_is_none(registers->extended))
        page_free(registers->extended);
    registers->extended = HPA_NONE;
}

static bool has_xsave(void)
{
    return cr4_read() & CR4_OSXSAVE;
}

static void extended_load(const u8 *area)
{
    u64 mask = vmx_xcr0_allowed();
    if (!has_xsave()) {
        __asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
        return;
    }
    xcr0_write(mask);
    __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
                     : "memory");
}

static void extended_save(u8 *area)
{
    u64 mask = vmx_xcr0_allowed();
    if (!has_xsave()) {
        __asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
        return;
    }
    xcr0_write(mask);
    __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((u32)mask), "d"((u32)(mask >> 32)) : "memory");
}

#define DEBUG_REGISTER(n)                                               \
    static inline u64 dr##n##_read(void)                                \
    {                                                                   \
        u64 value;                                                      \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value)::"memory"); \
        return value;                                                   \
    }                                                                   \
    static inline void dr##n##_write(u64 value)                         \
    {                                                                   \
        __asm__ volatile("mov %0, %%dr" #n ::"r"(value) : "memory");    \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)

/* One that the processor lacks stays as it is: the guest is told that it lacks it too. */
void vmx_registers_load(const struct vmx_registers *registers)
{
    extended_load(phys_to_virt(registers->extended));
    if (has_xsave())
        xcr0_write(registers->xcr0);
    for (u32 i = 0; i < ARRAY_LENGTH(switched); i++)
        (void)wrmsr_try(switched[i], registers->msrs[i]);
    cr2_write(registers->cr2);
    dr0_write(registers->dr[0]);
    dr1_write(registers->dr[1]);
    dr2_write(registers->dr[2]);
    dr3_write(registers->dr[3]);
    dr6_write(registers->dr6);
}

/* The same area again, with everything as at reset. */
static void extended_forget(void)
{
    static const struct {
        u32 fcw, pad[5], mxcsr;
        u8 rest[XSAVE_LEGACY_BYTES - 28];
    } reset __attribute__((aligned(64))) = {.fcw = FCW_RESET, .mxcsr = MXCSR_RESET};
    extended_load((const u8 *)&reset);
}

void vmx_registers_save(struct vmx_registers *registers)
{
    if (has_xsave())
        registers->xcr0 = xcr0_read();
    extended_save(phys_to_virt(registers->extended));
    extended_forget();
    for (u32 i = 0; i < ARRAY_LENGTH(switched); i++)
        (void)rdmsr_try(switched[i], &registers->msrs[i]);
    registers->cr2 = cr2_read();
    registers->dr[0] = dr0_read();
    registers->dr[1] = dr1_read();
    registers->dr[2] = dr2_read();
    registers->dr[3] = dr3_read();
    registers->dr6 = dr6_read();
}
