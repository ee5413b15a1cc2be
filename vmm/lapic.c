/* SPDX-License-Identifier: MIT */
#include "vmm/lapic.h"

#include "boot/machine.h"
#include "boot/msr.h"
#include "boot/x86.h"

#define APIC_BASE_ADDRESS 0xfee00000ull
#define APIC_BASE_BSP (1ull << 8)
#define VERSION (0x14u | (LAPIC_LVTS - 1) << 16)
#define SPURIOUS_RESET 0xffu
#define SPURIOUS_MASK 0x3ffu
#define LVT_MASKED (1u << 16)
#define LVT_VECTOR 0xffu
#define LVT_TIMER_MODE (3u << 17)
#define LVT_TIMER_PERIODIC (1u << 17)
#define LVT_TIMER_DEADLINE (2u << 17)
#define LVT_WRITABLE 0x1f7ffu

#define ICR_VECTOR 0xffull
#define ICR_DELIVERY_SHIFT 8
#define ICR_DELIVERY_MASK 7
#define ICR_LOGICAL (1ull << 11)
#define ICR_ASSERT (1ull << 14)
#define ICR_LEVEL (1ull << 15)
#define ICR_SHORTHAND_SHIFT 18
#define ICR_SHORTHAND_MASK 3
#define ICR_RESERVED 0xfff32000ull
#define DELIVERY_FIXED 0
#define DELIVERY_LOWEST 1
#define DELIVERY_NMI 4
#define DELIVERY_INIT 5
#define DELIVERY_STARTUP 6
enum shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

void lapic_init(struct lapic *lapic, u32 apic_id)
{
    *lapic = (struct lapic){.apic_id = apic_id,
                            .mode = LAPIC_X2APIC,
                            .spurious = SPURIOUS_RESET,
                            .lvt_cmci = LVT_MASKED,
                            .destination_format = ~0u};
    for (u32 i = 0; i < LAPIC_LVTS; i++)
        lapic->lvt[i] = LVT_MASKED;
}

static u64 apic_base(const struct lapic *lapic)
{
    return APIC_BASE_ADDRESS | (lapic->mode == LAPIC_OFF ? 0 : APIC_BASE_ENABLE) |
           (lapic->mode == LAPIC_X2APIC ? APIC_BASE_X2APIC : 0) |
           (lapic->apic_id == 0 ? APIC_BASE_BSP : 0);
}

enum error lapic_base_write(struct lapic *lapic, u64 value)
{
    const u64 mode_bits = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    enum lapic_mode mode = value & APIC_BASE_X2APIC   ? LAPIC_X2APIC
                           : value & APIC_BASE_ENABLE ? LAPIC_XAPIC
                                                      : LAPIC_OFF;
    if ((value ^ apic_base(lapic)) & ~mode_bits)
        return ERR_INVALID;
    if ((value & mode_bits) == APIC_BASE_X2APIC)
        return ERR_INVALID;
    if ((mode == LAPIC_X2APIC && lapic->mode == LAPIC_OFF) ||
        (mode == LAPIC_XAPIC && lapic->mode == LAPIC_X2APIC))
        return ERR_INVALID;
    if (lapic->mode == LAPIC_OFF && mode != LAPIC_OFF)
        lapic_init(lapic, lapic->apic_id);
    lapic->mode = mode;
    return OK;
}

#define FORMAT_SHIFT 28
#define FORMAT_FLAT 0xfu
#define LOGICAL_SHIFT 24
#define CLUSTER_MASK 0xf0u

bool lapic_is_meant(const struct lapic *lapic, const struct interrupt *interrupt, u32 sender)
{
    if (interrupt->target != TARGET_LOGICAL || lapic->mode == LAPIC_X2APIC)
        return interrupt_is_for(interrupt, lapic->apic_id, sender);
    u32 mine = lapic->logical_id >> LOGICAL_SHIFT, wanted = interrupt->destination;
    if (wanted == INTERRUPT_BROADCAST)
        return true;
    if (lapic->destination_format >> FORMAT_SHIFT == FORMAT_FLAT)
        return wanted & mine;
    return !((wanted ^ mine) & CLUSTER_MASK) && (wanted & mine & ~CLUSTER_MASK);
}

