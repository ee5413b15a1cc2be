/* SPDX-License-Identifier: MIT */
/* Thin wrappers of single instructions. */
#ifndef BOOT_X86_H
#define BOOT_X86_H

#include "boot/types.h"

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_result r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline u64 rdmsr(u32 index)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return (u64)high << 32 | low;
}

static inline void wrmsr(u32 index, u64 value)
{
    __asm__ volatile("wrmsr" ::"c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* Like rdmsr and wrmsr, but a #GP comes back as false. (boot/exceptions.asm) */
bool rdmsr_try(u32 index, u64 *value);
bool wrmsr_try(u32 index, u64 value);

static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void out16(u16 port, u16 value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static inline u64 tsc_read(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

#define X86_CONTROL_REGISTER(n)                                         \
    static inline u64 cr##n##_read(void)                                \
    {                                                                   \
        u64 value;                                                      \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value)::"memory"); \
        return value;                                                   \
    }                                                                   \
    static inline void cr##n##_write(u64 value)                         \
    {                                                                   \
        __asm__ volatile("mov %0, %%cr" #n ::"r"(value) : "memory");    \
    }
X86_CONTROL_REGISTER(0)
X86_CONTROL_REGISTER(2)
X86_CONTROL_REGISTER(3)
X86_CONTROL_REGISTER(4)

static inline u64 xcr0_read(void)
{
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (u64)high << 32 | low;
}

static inline void xcr0_write(u64 value)
{
    __asm__ volatile("xsetbv" ::"c"(0), "a"((u32)value), "d"((u32)(value >> 32)));
}

static inline void invlpg(const void *address)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
}

static inline void clflush(const void *address)
{
    __asm__ volatile("clflush %0" ::"m"(*(const u8 *)address) : "memory");
}

static inline void interrupts_enable(void)
{
    __asm__ volatile("sti" ::: "memory");
}
static inline void interrupts_disable(void)
{
    __asm__ volatile("cli" ::: "memory");
}

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_AM (1ull << 18)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_PG (1ull << 31)

#define CR4_VME (1ull << 0)
#define CR4_PVI (1ull << 1)
#define CR4_TSD (1ull << 2)
#define CR4_DE (1ull << 3)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_MCE (1ull << 6)
#define CR4_PGE (1ull << 7)
#define CR4_PCE (1ull << 8)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP (1ull << 11)
#define CR4_LA57 (1ull << 12)
#define CR4_VMXE (1ull << 13)
#define CR4_SMXE (1ull << 14)
#define CR4_FSGSBASE (1ull << 16)
#define CR4_PCIDE (1ull << 17)
#define CR4_OSXSAVE (1ull << 18)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)

#define RFLAGS_CF (1ull << 0)
#define RFLAGS_FIXED (1ull << 1)
#define RFLAGS_ZF (1ull << 6)
#define RFLAGS_TF (1ull << 8)
#define RFLAGS_IF (1ull << 9)
#define RFLAGS_DF (1ull << 10)
#define RFLAGS_RF (1ull << 16)

#define EFER_SCE (1ull << 0)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)

#define VECTOR_DE 0
#define VECTOR_DB 1
#define VECTOR_NMI 2
#define VECTOR_UD 6
#define VECTOR_DF 8
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_AC 17
#define VECTOR_MC 18
#define VECTOR_VE 20

/* Our own interrupt vectors. */
#define VECTOR_KICK 0xf0   /* leave the guest; run the per-processor call */
#define VECTOR_TIMER 0xf1  /* the local APIC timer */
#define VECTOR_POSTED 0xf2 /* posted-interrupt notification of TD vCPUs */
#define VECTOR_SPURIOUS 0xff

#endif
