/* SPDX-License-Identifier: MIT */
/* From the end of boot services to vmm_main: the machine becomes ours. */
#include "boot/start.h"

#include "boot/acpi.h"
#include "boot/apic.h"
#include "boot/arena.h"
#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/efi.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/paging.h"
#include "boot/power.h"
#include "boot/time.h"
#include "boot/x86.h"

static struct firmware *firmware;

/* The legacy interrupt controllers: nobody may interrupt us through them. */
static void pic_mask(void)
{
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}

static void report_memory(const struct machine *m)
{
    u64 bytes[4] = {0};
    for (u32 i = 0; i < m->range_count; i++)
        bytes[m->ranges[i].kind] += m->ranges[i].end - m->ranges[i].start;
    log_line("boot: memory: %llu MiB free, %llu MiB Tain's, %llu MiB the firmware's, %u ranges",
             (unsigned long long)(bytes[MEMORY_FREE] / MIB),
             (unsigned long long)(bytes[MEMORY_TAIN] / MIB),
             (unsigned long long)(bytes[MEMORY_FIRMWARE] / MIB), m->range_count);
    for (u32 i = 0; i < m->file_count; i++)
        log_line("boot: file %s: %llu bytes", m->files[i].path,
                 (unsigned long long)m->files[i].len_bytes);
}

/* MP services say which processors there are; the MADT, where there is one, must agree. */
static void processors_check(void)
{
    static struct processor listed[CPU_MAX];
    u32 count = acpi_processors(firmware->machine.rsdp, listed, CPU_MAX);
    if (firmware->processor_count == 0) {
        for (u32 i = 0; i < count; i++)
            firmware->processors[i] = listed[i];
        firmware->processor_count = count;
    } else if (count && count != firmware->processor_count) {
        log_line("boot: MP services list %u processors, the MADT %u: using the former's",
                 firmware->processor_count, count);
    }
    if (firmware->processor_count > CPU_MAX) {
        log_line("boot: %u processors listed, %u used", firmware->processor_count, CPU_MAX);
        firmware->processor_count = CPU_MAX;
    }
}

/* On our own stack from here on. */
__attribute__((noreturn)) static void start_on_own_stack(void)
{
    cpu_init_first();
    machine_set(&firmware->machine);
    firmware->machine.tsc_hz = time_measure_tsc_hz();
    firmware->machine.physical_address_bits = cpuid(0x80000008, 0).eax & 0xff;
    report_memory(&firmware->machine);
    processors_check();
    cpu_start_others(firmware->processors, firmware->processor_count, firmware->trampoline_page);
    log_line("boot: %u processor%s in %u package%s, TSC %llu MHz, physical addresses of %u bits",
             cpu_count(), cpu_count() == 1 ? "" : "s", cpu_package_count(),
             cpu_package_count() == 1 ? "" : "s",
             (unsigned long long)(firmware->machine.tsc_hz / 1000000),
             firmware->machine.physical_address_bits);
    power_off(vmm_main());
}

void start_take_over(struct firmware *told)
{
    firmware = told;
    pic_mask();
    paging_build(&firmware->machine);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    cr3_write(paging_vmm_root().raw);
    u8 *stack = arena_pages(CPU_STACK_PAGES);
    __asm__ volatile("movq %0, %%rsp\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2" ::"r"(stack + CPU_STACK_PAGES * PAGE_BYTES),
                     "r"(start_on_own_stack)
                     : "memory");
    __builtin_unreachable();
}
