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
/* The same, of a hidden entry of 2 MiB whose table is being filled. */
#define PTE_FILLING (1ull << 10)
#define PTE_ADDRESS 0x000ffffffffff000ull
#define DEVICE_WINDOW_END (4 * GIB)

#define CPUID_80000001_EDX_1G_PAGES (1u << 26)

enum map_use {
    MAP_VMM,   /* 2 MiB pages that can be split for free memory, where strict */
    MAP_ANNEX, /* the largest pages that fit */
};

/*
 * Splits. Where strict, each directory (of 2 MiB entries) is followed by a page with the address
 * of a table for each entry that is free memory, made at boot. An entry of the directory is one of
 *
 *   large:         all of it is visible; the table set aside maps all of it, too
 *   hidden large:  all of it is hidden; whatever the table holds
 *   filling:       hidden large, and somebody is hiding all of the table
 *   table:         each page by itself
 *
 * A page has one owner, but the entry of a region is shared by the owners of its pages. They only
 * ever turn a large entry into a table, by compare-exchange: from `large` by whoever is first, as
 * the table is right already; from `hidden large` by who won `filling`, while others wait. The
 * other way, to a large entry, goes only who owns all the region.
 */
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

static u64 *table_below(u64 *entry, u64 pages)
{
    if (!(*entry & PTE_PRESENT))
        *entry = (u64)arena_pages(pages) | PTE_PRESENT | PTE_WRITE;
    return (u64 *)(*entry & PTE_ADDRESS);
}

/* Where the table for splitting a directory's entry is remembered. */
static u64 *split_table(u64 *entry)
{
    return entry + TABLE_ENTRIES;
}

static u64 leaf_flags(struct region_look look)
{
    return PTE_PRESENT | PTE_WRITE | (look.has_memory ? 0 : PTE_UNCACHED);
}

static void map_2m(const struct machine *machine, u64 *entry, u64 address, enum map_use use)
{
    struct region_look look = region_look(machine, address, 2 * MIB);
    bool split = (look.has_memory && look.has_device) || address == 0;
    bool can_split = use == MAP_VMM && strict && look.has_free;
    if (!split && !can_split) {
        *entry = address | leaf_flags(look) | PTE_LARGE;
        return;
    }
    u64 *table = arena_pages(1);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        u64 page = address + i * PAGE_BYTES;
        if (page != 0) /* a null pointer faults */
            table[i] = page | leaf_flags(region_look(machine, page, PAGE_BYTES));
    }
    if (split) {
        *entry = (u64)table | PTE_PRESENT | PTE_WRITE;
        return;
    }
    *split_table(entry) = (u64)table;
    *entry = address | leaf_flags(look) | PTE_LARGE;
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
    u64 *table = table_below(entry, use == MAP_VMM && strict ? 2 : 1);
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        map_2m(machine, &table[i], address + i * 2 * MIB, use);
}

