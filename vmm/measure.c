/* SPDX-License-Identifier: MIT */
#include "vmm/measure.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "vmm/monitor.h"
#include "vmm/vm.h"

#define SAMPLES_MAX 2048
/* The console is not looked at while a series is open: its time would be in the samples. */
#define POLL_NEVER (~0ull >> 1)

struct measure_series {
    enum measure_series_id id;
    u32 count;
    bool is_full;
    bool in_exit;
    enum measure_exit exit; /* the one that is being served */
    u64 begin_tsc, begin_module_ticks;
    u64 vmm[SAMPLES_MAX], module[SAMPLES_MAX];
};
#define SERIES_PAGES (align_up(sizeof(struct measure_series), PAGE_BYTES) / PAGE_BYTES)

static const struct {
    const char *name;
    enum measure_exit exit;
    u32 divisor;
} rows[] = {
#define SERIES(name_, exit_, divisor_) {#name_, MEASURE_##exit_, divisor_},
#include "vmm/series.def"
#undef SERIES
};
_Static_assert(ARRAY_LENGTH(rows) == SERIES_IDS, "one row a series");

bool measure_is_on(void)
{
    return strcmp(machine()->config.test, TEST_MEASURE) == 0;
}

static void poll_at(struct vm *vm, u64 tsc)
{
    monitor_poll_at(tsc);
    vm->scan_tsc = tsc;
}

enum error measure_series_open(struct vcpu *vcpu, enum measure_series_id id)
{
    hpa_t pages;
    enum error e = pages_allocate(PAGE_VMM, SERIES_PAGES, 1, &pages);
    if (e)
        return e;
    struct measure_series *series = phys_to_virt(pages);
    series->id = id;
    series->count = 0;
    series->is_full = series->in_exit = false;
    vcpu->series = series;
    poll_at(vcpu->vm, POLL_NEVER);
    return OK;
}

void measure_series_free(struct vcpu *vcpu)
{
    if (!vcpu->series)
        return;
    pages_free(virt_to_phys(vcpu->series), SERIES_PAGES);
    vcpu->series = NULL;
    poll_at(vcpu->vm, tsc_read());
}

/* Shell's: short, without recursion, and fast enough for some thousands. */
static void sort(u64 *values, u32 count)
{
    for (u32 gap = count / 2; gap > 0; gap /= 2)
        for (u32 i = gap; i < count; i++) {
            u64 value = values[i];
            u32 at = i;
            for (; at >= gap && values[at - gap] > value; at -= gap)
                values[at] = values[at - gap];
            values[at] = value;
        }
}

/* Sorts the samples. */
static struct measure_spread spread_of(u64 *values, u32 count, u32 divisor)
{
    sort(values, count);
    return (struct measure_spread){
        .min = values[0] / divisor,
        .median = values[count / 2] / divisor,
        .p99 = values[(u64)count * 99 / 100] / divisor,
    };
}

void measure_print(const char *name, struct measure_spread vmm, struct measure_spread module,
                   u32 count)
{
    log_line("bench: %s: vmm min %llu median %llu p99 %llu n %u; module min %llu median %llu p99 "
             "%llu",
             name, vmm.min, vmm.median, vmm.p99, count, module.min, module.median, module.p99);
}

void measure_series_print(struct vcpu *vcpu)
{
    struct measure_series *series = vcpu->series;
    const char *name = rows[series->id].name;
    if (series->is_full)
        log_line("bench: %s: more than %u samples; the rest is not counted", name, SAMPLES_MAX);
    if (series->count == 0) {
        log_line("bench: %s: no sample", name);
        return;
    }
    u32 divisor = rows[series->id].divisor;
    measure_print(name, spread_of(series->vmm, series->count, divisor),
                  spread_of(series->module, series->count, divisor), series->count);
}

/* The sample of an exit that ended at `end_tsc`. */
static void series_add(struct measure_series *series, u64 end_tsc, u64 module_ticks,
                       enum measure_exit exit)
{
    if (exit != rows[series->id].exit)
        return;
    if (series->count == SAMPLES_MAX) {
        series->is_full = true;
        return;
    }
    u64 module = module_ticks - series->begin_module_ticks;
    series->vmm[series->count] = end_tsc - series->begin_tsc - module;
    series->module[series->count++] = module;
}

/*
 * The guest was entered at `enter_tsc` and came back at `return_tsc`; what we did since
 * `called_tsc` is no part of the sample that begins.
 */
static inline void take_exit(struct measure_series *series, enum measure_exit exit, u64 enter_tsc,
                             u64 return_tsc, u64 module_ticks, u64 called_tsc)
{
    if (series->in_exit)
        series_add(series, enter_tsc, module_ticks, series->exit);
    series->in_exit = true;
    series->exit = exit;
    series->begin_module_ticks = module_ticks;
    series->begin_tsc = return_tsc + (tsc_read() - called_tsc);
}

/* What it still has to do after the last look at the TSC is counted: as little as can be. */
__attribute__((noinline)) static void td_exit_note(struct measure_series *series,
                                                   const struct td_exit *exit, u64 called_tsc,
                                                   const struct seamcall_clock *clock)
{
    if (exit->kind == TD_EXIT_RETRY) /* nothing was entered */
        return;
    enum measure_exit kind = exit->kind == TD_EXIT_VMCALL          ? MEASURE_CALL
                             : exit->kind == TD_EXIT_EPT_VIOLATION ? MEASURE_FAULT
                                                                   : MEASURE_OTHER;
    take_exit(series, kind, clock->enter_tsc, clock->return_tsc, clock->module_ticks, called_tsc);
}

void measure_td_exit(struct vcpu *vcpu, const struct td_exit *exit, u64 called_tsc)
{
    td_exit_note(vcpu->series, exit, called_tsc, seamcall_clock());
}

void measure_vm_exit(struct vcpu *vcpu, u64 reason, u64 called_tsc)
{
    enum measure_exit kind = reason == EXIT_CPUID           ? MEASURE_CALL
                             : reason == EXIT_EPT_VIOLATION ? MEASURE_FAULT
                                                            : MEASURE_OTHER;
    take_exit(vcpu->series, kind, vcpu->vmx.enter_tsc, vcpu->vmx.return_tsc,
              seamcall_clock()->module_ticks, called_tsc);
}