bool lapic_owns_msr(u32 msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= 0x800 && msr <= 0x8ff);
}

static bool timer_counts_to_deadline(const struct lapic *lapic)
{
    return (lapic->lvt[0] & LVT_TIMER_MODE) == LVT_TIMER_DEADLINE;
}

/* Divide configuration: bits 3, 1 and 0 are the exponent less one; all ones divide by 1. */
static u32 timer_divisor(const struct lapic *lapic)
{
    u32 exponent = (lapic->divide & 3) | (lapic->divide >> 1 & 4);
    return 1u << ((exponent + 1) & 7);
}

/* Host TSC ticks of `count` ticks of the timer. */
static u64 count_to_tsc(const struct lapic *lapic, u64 count)
{
    return count * timer_divisor(lapic) * (machine()->tsc_hz / 1000) / (LAPIC_TIMER_HZ / 1000);
}

static u32 current_count(const struct lapic *lapic)
{
    u64 now = tsc_read(), one = count_to_tsc(lapic, 1);
    if (lapic->count_end_tsc <= now)
        return 0;
    u64 left = (lapic->count_end_tsc - now) / (one ? one : 1);
    return left < lapic->initial_count ? (u32)left : lapic->initial_count;
}

static void count_start(struct lapic *lapic, u32 count)
{
    lapic->initial_count = count;
    lapic->count_end_tsc =
        count && !timer_counts_to_deadline(lapic) ? tsc_read() + count_to_tsc(lapic, count) : 0;
}

enum error lapic_read(const struct lapic *lapic, u32 msr, u64 *value)
{
    if (msr >= MSR_X2APIC_LVT_TIMER && msr <= MSR_X2APIC_LVT_ERROR) {
        *value = lapic->lvt[msr - MSR_X2APIC_LVT_TIMER];
        return OK;
    }
    switch (msr) {
    case MSR_APIC_BASE:
        *value = apic_base(lapic);
        return OK;
    case MSR_TSC_DEADLINE:
        *value = timer_counts_to_deadline(lapic) ? lapic->deadline : 0;
        return OK;
    case MSR_X2APIC_ID:
        *value = lapic->apic_id;
        return OK;
    case MSR_X2APIC_VERSION:
        *value = VERSION;
        return OK;
    case MSR_X2APIC_LDR:
        *value = interrupt_logical_id(lapic->apic_id);
        return OK;
    case MSR_X2APIC_SVR:
        *value = lapic->spurious;
        return OK;
    case MSR_X2APIC_LVT_CMCI:
        *value = lapic->lvt_cmci;
        return OK;
    case MSR_X2APIC_ICR:
        *value = lapic->icr;
        return OK;
    case MSR_X2APIC_TIMER_DIVIDE:
        *value = lapic->divide;
        return OK;
    case MSR_X2APIC_TIMER_INITIAL:
        *value = lapic->initial_count;
        return OK;
    case MSR_X2APIC_TIMER_CURRENT:
        *value = current_count(lapic);
        return OK;
    case MSR_X2APIC_ESR:
        *value = 0;
        return OK;
    default:
        return ERR_INVALID;
    }
}

/* "INIT Level De-assert" does nothing. */
static enum interrupt_kind icr_kind(u64 value)
{
    switch (value >> ICR_DELIVERY_SHIFT & ICR_DELIVERY_MASK) {
    case DELIVERY_FIXED:
    case DELIVERY_LOWEST:
        return (value & ICR_VECTOR) >= INTERRUPT_VECTOR_MIN ? INTERRUPT_FIXED : INTERRUPT_NONE;
    case DELIVERY_NMI:
        return INTERRUPT_NMI;
    case DELIVERY_INIT:
        return (value & ICR_LEVEL) && !(value & ICR_ASSERT) ? INTERRUPT_NONE : INTERRUPT_INIT;
    case DELIVERY_STARTUP:
        return INTERRUPT_STARTUP;
    default:
        return INTERRUPT_NONE;
    }
}

