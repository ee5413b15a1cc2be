/* SPDX-License-Identifier: MIT */
#include "vmm/summary.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "tdx/pamt.h"
#include "vmm/run.h"
#include "vmm/vmcall.h"
#include "vmm/vmx_vm.h"

typedef unsigned long long number; /* what %llu takes */

static void collect_vm(struct vm_result *result, const struct vm *vm)
{
    result->vmx_pages = vmx_vm_pages(vm);
    for (enum level level = LEVEL_4K; level < EPT_LEAF_LEVELS; level++)
        result->leaves[level] = vm->direct.leaves[level];
    result->tables = vm->direct.tables;
    for (u32 v = 0; v < vm->vcpu_count; v++) {
        for (u32 i = 0; i < EXIT_REASON_LIMIT; i++)
            result->vmx_exits[i] += vm->vcpus[v]->vmx.exits[i];
        result->msrs_refused += vm->vcpus[v]->msrs_refused;
    }
}

void summary_collect(struct vm_result *result, struct vm *vm)
{
    result->end = vm->end;
    if (!vm_is_td(vm)) {
        collect_vm(result, vm);
        return;
    }
    result->private_pages = mirror_private_pages(&vm->td.mirror);
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS; level++)
        result->leaves[level] = vm->td.mirror.stats.leaves[level];
    result->tables = vm->td.mirror.stats.tables;
    result->shared_pages = vm->memory.shared_now;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        const struct vcpu *vcpu = vm->vcpus[i];
        for (u32 k = 0; k < TD_EXIT_KINDS; k++)
            result->exits[k] += vcpu->exits[k];
        for (u32 k = 0; k < VMCALL_ROWS; k++)
            result->vmcalls[k] += vcpu->vmcalls[k];
        result->msrs_refused += vcpu->msrs_refused;
        struct caches_stats caches = vcpu_caches_statistics(&vcpu->caches);
        result->caches.pages += caches.pages;
        result->caches.refills += caches.refills;
    }
}

static u64 pages_leaked(const struct vm *vm)
{
    return vm->td.mirror.stats.external_leaked + vm->td.mirror.stats.private_leaked;
}

bool vm_result_is_good(const struct vm *vm, const struct vm_result *result)
{
    return vm_end_is_clean(result->end) && !result->audit && !result->destroyed &&
           pages_leaked(vm) == 0;
}

static void print_time(const struct vm *vm)
{
    u64 ticks = vm->end_tsc - vm->start_tsc;
    u64 hz = machine()->tsc_hz;
    u64 ms = hz >= 1000 ? ticks / (hz / 1000) : 0;
    log_line("summary: ran %llu.%03llu s, %llu ticks", (number)(ms / 1000), (number)(ms % 1000),
             (number)ticks);
}

/* result->leaves, as the mirror's are gone by now. */
static void print_sizes(const struct vm *vm, const struct vm_result *result)
{
    const struct mirror_stats *mirror = &vm->td.mirror.stats;
    log_line(
        "summary: leaves at the end: %llu of 4 KiB, %llu of 2 MiB, %llu of 1 GiB; %llu tables; "
        "%llu demoted, %llu promoted, %llu tables unlinked; %llu tracks",
        (number)result->leaves[LEVEL_4K], (number)result->leaves[LEVEL_2M],
        (number)result->leaves[LEVEL_1G], (number)result->tables, (number)mirror->demoted,
        (number)mirror->promoted, (number)mirror->unlinked, (number)mirror->tracks);
    log_line("summary: changes that met another: %llu races lost, %llu busy",
             (number)mirror->races_lost, (number)mirror->busy);
}

static void print_memory(const struct vm *vm, const struct vm_result *result)
{
    const struct guest_memory *memory = &vm->memory;
    const struct mirror_stats *mirror = &vm->td.mirror.stats;
    u64 most =
        memory->private_most > result->private_pages ? memory->private_most : result->private_pages;
    log_line("summary: private pages: %llu at the end, %llu at most; %llu measured, %llu mapped "
             "by faults",
             (number)result->private_pages, (number)most, (number)vm->initial_pages,
             (number)memory->faulted);
    log_line(
        "summary: private pages at the end, as the module has them: %llu accepted or measured, "
        "%llu pending",
        (number)mirror->audited_mapped, (number)mirror->audited_pending);
    print_sizes(vm, result);
    log_line("summary: caches: %llu refills, %llu pages in them at the end",
             (number)result->caches.refills, (number)result->caches.pages);
    log_line("summary: accepts of 2 MiB: %llu asked for, %llu mapped by one page",
             (number)memory->large_wanted, (number)memory->large_mapped);
    log_line("summary: shared pages: %llu at the end, %llu at most", (number)result->shared_pages,
             (number)memory->shared_most);
    log_line("summary: external pages: %llu taken, %llu returned, %llu leaked; private pages "
             "leaked: %llu",
             (number)mirror->external_taken, (number)mirror->external_returned,
             (number)mirror->external_leaked, (number)mirror->private_leaked);
}

