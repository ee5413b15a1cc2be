/* SPDX-License-Identifier: MIT */
#include "boot/descriptors.h"

#include "boot/cpu.h"
#include "boot/msr.h"
#include "boot/x86.h"

struct __attribute__((packed)) tss {
    u32 reserved_0;
    u64 rsp[3];
    u64 reserved_1;
    u64 ist[7];
    u64 reserved_2;
    u16 reserved_3;
    u16 io_map;
};
_Static_assert(sizeof(struct tss) == 104, "TSS");

struct gate {
    u16 offset_low, selector;
    u8 ist, attributes;
    u16 offset_middle;
    u32 offset_high, reserved;
};

struct __attribute__((packed)) table_register {
    u16 limit;
    u64 base;
};

/* Code and data as 64-bit mode wants them: present, accessed, flat. */
#define DESCRIPTOR_CODE 0x00af9b000000ffffull
#define DESCRIPTOR_DATA 0x00cf93000000ffffull
#define GATE_INTERRUPT 0x8e
#define VECTORS 256

static u64 gdts[CPU_MAX][5] __attribute__((aligned(16)));
static struct tss tss[CPU_MAX] __attribute__((aligned(16)));
static struct gate idt[VECTORS] __attribute__((aligned(16)));

/* boot/exceptions.asm: VECTORS entries of 16 bytes each. */
extern u8 exception_entries[];

static void gate_set(u32 vector)
{
    u64 entry = (u64)exception_entries + 16 * vector;
    idt[vector] = (struct gate){
        .offset_low = (u16)entry,
        .selector = SELECTOR_CODE,
        .ist = vector == VECTOR_NMI  ? IST_NMI
               : vector == VECTOR_DF ? IST_DOUBLE_FAULT
               : vector == VECTOR_MC ? IST_MACHINE_CHECK
                                     : 0,
        .attributes = GATE_INTERRUPT,
        .offset_middle = (u16)(entry >> 16),
        .offset_high = (u32)(entry >> 32),
    };
}

static void tables_build(u32 index, u8 *ist_stacks)
{
    u64 base = (u64)&tss[index];

    for (u32 vector = 0; vector < VECTORS; vector++)
        gate_set(vector);
    for (u32 i = 0; i < IST_COUNT; i++)
        tss[index].ist[i] = (u64)(ist_stacks + (i + 1) * IST_STACK_BYTES);
    tss[index].io_map = sizeof(struct tss);
    gdts[index][SELECTOR_CODE / 8] = DESCRIPTOR_CODE;
    gdts[index][SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    gdts[index][SELECTOR_TSS / 8] = (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 |
                                    0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdts[index][SELECTOR_TSS / 8 + 1] = base >> 32;
}

void descriptors_load(u32 index, u8 *ist_stacks)
{
    tables_build(index, ist_stacks);
    struct table_register gdtr = {sizeof gdts[index] - 1, (u64)gdts[index]};
    struct table_register idtr = {sizeof idt - 1, (u64)idt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movw %w2, %%ds\n\t"
                     "movw %w2, %%es\n\t"
                     "movw %w2, %%ss\n\t"
                     "movw %w3, %%fs\n\t"
                     "movw %w3, %%gs\n\t"
                     "ltr %w4\n\t"
                     "lidt %5" ::"m"(gdtr),
                     "i"(SELECTOR_CODE), "r"(SELECTOR_DATA), "r"(0), "r"(SELECTOR_TSS), "m"(idtr)
                     : "rax", "memory");
    wrmsr(MSR_GS_BASE, (u64)cpu_at(index));
}