static hpa_t map_build(const struct machine *machine, enum map_use use)
{
    u64 *root = arena_pages(1);
    for (u64 address = 0; address < map_end(machine); address += GIB) {
        u64 *directory = table_below(&root[level_index(gfn(address >> PAGE_SHIFT), LEVEL_512G)], 1);
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
    if (machine->config.strict) {
        small_pages = end / GIB + 1;
        for (u32 i = 0; i < machine->range_count; i++)
            if (machine->ranges[i].kind == MEMORY_FREE)
                small_pages += (machine->ranges[i].end - machine->ranges[i].start) / (2 * MIB) + 2;
    }
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

/* The entry of 2 MiB in the VMM's map that decides about a page; null: it is no such memory. */
static _Atomic u64 *directory_entry(hpa_t page)
{
    gfn_t frame = gfn(page.raw >> PAGE_SHIFT);
    u64 *table = phys_to_virt(vmm_root);
    for (enum level level = LEVEL_512G; level > LEVEL_2M; level--) {
        u64 entry = table[level_index(frame, level)];
        if (!(entry & PTE_PRESENT) || (entry & PTE_LARGE))
            return NULL;
        table = phys_to_virt(hpa(entry & PTE_ADDRESS));
    }
    return (_Atomic u64 *)&table[level_index(frame, LEVEL_2M)];
}

static _Atomic u64 *table_of(u64 entry)
{
    return phys_to_virt(hpa(entry & PTE_ADDRESS));
}

static void table_fill(_Atomic u64 *table, u64 set, u64 clear)
{
    for (u32 i = 0; i < TABLE_ENTRIES; i++)
        atomic_store_explicit(&table[i], (table[i] & ~clear) | set, memory_order_relaxed);
}

/* Splits the entry if it is not, and returns the table; null: it cannot be split. */
static _Atomic u64 *directory_split(_Atomic u64 *directory)
{
    u64 aside = *split_table((u64 *)directory);
    u64 split = aside | PTE_PRESENT | PTE_WRITE;
    for (;;) {
        u64 entry = atomic_load(directory);
        if (!(entry & PTE_LARGE))
            return entry & PTE_PRESENT ? table_of(entry) : NULL;
        if (!aside)
            return NULL;
        if (entry & PTE_PRESENT) {
            (void)atomic_compare_exchange_strong(directory, &entry, split);
        } else if (!(entry & PTE_FILLING) &&
                   atomic_compare_exchange_strong(directory, &entry, entry | PTE_FILLING)) {
            table_fill(table_of(aside), PTE_HIDDEN, PTE_PRESENT);
            atomic_store(directory, split);
        }
    }
}

static _Atomic u64 *page_entry(hpa_t page)
{
    _Atomic u64 *directory = directory_entry(page);
    _Atomic u64 *table = directory ? directory_split(directory) : NULL;
    ASSERT(table);
    return &table[level_index(gfn(page.raw >> PAGE_SHIFT), LEVEL_4K)];
}

static void region_hide(hpa_t region)
{
    _Atomic u64 *directory = directory_entry(region);
    ASSERT(directory && *split_table((u64 *)directory) && (*directory & PTE_PRESENT));
    atomic_store(directory, region.raw | PTE_WRITE | PTE_LARGE | PTE_HIDDEN);
    invlpg((void *)region.raw);
}

static void region_show(hpa_t region)
{
    _Atomic u64 *directory = directory_entry(region);
    ASSERT(directory && *split_table((u64 *)directory));
    /* Joined since: its pages were hidden one by one. */
    if (!(*directory & PTE_LARGE))
        table_fill(table_of(*directory), PTE_PRESENT, PTE_HIDDEN);
    else
        ASSERT(*directory & PTE_HIDDEN);
    atomic_store(directory, region.raw | PTE_PRESENT | PTE_WRITE | PTE_LARGE);
}

static void page_hide(hpa_t page)
{
    _Atomic u64 *entry = page_entry(page);
    ASSERT(*entry & PTE_PRESENT);
    atomic_store(entry, (*entry & ~PTE_PRESENT) | PTE_HIDDEN);
    invlpg((void *)page.raw);
}

static void page_show(hpa_t page)
{
    _Atomic u64 *entry = page_entry(page);
    ASSERT(*entry & PTE_HIDDEN);
    atomic_store(entry, (*entry & ~PTE_HIDDEN) | PTE_PRESENT);
}

static void each_part(hpa_t page, enum level level, void (*small)(hpa_t page),
                      void (*large)(hpa_t region))
{
    if (!strict)
        return;
    if (level == LEVEL_4K)
        small(page);
    else
        for (u64 at = 0; at < level_bytes(level); at += 2 * MIB)
            large(hpa(page.raw + at));
}

void paging_hide_page(hpa_t page, enum level level)
{
    each_part(page, level, page_hide, region_hide);
}

void paging_show_page(hpa_t page, enum level level)
{
    each_part(page, level, page_show, region_show);
}

bool paging_page_is_hidden(hpa_t page)
{
    _Atomic u64 *directory = strict ? directory_entry(page) : NULL;
    u64 entry = directory ? atomic_load(directory) : 0;
    if ((entry & PTE_PRESENT) && !(entry & PTE_LARGE))
        entry = table_of(entry)[level_index(gfn(page.raw >> PAGE_SHIFT), LEVEL_4K)];
    return (entry & PTE_HIDDEN) != 0;
}
