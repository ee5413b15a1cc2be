/* SPDX-License-Identifier: MIT */
#include "vmm/ioapic.h"

#define WINDOW_SELECT 0x00
#define WINDOW_DATA 0x10
#define REG_ID 0x00
#define REG_VERSION 0x01
#define REG_ARBITRATION 0x02
#define REG_ENTRIES 0x10
#define VERSION (0x11u | (IOAPIC_PINS - 1) << 16)
#define ID_MASK 0x0f000000u

#define ENTRY_VECTOR 0xffull
#define ENTRY_DELIVERY 0x700ull
#define ENTRY_LOGICAL (1ull << 11)
#define ENTRY_MASKED (1ull << 16)
#define ENTRY_DESTINATION_SHIFT 56
#define ENTRY_WRITABLE 0xff0000000001afffull
#define DELIVERY_FIXED 0x000ull
#define DELIVERY_LOWEST 0x100ull
#define DELIVERY_NMI 0x400ull
#define XAPIC_BROADCAST 0xff

void ioapic_init(struct ioapic *ioapic)
{
    *ioapic = (struct ioapic){0};
    for (u32 i = 0; i < IOAPIC_PINS; i++)
        ioapic->entries[i] = ENTRY_MASKED;
}

static void entry_send(u64 entry, struct interrupt *interrupt)
{
    u32 destination = (u32)(entry >> ENTRY_DESTINATION_SHIFT);
    u64 delivery = entry & ENTRY_DELIVERY;
    interrupt->vector = (u8)(entry & ENTRY_VECTOR);
    interrupt->target = entry & ENTRY_LOGICAL ? TARGET_LOGICAL : TARGET_PHYSICAL;
    interrupt->destination = destination == XAPIC_BROADCAST ? INTERRUPT_BROADCAST : destination;
    if (delivery == DELIVERY_NMI)
        interrupt->kind = INTERRUPT_NMI;
    else if ((delivery == DELIVERY_FIXED || delivery == DELIVERY_LOWEST) &&
             interrupt->vector >= INTERRUPT_VECTOR_MIN)
        interrupt->kind = INTERRUPT_FIXED;
}

/* Sends the edge that waits at `pin`, if its entry lets it through. */
static void pin_try(struct ioapic *ioapic, u32 pin, struct interrupt *interrupt)
{
    if (!(ioapic->pending & 1u << pin) || (ioapic->entries[pin] & ENTRY_MASKED))
        return;
    ioapic->pending &= ~(1u << pin);
    entry_send(ioapic->entries[pin], interrupt);
}

void ioapic_set_line(struct ioapic *ioapic, u32 pin, bool level, struct interrupt *interrupt)
{
    u32 bit = 1u << pin;
    *interrupt = (struct interrupt){.kind = INTERRUPT_NONE};
    if (level && !(ioapic->levels & bit))
        ioapic->pending |= bit;
    ioapic->levels = level ? ioapic->levels | bit : ioapic->levels & ~bit;
    if (!level)
        ioapic->pending &= ~bit;
    pin_try(ioapic, pin, interrupt);
}

static u32 read_register(const struct ioapic *ioapic)
{
    u32 reg = ioapic->selected;
    if (reg == REG_ID)
        return ioapic->id;
    if (reg == REG_VERSION)
        return VERSION;
    if (reg == REG_ARBITRATION)
        return ioapic->id;
    u32 pin = (reg - REG_ENTRIES) / 2;
    if (reg < REG_ENTRIES || pin >= IOAPIC_PINS)
        return 0;
    return (u32)(reg & 1 ? ioapic->entries[pin] >> 32 : ioapic->entries[pin]);
}

u32 ioapic_read(struct ioapic *ioapic, u64 offset)
{
    if (offset == WINDOW_SELECT)
        return ioapic->selected;
    return offset == WINDOW_DATA ? read_register(ioapic) : 0;
}

static void write_register(struct ioapic *ioapic, u32 value, struct interrupt *interrupt)
{
    u32 reg = ioapic->selected;
    if (reg == REG_ID) {
        ioapic->id = value & ID_MASK;
        return;
    }
    u32 pin = (reg - REG_ENTRIES) / 2;
    if (reg < REG_ENTRIES || pin >= IOAPIC_PINS)
        return;
    u64 *entry = &ioapic->entries[pin];
    if (reg & 1)
        *entry = (u64)value << 32 | (u32)*entry;
    else
        *entry = (*entry & 0xffffffff00000000ull) | value;
    *entry &= ENTRY_WRITABLE;
    pin_try(ioapic, pin, interrupt);
}

void ioapic_write(struct ioapic *ioapic, u64 offset, u32 value, struct interrupt *interrupt)
{
    *interrupt = (struct interrupt){.kind = INTERRUPT_NONE};
    if (offset == WINDOW_SELECT)
        ioapic->selected = value & 0xff;
    else if (offset == WINDOW_DATA)
        write_register(ioapic, value, interrupt);
}