static enum error icr_write(struct lapic *lapic, u64 value, struct interrupt *interrupt)
{
    if (value & ICR_RESERVED)
        return ERR_INVALID;
    lapic->icr = value;
    interrupt->kind = icr_kind(value);
    interrupt->vector = (u8)(value & ICR_VECTOR);
    interrupt->destination = (u32)(value >> 32);
    switch ((enum shorthand)((value >> ICR_SHORTHAND_SHIFT) & ICR_SHORTHAND_MASK)) {
    case SHORTHAND_SELF:
        interrupt->target = TARGET_PHYSICAL;
        interrupt->destination = lapic->apic_id;
        break;
    case SHORTHAND_ALL:
        interrupt->target = TARGET_ALL;
        break;
    case SHORTHAND_OTHERS:
        interrupt->target = TARGET_OTHERS;
        break;
    default:
        interrupt->target = value & ICR_LOGICAL ? TARGET_LOGICAL : TARGET_PHYSICAL;
        break;
    }
    return OK;
}

static void lvt_write(struct lapic *lapic, u32 index, u32 value)
{
    u32 writable = LVT_WRITABLE | (index == 0 ? LVT_TIMER_MODE : 0);
    u32 old = lapic->lvt[index];
    lapic->lvt[index] = value & writable;
    /* "Changing the timer mode" to or from TSC-deadline disarms the timer. */
    if (index == 0 && ((old ^ value) & LVT_TIMER_MODE)) {
        lapic->deadline = 0;
        if (timer_counts_to_deadline(lapic))
            lapic->count_end_tsc = 0;
    }
}

enum error lapic_write(struct lapic *lapic, u32 msr, u64 value, struct interrupt *interrupt)
{
    *interrupt = (struct interrupt){.kind = INTERRUPT_NONE};
    if (msr == MSR_TSC_DEADLINE) {
        if (timer_counts_to_deadline(lapic))
            lapic->deadline = value;
        return OK;
    }
    if (msr == MSR_X2APIC_ICR)
        return icr_write(lapic, value, interrupt);
    if (msr == MSR_APIC_BASE) /* a TD stays in x2APIC mode */
        return value == apic_base(lapic) ? OK : ERR_INVALID;
    if (value >> 32)
        return ERR_INVALID;
    if (msr >= MSR_X2APIC_LVT_TIMER && msr <= MSR_X2APIC_LVT_ERROR) {
        lvt_write(lapic, msr - MSR_X2APIC_LVT_TIMER, (u32)value);
        return OK;
    }
    switch (msr) {
    case MSR_X2APIC_SVR:
        lapic->spurious = value & SPURIOUS_MASK;
        return OK;
    case MSR_X2APIC_LVT_CMCI:
        lapic->lvt_cmci = value & LVT_WRITABLE;
        return OK;
    case MSR_X2APIC_TIMER_DIVIDE:
        lapic->divide = value & 0xb;
        return OK;
    case MSR_X2APIC_TIMER_INITIAL:
        count_start(lapic, (u32)value);
        return OK;
    case MSR_X2APIC_ESR:
        return value == 0 ? OK : ERR_INVALID;
    default:
        return ERR_INVALID;
    }
}

bool lapic_timer_expire(struct lapic *lapic, u8 *vector)
{
    u32 entry = lapic->lvt[0];
    lapic->deadline = 0;
    if (lapic->count_end_tsc && (entry & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC)
        count_start(lapic, lapic->initial_count);
    else
        lapic->count_end_tsc = 0;
    *vector = entry & LVT_VECTOR;
    return !(entry & LVT_MASKED) && *vector >= INTERRUPT_VECTOR_MIN;
}
