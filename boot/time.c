/* SPDX-License-Identifier: MIT */
#include "boot/time.h"

#include "boot/x86.h"

#define PIT_HZ 1193182ull
#define PIT_CHANNEL_2 0x42
#define PIT_COMMAND 0x43
#define PIT_GATE 0x61
#define GATE_ON 0x01
#define GATE_SPEAKER 0x02
#define GATE_OUTPUT 0x20
#define MEASURE_MS 10
#define POLLS_MAX 10000000u
/* Rounded to this: the measurement's noise is not the frequency. */
#define ROUND_HZ 1000000ull

static u64 tsc_hz = 1000000000;

/* TSC ticks in MEASURE_MS, 0 if the PIT does not count. */
static u64 pit_measure(void)
{
    u16 pit_ticks = (u16)(PIT_HZ * MEASURE_MS / 1000);
    out8(PIT_GATE, (in8(PIT_GATE) & (u8)~GATE_SPEAKER) | GATE_ON);
    out8(PIT_COMMAND, 0xb0); /* channel 2, both bytes, mode 0: output rises at the end */
    out8(PIT_CHANNEL_2, (u8)pit_ticks);
    out8(PIT_CHANNEL_2, (u8)(pit_ticks >> 8));
    u64 start = tsc_read();
    for (u32 i = 0; i < POLLS_MAX; i++)
        if (in8(PIT_GATE) & GATE_OUTPUT)
            return tsc_read() - start;
    return 0;
}

/* "Time Stamp Counter and Nominal Core Crystal Clock Information Leaf" */
static u64 cpuid_tsc_hz(void)
{
    if (cpuid(0, 0).eax < 0x15)
        return 0;
    struct cpuid_result r = cpuid(0x15, 0);
    return r.eax ? (u64)r.ecx * r.ebx / r.eax : 0;
}

u64 time_measure_tsc_hz(void)
{
    u64 measured = pit_measure() * 1000 / MEASURE_MS;
    measured = (measured + ROUND_HZ / 2) / ROUND_HZ * ROUND_HZ;
    tsc_hz = measured ? measured : cpuid_tsc_hz();
    if (!tsc_hz)
        tsc_hz = 1000000000;
    return tsc_hz;
}

u64 time_us_to_tsc(u64 us)
{
    return us * (tsc_hz / 1000) / 1000;
}

void time_wait_us(u64 us)
{
    u64 end = tsc_read() + time_us_to_tsc(us);
    while (tsc_read() < end)
        __asm__ volatile("pause");
}
