/* SPDX-License-Identifier: MIT */
#include "vmm/vlapic.h"

#include <stdatomic.h>

#include "boot/msr.h"
#include "vmm/interrupt.h"

#define WORD_BITS 64
#define CLASS_MASK 0xf0
#define REGISTERS 8 /* of 32 bits each: ISR, TMR, IRR */

void vlapic_reset(struct vlapic *apic)
{
    for (u32 i = 0; i < VLAPIC_WORDS; i++) {
        apic->served[i] = 0;
        atomic_store(&apic->waiting[i], 0);
    }
    apic->task_priority = 0;
}

static u64 vector_bit(u8 vector)
{
    return 1ull << vector % WORD_BITS;
}

bool vlapic_post(struct vlapic *apic, u8 vector)
{
    u64 bit = vector_bit(vector);
    return !(atomic_fetch_or(&apic->waiting[vector / WORD_BITS], bit) & bit);
}

void vlapic_signal(struct vlapic *apic, u32 signal)
{
    u32 old = atomic_load(&apic->signals), new;
    do {
        new = (signal & VLAPIC_STARTUP ? old & ~VLAPIC_STARTUP_PAGE : old) | signal;
    } while (!atomic_compare_exchange_weak(&apic->signals, &old, new));
}

u32 vlapic_take_signals(struct vlapic *apic)
{
    return atomic_exchange(&apic->signals, 0);
}

static int highest(u64 word, u32 index)
{
    return (int)(index * WORD_BITS) + WORD_BITS - 1 - __builtin_clzll(word);
}

static int highest_waiting(const struct vlapic *apic)
{
    for (u32 i = VLAPIC_WORDS; i-- > 0;) {
        u64 word = atomic_load(&apic->waiting[i]);
        if (word)
            return highest(word, i);
    }
    return VLAPIC_NONE;
}

static int highest_served(const struct vlapic *apic)
{
    for (u32 i = VLAPIC_WORDS; i-- > 0;) {
        if (apic->served[i])
            return highest(apic->served[i], i);
    }
    return VLAPIC_NONE;
}

/* "Processor Priority": the greater of what is served and what the guest holds back. */
static u32 processor_priority(const struct vlapic *apic)
{
    int vector = highest_served(apic);
    u32 served = vector == VLAPIC_NONE ? 0 : (u32)vector & CLASS_MASK;
    return (apic->task_priority & CLASS_MASK) >= served ? apic->task_priority : served;
}

int vlapic_next(const struct vlapic *apic)
{
    int vector = highest_waiting(apic);
    if (vector == VLAPIC_NONE)
        return VLAPIC_NONE;
    u32 class = (u32)vector & CLASS_MASK;
    return class > (processor_priority(apic) & CLASS_MASK) ? vector : VLAPIC_NONE;
}

void vlapic_accept(struct vlapic *apic, u8 vector)
{
    atomic_fetch_and(&apic->waiting[vector / WORD_BITS], ~vector_bit(vector));
    apic->served[vector / WORD_BITS] |= vector_bit(vector);
}

void vlapic_return(struct vlapic *apic, u8 vector)
{
    apic->served[vector / WORD_BITS] &= ~vector_bit(vector);
    (void)vlapic_post(apic, vector);
}

bool vlapic_is_waiting(const struct vlapic *apic)
{
    return highest_waiting(apic) != VLAPIC_NONE;
}

bool vlapic_owns_msr(u32 msr)
{
    return msr == MSR_X2APIC_TPR || msr == MSR_X2APIC_PPR || msr == MSR_X2APIC_EOI ||
           msr == MSR_X2APIC_SELF_IPI ||
           (msr >= MSR_X2APIC_ISR0 && msr < MSR_X2APIC_IRR0 + REGISTERS);
}

static u32 half_word(u64 word, u32 index)
{
    return (u32)(word >> (index % 2 * 32));
}

enum error vlapic_read(const struct vlapic *apic, u32 msr, u64 *value)
{
    u32 index = (msr - MSR_X2APIC_ISR0) % REGISTERS;
    *value = 0;
    if (msr == MSR_X2APIC_EOI || msr == MSR_X2APIC_SELF_IPI)
        return ERR_INVALID;
    if (msr == MSR_X2APIC_TPR)
        *value = apic->task_priority;
    else if (msr == MSR_X2APIC_PPR)
        *value = processor_priority(apic);
    else if (msr < MSR_X2APIC_TMR0)
        *value = half_word(apic->served[index / 2], index);
    else if (msr >= MSR_X2APIC_IRR0)
        *value = half_word(atomic_load(&apic->waiting[index / 2]), index);
    return OK; /* TMR: every interrupt is an edge */
}

enum error vlapic_write(struct vlapic *apic, u32 msr, u64 value)
{
    int vector;
    switch (msr) {
    case MSR_X2APIC_TPR:
        if (value > 0xff)
            return ERR_INVALID;
        apic->task_priority = (u32)value;
        return OK;
    case MSR_X2APIC_EOI:
        vector = highest_served(apic);
        if (value)
            return ERR_INVALID;
        if (vector != VLAPIC_NONE)
            apic->served[vector / WORD_BITS] &= ~vector_bit((u8)vector);
        return OK;
    case MSR_X2APIC_SELF_IPI:
        if (value > 0xff)
            return ERR_INVALID;
        if (value >= INTERRUPT_VECTOR_MIN)
            (void)vlapic_post(apic, (u8)value);
        return OK;
    default:
        return ERR_INVALID;
    }
}
