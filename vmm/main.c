/* SPDX-License-Identifier: MIT */
/* The top floor's entry: what happens, in order. */
#include "boot/start.h"

#include "boot/cpu.h"
#include "boot/error.h"
#include "boot/log.h"
#include "boot/machine.h"
#include "boot/vmx.h"
#include "mm/pages.h"
#include "tdx/module.h"
#include "vmm/guests.h"
#include "vmm/measure.h"
#include "vmm/monitor.h"
#include "vmm/selftest.h"

#define STATUS_GOOD 0
#define STATUS_BAD 1

static void enable_vmx_here(void *argument)
{
    _Atomic u32 *failures = argument;
    if (vmx_enable())
        ++*failures;
}

static enum error enable_vmx(void)
{
    _Atomic u32 failures = 0;
    cpu_run_on_all(enable_vmx_here, (void *)&failures);
    if (failures == 0)
        return OK;
    log_line("tain: %u of %u processors cannot run guests", failures, cpu_count());
    return ERR_UNSUPPORTED;
}

/* Below 1 MiB firmware and trampolines have their habits: not worth the risk. */
static void add_memory(void)
{
    u64 total = 0;
    for (u32 i = 0; i < machine()->range_count; i++) {
        const struct memory_range *range = &machine()->ranges[i];
        u64 start = range->start < MIB ? MIB : range->start;
        if (range->kind != MEMORY_FREE || start >= range->end)
            continue;
        pages_add_range(hpa(start), hpa(range->end));
        total += range->end - start;
    }
    log_line("tain: %llu MiB of memory to give", (unsigned long long)(total / MIB));
}

static enum error add_injections(void)
{
    const struct config *config = &machine()->config;
    enum error e = OK;
    for (u32 i = 0; i < config->inject_count && !e; i++)
        e = seamcall_inject(&config->inject[i]);
    return e;
}

static enum error start(void)
{
    enum error e = selftest_check_name();
    if (!e)
        e = enable_vmx();
    if (e)
        return e;
    add_memory();
    seamcall_measure(measure_is_on());
    e = add_injections();
    if (!e)
        e = tdx_module_start();
    return e;
}

int vmm_main(void)
{
    const struct config *config = &machine()->config;
    log_line("tain: a VMM for Intel TDX; %u guest%s in tain.cfg", config->guest_count,
             config->guest_count == 1 ? "" : "s");
    enum error e = start();
    if (e) {
        log_line("tain: no guest was run: %s", error_name(e));
        return STATUS_BAD;
    }
    guests_init(config);
    monitor_run(config->in_turn);
    return guests_were_good() ? STATUS_GOOD : STATUS_BAD;
}
