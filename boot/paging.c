/* SPDX-License-Identifier: MIT */
#include "boot/paging.h"

#include <stdatomic.h>

#include "boot/arena.h"
#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/x86.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_UNCACHED (3ull << 3) /* PWT, PCD */
#define PTE_LARGE (1ull << 7)
/* Software bit (ignored by the processor): a page of ours that is hidden now. */
#define PTE_HIDDEN (1ull << 9)
#define PTE_ADDRESS 0x000ffffffffff000ull
#define DEVICE_WINDOW_END (4 * GIB)

#define CPUID_80000001_EDX_1G_PAGES (1u << 26)

enum map_use {
    MAP_VMM,   /* 4 KiB pages for free memory where strict */
    MAP_ANNEX, /* the largest pages that fit */
};

static hpa_t vmm_root, annex_root;
static bool strict;

static u64 map_end(const struct machine *machine)
{
    u64 end = machine->ranges[machine->range_count - 1].end;
    return align_up(end > DEVICE_WINDOW_END ? end : DEVICE_WINDOW_END, GIB);
}

/* What [start, start + bytes) is made of. */
struct region_look {
    bool has_memory, has_device, has_free;
};

static struct region_look region_look(const struct machine *machine, u64 start, u64 bytes)
{
    struct region_look look = {0};
    u64 memory_bytes = 0;
    for (u32 i = 0; i < machine->range_count; i++) {
        const struct memory_range *r = &machine->ranges[i];
        u64 from = r->start > start ? r->start : start;
        u64 to = r->end < start + bytes ? r->end : start + bytes;
        if (from >= to || r->kind == MEMORY_DEVICE)
            continue;
        memory_bytes += to - from;
        if (r->kind == MEMORY_FREE)
            look.has_free = true;
    }
    look.has_memory = memory_bytes != 0;
    look.has_device = memory_bytes != bytes;
    return look;
}

static u64 *table_below(u64 *entry)
{
    if (!(*entry & PTE_PRESENT))
        *entry = (u64)arena_pages(1) | PTE_PRESENT | PTE_WRITE;
    return (u64 *)(*entry & PTE_ADDRESS);
}

static u64 leaf_flags(struct region_look look)
{
    return PTE_PRESENT | PTE_WRITE | (look.has_memory ? 0 : PTE_UNCACHED);
}

static void map_2m(const struct machine *machine, u64 *entry, u64 address, enum map_use use)
{
    struct region_look look = region_look(machine, address, 2 * MIB);
    bool split = (look.has_memory && look.has_device) ||
                 (use == MAP_VMM && strict && look.has_free) || address == 0;
    if (!split) {
        *entry = address | leaf_flags(look) | PTE_LARGE;
        return;
    }
    u64 *table = table_below(entry);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        u64 page = address + i * PAGE_BYTES;
        if (page != 0) /* a null pointer faults */
            table[i] = page | leaf_flags(region_look(machine, page, PAGE_BYTES));
    }
}

static void map_1g(const struct machine *machine, u64 *entry, u64 address, enum map_use use)
{
    struct region_look look = region_look(machine, address, GIB);
    bool can_1g = (cpuid(0x80000001, 0).edx & CPUID_80000001_EDX_1G_PAGES) != 0;
    bool split = (look.has_memory && look.has_device) || !can_1g ||
                 (use == MAP_VMM && strict && look.has_free) || address == 0;
    if (!split) {
        *entry = address | leaf_flags(look) | PTE_LARGE;
        return;
    }
    u64 *table = table_below(entry);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        map_2m(machine, &table[i], address + i * 2 * MIB, use);
}

static hpa_t map_build(const struct machine *machine, enum map_use use)
{
    u64 *root = arena_pages(1);
    for (u64 address = 0; address < map_end(machine); address += GIB) {
        u64 *directory = table_below(&root[level_index(gfn(address >> PAGE_SHIFT), LEVEL_512G)]);
        map_1g(machine, &directory[level_index(gfn(address >> PAGE_SHIFT), LEVEL_1G)], address,
               use);
    }
    return hpa((u64)root);
}

u64 paging_pages_needed(const struct machine *machine)
{
    u64 end = map_end(machine);
    u64 one_map = 1 + end / (512 * GIB) + 1 + end / GIB + 2ull * machine->range_count + 2;
    u64 small_pages = 0;
    if (machine->config.strict)
        for (u32 i = 0; i < machine->range_count; i++)
            if (machine->ranges[i].kind == MEMORY_FREE)
                small_pages += (machine->ranges[i].end - machine->ranges[i].start) / (2 * MIB) + 2;
    return 2 * one_map + small_pages;
}

void paging_build(const struct machine *machine)
{
    strict = machine->config.strict;
    vmm_root = map_build(machine, MAP_VMM);
    annex_root = map_build(machine, MAP_ANNEX);
}

hpa_t paging_vmm_root(void)
{
    return vmm_root;
}
hpa_t paging_annex_root(void)
{
    return annex_root;
}
bool paging_is_strict(void)
{
    return strict;
}

/* The 4 KiB entry of a page in the VMM's map, or null. */
static _Atomic u64 *page_entry(hpa_t page)
{
    u64 *table = (u64 *)vmm_root.raw;
    for (enum level level = LEVEL_512G; level > LEVEL_4K; level--) {
        u64 entry = table[level_index(gfn(page.raw >> PAGE_SHIFT), level)];
        if (!(entry & PTE_PRESENT) || (entry & PTE_LARGE))
            return NULL;
        table = (u64 *)(entry & PTE_ADDRESS);
    }
    return (_Atomic u64 *)&table[level_index(gfn(page.raw >> PAGE_SHIFT), LEVEL_4K)];
}

void paging_hide_page(hpa_t page)
{
    if (!strict)
        return;
    _Atomic u64 *entry = page_entry(page);
    ASSERT(entry && (*entry & PTE_PRESENT));
    atomic_store(entry, (*entry & ~PTE_PRESENT) | PTE_HIDDEN);
    invlpg((void *)page.raw);
}

void paging_show_page(hpa_t page)
{
    if (!strict)
        return;
    _Atomic u64 *entry = page_entry(page);
    ASSERT(entry && (*entry & PTE_HIDDEN));
    atomic_store(entry, (*entry & ~PTE_HIDDEN) | PTE_PRESENT);
}

bool paging_page_is_hidden(hpa_t page)
{
    if (!strict)
        return false;
    _Atomic u64 *entry = page_entry(page);
    return entry && (*entry & PTE_HIDDEN);
}

/* Identity on the machine (boot/phys.h). */
void *phys_to_virt(hpa_t address)
{
    return (void *)address.raw;
}
hpa_t virt_to_phys(const void *pointer)
{
    return hpa((u64)pointer);
}
