/* SPDX-License-Identifier: MIT */
#include "boot/apic.h"

#include "boot/cpu.h"
#include "boot/msr.h"
#include "boot/x86.h"

#define XAPIC_BASE 0xfee00000ull

/* Registers, as xAPIC offsets; x2APIC's MSR is 0x800 + offset / 16. */
#define REG_ID 0x20
#define REG_EOI 0xb0
#define REG_SVR 0xf0
#define REG_IRR 0x200
#define REG_ICR 0x300
#define REG_ICR_HIGH 0x310
#define REG_LVT_TIMER 0x320
#define REG_LVT_LINT0 0x350
#define REG_LVT_LINT1 0x360
#define REG_TIMER_INITIAL 0x380
#define REG_TIMER_DIVIDE 0x3e0

#define SVR_ENABLE (1u << 8)
#define LVT_MASKED (1u << 16)
#define LVT_TSC_DEADLINE (2u << 17)
#define ICR_NMI (4u << 8)
#define ICR_INIT (5u << 8)
#define ICR_STARTUP (6u << 8)
#define ICR_PENDING (1u << 12)
#define ICR_ASSERT (1u << 14)
#define ICR_ALL_BUT_SELF (3u << 18)
#define IRR_WORDS 8

#define CPUID_1_ECX_X2APIC (1u << 21)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)

static bool is_x2apic;
static bool has_deadline;

static u32 reg_read(u32 reg)
{
    if (is_x2apic)
        return (u32)rdmsr(MSR_X2APIC_BASE + reg / 16);
    return *(volatile u32 *)(XAPIC_BASE + reg);
}

static void reg_write(u32 reg, u32 value)
{
    if (is_x2apic)
        wrmsr(MSR_X2APIC_BASE + reg / 16, value);
    else
        *(volatile u32 *)(XAPIC_BASE + reg) = value;
}

void apic_enable(void)
{
    u32 features = cpuid(1, 0).ecx;
    is_x2apic = (features & CPUID_1_ECX_X2APIC) != 0;
    has_deadline = (features & CPUID_1_ECX_TSC_DEADLINE) != 0;
    u64 base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    wrmsr(MSR_APIC_BASE, base);
    if (is_x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    reg_write(REG_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
    reg_write(REG_LVT_LINT0, LVT_MASKED);
    reg_write(REG_LVT_LINT1, LVT_MASKED);
    reg_write(REG_LVT_TIMER, has_deadline ? LVT_TSC_DEADLINE | VECTOR_TIMER : VECTOR_TIMER);
    reg_write(REG_TIMER_DIVIDE, 0xb); /* by 1 */
    reg_write(REG_TIMER_INITIAL, 0);
}

u32 apic_id(void)
{
    return is_x2apic ? reg_read(REG_ID) : reg_read(REG_ID) >> 24;
}

void apic_end_of_interrupt(void)
{
    reg_write(REG_EOI, 0);
}

static void command(u32 target_apic_id, u32 low)
{
    if (is_x2apic) {
        wrmsr(MSR_X2APIC_ICR, (u64)target_apic_id << 32 | low);
        return;
    }
    reg_write(REG_ICR_HIGH, target_apic_id << 24);
    reg_write(REG_ICR, low);
    while (reg_read(REG_ICR) & ICR_PENDING)
        __asm__ volatile("pause");
}

void apic_send(u32 target_apic_id, u8 vector)
{
    command(target_apic_id, ICR_ASSERT | vector);
}
void apic_send_init(u32 target_apic_id)
{
    command(target_apic_id, ICR_ASSERT | ICR_INIT);
}
void apic_send_startup(u32 target_apic_id, u8 page)
{
    command(target_apic_id, ICR_ASSERT | ICR_STARTUP | page);
}
void apic_send_nmi_to_others(void)
{
    command(0, ICR_ALL_BUT_SELF | ICR_ASSERT | ICR_NMI);
}

void apic_timer_arm(u64 tsc)
{
    struct cpu *cpu = cpu_this();
    if (cpu->timer_tsc == tsc)
        return;
    cpu->timer_tsc = tsc;
    if (has_deadline) {
        wrmsr(MSR_TSC_DEADLINE, tsc);
        return;
    }
    /* Without deadline mode: count down the bus clock, which is at most the TSC's: fires early
     * or in time, and the caller looks at the clock again. */
    u64 now = tsc_read();
    u64 ticks = tsc == 0 ? 0 : tsc > now ? tsc - now : 1;
    reg_write(REG_TIMER_INITIAL, ticks > ~0u ? ~0u : (u32)ticks);
}

bool apic_interrupt_is_pending(void)
{
    for (u32 i = 0; i < IRR_WORDS; i++)
        if (reg_read(REG_IRR + i * 0x10))
            return true;
    return false;
}
