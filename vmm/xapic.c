/* SPDX-License-Identifier: MIT */
#include "vmm/xapic.h"

#include "boot/msr.h"

#define REG_ID 0x20
#define REG_TPR 0x80
#define REG_EOI 0xb0
#define REG_LDR 0xd0
#define REG_DFR 0xe0
#define REG_ESR 0x280
#define REG_ICR 0x300
#define REG_ICR_HIGH 0x310
#define REG_SELF_IPI 0x3f0 /* of x2APIC mode alone */
#define ID_SHIFT 24
#define LDR_WRITABLE 0xff000000u
#define DFR_ONES 0x0fffffffu
#define ICR_STATUS (1u << 12) /* read-only: never pending */
#define BROADCAST 0xffu

static u32 msr_of(u32 offset)
{
    return MSR_X2APIC_BASE + offset / 16;
}

u32 xapic_read(const struct lapic *lapic, const struct vlapic *apic, u32 offset)
{
    u64 value;
    switch (offset) {
    case REG_ID:
        return lapic->apic_id << ID_SHIFT;
    case REG_LDR:
        return lapic->logical_id;
    case REG_DFR:
        return lapic->destination_format;
    case REG_ICR:
        return (u32)lapic->icr;
    case REG_ICR_HIGH:
        return (u32)(lapic->icr >> 32);
    default:
        break;
    }
    enum error e = vlapic_owns_msr(msr_of(offset)) ? vlapic_read(apic, msr_of(offset), &value)
                                                   : lapic_read(lapic, msr_of(offset), &value);
    return e ? 0 : (u32)value;
}

/* The destination is 8 bits wide; the register goes on showing them as they were written. */
static void icr_write(struct lapic *lapic, u32 value, struct interrupt *interrupt)
{
    u64 high = lapic->icr >> 32;
    u64 destination = high >> ID_SHIFT == BROADCAST ? INTERRUPT_BROADCAST : high >> ID_SHIFT;
    value &= ~ICR_STATUS;
    if (lapic_write(lapic, MSR_X2APIC_ICR, destination << 32 | value, interrupt) == OK)
        lapic->icr = high << 32 | value;
}

void xapic_write(struct lapic *lapic, struct vlapic *apic, u32 offset, u32 value,
                 struct interrupt *interrupt)
{
    *interrupt = (struct interrupt){.kind = INTERRUPT_NONE};
    switch (offset) {
    case REG_ID:
    case REG_SELF_IPI:
        return;
    case REG_LDR:
        lapic->logical_id = value & LDR_WRITABLE;
        return;
    case REG_DFR:
        lapic->destination_format = value | DFR_ONES;
        return;
    case REG_ICR:
        icr_write(lapic, value, interrupt);
        return;
    case REG_ICR_HIGH:
        lapic->icr = (u64)value << 32 | (u32)lapic->icr;
        return;
    case REG_EOI:
    case REG_ESR: /* any value does */
        value = 0;
        break;
    case REG_TPR:
        value &= 0xff;
        break;
    default:
        break;
    }
    if (vlapic_owns_msr(msr_of(offset)))
        (void)vlapic_write(apic, msr_of(offset), value);
    else
        (void)lapic_write(lapic, msr_of(offset), value, interrupt);
}
