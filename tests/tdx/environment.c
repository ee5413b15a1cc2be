/* SPDX-License-Identifier: MIT */
#include "tests/tdx/environment.h"

#include <string.h>

#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/paging.h"
#include "boot/x86.h"
#include "mm/pages.h"
#include "tdx/handover.h"
#include "tdx/seamcall.h"
#include "tests/host/machine.h"

#define MSRS_MAX 16

static struct {
    u32 index;
    u64 value;
} msrs[MSRS_MAX];
static u32 msr_count;
static struct machine environment_machine;

bool environment_newer_module, environment_checker_off;
u32 environment_caches_written_back;
u32 environment_interrupts_sent;
u32 environment_interrupt_target;
u8 environment_interrupt_vector;

void environment_msr_set(u32 index, u64 value)
{
    msrs[msr_count].index = index;
    msrs[msr_count++].value = value;
}

void environment_msrs_clear(void)
{
    msr_count = 0;
}

bool rdmsr_try(u32 index, u64 *value)
{
    for (u32 i = 0; i < msr_count; i++) {
        if (msrs[i].index == index) {
            *value = msrs[i].value;
            return true;
        }
    }
    return false;
}

void apic_send(u32 target_apic_id, u8 vector)
{
    environment_interrupts_sent++;
    environment_interrupt_target = target_apic_id;
    environment_interrupt_vector = vector;
}

hpa_t paging_annex_root(void)
{
    return hpa(0x1000);
}

void caches_write_back(void)
{
    environment_caches_written_back++;
}

void page_clear_direct(void *page)
{
    memset(page, 0, PAGE_BYTES);
}

void seamcall_hardware(void) {}

void environment_start(u32 cpus, u32 packages, const struct memory_range *ranges, u32 count)
{
    u64 end = 0;
    memset(&environment_machine, 0, sizeof environment_machine);
    for (u32 i = 0; i < count; i++) {
        environment_machine.ranges[i] = ranges[i];
        if (ranges[i].kind == MEMORY_FREE && ranges[i].end > end)
            end = ranges[i].end;
    }
    environment_machine.range_count = count;
    environment_machine.physical_address_bits = 46;
    environment_machine.tsc_hz = 100000000;
    environment_machine.config.checker = !environment_checker_off;
    environment_machine.config.newer_module = environment_newer_module;
    machine_set(&environment_machine);

    host_memory_create(end - HOST_MEMORY_START);
    host_cpu_count_set(cpus, packages);
    for (u32 i = 0; i < cpus; i++)
        cpu_at(i)->apic_id = 2 * i;
    host_cpu_set(0);
    host_log_clear();
    environment_msrs_clear();
    environment_caches_written_back = 0;
    environment_interrupts_sent = 0;
    seamcall_inject_clear();
    pages_reset_for_test();
    for (u32 i = 0; i < count; i++)
        if (ranges[i].kind == MEMORY_FREE && ranges[i].start >= MIB)
            pages_add_range(hpa(ranges[i].start), hpa(ranges[i].end));
}

void environment_stop(void)
{
    host_memory_destroy();
}

struct cpuid_values environment_cpuid_nothing(u32 leaf, u32 subleaf, struct cpuid_values mask)
{
    (void)leaf, (void)subleaf, (void)mask;
    return (struct cpuid_values){};
}
