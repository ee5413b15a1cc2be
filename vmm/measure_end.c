/* SPDX-License-Identifier: MIT */
/* A guest's end, measured: memory of its tables, and its teardown in either order. */
#include "boot/log.h"
#include "boot/x86.h"
#include "vmm/layout.h"
#include "vmm/measure.h"
#include "vmm/vm.h"

typedef unsigned long long number; /* what %llu takes */

/* Pages of that owner in the tables, without those that wait in the caches. */
static u64 table_pages(struct vm *vm, enum page_owner owner)
{
    struct pages_stats stats;
    pages_statistics(&stats);
    u64 cached = 0;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        const struct vcpu_caches *caches = &vm->vcpus[i]->caches;
        cached += owner == PAGE_MIRROR_TABLE ? caches->mirror_tables.count
                  : owner == PAGE_EXTERNAL   ? caches->external_tables.count
                                             : caches->direct_tables.count;
    }
    return stats.pages[owner] - cached;
}

static void tables_print(struct vm *vm)
{
    u64 mirror = table_pages(vm, PAGE_MIRROR_TABLE), external = table_pages(vm, PAGE_EXTERNAL);
    u64 direct = table_pages(vm, PAGE_DIRECT_TABLE);
    u64 private = mirror_private_pages(&vm->td.mirror);
    if (private == 0)
        return;
    log_line("bench: tables: %llu KiB per GiB; pages: %llu mirror, %llu external, %llu direct, "
             "%llu private, of 4 KiB %llu",
             (number)((mirror + external + direct) * (GIB / KIB) / private), (number)mirror,
             (number)external, (number)direct, (number) private,
             (number)vm->td.mirror.stats.leaves[LEVEL_4K]);
}

struct span {
    u64 ticks, module_ticks; /* the module's are in both */
};

static struct span now(void)
{
    return (struct span){.ticks = tsc_read(), .module_ticks = seamcall_clock()->module_ticks};
}

static void span_add(struct span *sum, struct span start)
{
    struct span end = now();
    sum->ticks += end.ticks - start.ticks;
    sum->module_ticks += end.module_ticks - start.module_ticks;
}

/* Looking for the pages is not part of their removal. */
static enum error pages_remove(struct vm *vm, gfn_t start, gfn_t end, struct span *sum)
{
    struct mirror *mirror = &vm->td.mirror;
    enum error e = OK;
    for (gfn_t frame = start; frame.raw < end.raw && !e; frame.raw++) {
        gfn_t done;
        if (hpa_is_none(mirror_lookup(mirror, frame, NULL)))
            continue;
        struct span begin = now();
        e = mirror_remove_range(mirror, &vm->vcpus[0]->caches, frame, gfn(frame.raw + 1), &done);
        span_add(sum, begin);
    }
    return e;
}

enum error measure_destroy(struct vm *vm)
{
    u64 pages = mirror_private_pages(&vm->td.mirror);
    struct span sum = {0};
    const char *name = vm->teardown_by_page ? "teardown_by_page" : "teardown_key_first";
    tables_print(vm);
    enum error e = OK;
    if (vm->teardown_by_page)
        e = pages_remove(vm, gfn(0), gfn(vm->memory.frames), &sum);
    if (vm->teardown_by_page && !e)
        e = pages_remove(vm, gpa_to_gfn(gpa(LAYOUT_FIRMWARE)), gpa_to_gfn(gpa(LAYOUT_FIRMWARE_END)),
                         &sum);
    if (e)
        log_line("bench: %s: a page was not removed: %s", name, error_name(e));
    struct span begin = now();
    enum error destroyed = vm_destroy(vm);
    span_add(&sum, begin);
    if (pages == 0)
        return destroyed;
    number vmm = (sum.ticks - sum.module_ticks) / pages, module = sum.module_ticks / pages;
    measure_print(name, (struct measure_spread){vmm, vmm, vmm},
                  (struct measure_spread){module, module, module}, 1);
    return destroyed ? destroyed : e;
}