static void print_pamt(void)
{
    struct pamt_stats pamt;
    pamt_statistics(&pamt);
    if (pamt_is_dynamic())
        log_line("summary: PAMT pairs: %llu added, %llu removed, %llu now; pages lost: %llu",
                 (number)pamt.pairs_added, (number)pamt.pairs_removed, (number)pamt.pairs_now,
                 (number)pamt.pages_lost);
}

static void print_exits(const struct vm_result *result)
{
    for (u32 i = 0; i < TD_EXIT_KINDS; i++) {
        if (result->exits[i])
            log_line("summary: exits: %s: %llu", td_exit_kind_name(i), (number)result->exits[i]);
    }
    for (u32 i = 0; i < VMCALL_ROWS; i++) {
        if (result->vmcalls[i])
            log_line("summary: TDVMCALL %s: %llu", vmcall_name(i), (number)result->vmcalls[i]);
    }
    if (result->msrs_refused)
        log_line("summary: MSR accesses refused: %llu", (number)result->msrs_refused);
}

static void print_seamcalls(void)
{
    const struct seamcall_count *counts = seamcall_counts();
    for (u32 i = 0; i < TDH_LEAF_LIMIT; i++) {
        if (counts[i].calls)
            log_line("summary: SEAMCALL %s: %llu, failed %llu (busy %llu)", tdh_leaf_name(i),
                     (number)counts[i].calls, (number)counts[i].failures, (number)counts[i].busy);
    }
}

static void print_broken_rules(void)
{
    struct broken_rules broken;
    if (!tdx_broken_rules(&broken))
        return;
    log_line("summary: checker: rules broken %llu times", (number)broken.sum);
    for (u32 i = 0; i < SOFT_RULES; i++)
        if (broken.counts[i])
            log_line("summary: checker: %s: %llu", tdx_rule_name(i), (number)broken.counts[i]);
}

static void print_measurement(const struct vm *vm)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * TD_MEASUREMENT_BYTES + 1];
    for (u32 i = 0; i < TD_MEASUREMENT_BYTES; i++) {
        text[2 * i] = digits[vm->mrtd[i] >> 4];
        text[2 * i + 1] = digits[vm->mrtd[i] & 15];
    }
    text[2 * TD_MEASUREMENT_BYTES] = 0;
    log_line("summary: MRTD %s", text);
}

/* The reason, whatever else was said: what a reader of the last line alone must know. */
static void print_last_line(const struct vm *vm, const struct vm_result *result)
{
    const char *name = vm->config->name, *text = vm_end_text(result->end);
    if (result->audit)
        log_line("tain: guest %s ended: %s; the audit failed: %s", name, text,
                 result->audit_message);
    else if (pages_leaked(vm))
        log_line("tain: guest %s ended: %s; %llu pages were leaked", name, text,
                 (number)pages_leaked(vm));
    else if (result->destroyed)
        log_line("tain: guest %s ended: %s; the teardown failed: %s", name, text,
                 error_name(result->destroyed));
    else
        log_line("tain: guest %s ended: %s", name, text);
}

static void print_vm(const struct vm *vm, const struct vm_result *result)
{
    log_line("summary: pages: %llu at the end; %llu copied, %llu mapped by faults",
             (number)result->vmx_pages, (number)vm->initial_pages, (number)vm->memory.faulted);
    log_line("summary: leaves at the end: %llu of 4 KiB, %llu of 2 MiB, %llu of 1 GiB; %llu EPT "
             "tables",
             (number)result->leaves[LEVEL_4K], (number)result->leaves[LEVEL_2M],
             (number)result->leaves[LEVEL_1G], (number)result->tables);
    for (u32 i = 0; i < EXIT_REASON_LIMIT; i++) {
        if (result->vmx_exits[i])
            log_line("summary: exits: %s: %llu", exit_reason_name(i), (number)result->vmx_exits[i]);
    }
    if (result->msrs_refused)
        log_line("summary: MSR accesses refused: %llu", (number)result->msrs_refused);
    log_line("summary: audit: %s", result->audit ? "not all pages are where they were mapped"
                                                 : "every page is mapped once");
}

static void print_td(const struct vm *vm, const struct vm_result *result)
{
    print_memory(vm, result);
    print_pamt();
    print_exits(result);
    print_broken_rules();
    print_seamcalls();
    print_measurement(vm);
    log_line("summary: audit: %s",
             result->audit ? result->audit_message : "mirror and external table agree");
}

void summary_print(const struct vm *vm, const struct vm_result *result)
{
    print_time(vm);
    if (vm_is_td(vm))
        print_td(vm, result);
    else
        print_vm(vm, result);
    log_line("summary: teardown: %s",
             result->destroyed ? error_name(result->destroyed) : "complete");
    print_last_line(vm, result);
}
