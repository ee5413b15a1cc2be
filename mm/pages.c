/* SPDX-License-Identifier: MIT */
/*
 * Each range ("zone") begins with its own bookkeeping:
 *
 *   first                                                             first + count
 *   | owner of each page | partner of each page | free map | pages to give |
 *     u8                   hpa_t                  mm/free_map.h
 *
 * None of it lies in the pages given out: the VMM may be unable to see them. Pages are numbered
 * from `base`, the zone's start aligned down to 2 MiB; numbers below `first` are never free.
 */
#include "mm/pages.h"

#include "boot/assert.h"
#include "boot/lock.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "mm/free_map.h"

#define ZONES_MAX 512
#define BLOCK_BYTES (BLOCK_PAGES * PAGE_BYTES)
#define OWNER_WORDS (BLOCK_PAGES / sizeof(u64))

struct zone {
    hpa_t base, first;
    u64 count; /* of pages, from `first` on */
    u64 free_pages;
    u8 *owners;
    hpa_t *partners;
    struct free_map free;
};

static struct lock pages_lock = LOCK_INIT(RANK_PAGES, "pages");
/* Constant once the ranges are added, but for free_pages. In ascending order. */
static struct zone zones[ZONES_MAX];
static u32 zone_count;
static u32 zone_hint; /* no zone below has a free page */
static struct pages_stats stats;

static const char *const owner_names[PAGE_OWNER_KINDS] = {
    [PAGE_FREE] = "free",
    [PAGE_VMM] = "VMM",
    [PAGE_PAMT] = "PAMT",
    [PAGE_TD_CONTROL] = "TD control",
    [PAGE_EXTERNAL] = "external table",
    [PAGE_PRIVATE] = "private",
    [PAGE_MIRROR_TABLE] = "mirror table",
    [PAGE_DIRECT_TABLE] = "direct table",
    [PAGE_SHARED] = "shared",
    [PAGE_LEAKED] = "leaked",
};

const char *page_owner_name(enum page_owner owner)
{
    return owner < PAGE_OWNER_KINDS ? owner_names[owner] : "?";
}

static hpa_t page_at(const struct zone *zone, u64 index)
{
    return hpa(zone->base.raw + index * PAGE_BYTES);
}

static u64 index_of(const struct zone *zone, hpa_t page)
{
    return (page.raw - zone->base.raw) / PAGE_BYTES;
}

static u64 index_end(const struct zone *zone)
{
    return index_of(zone, zone->first) + zone->count;
}

static struct zone *zone_of(hpa_t page)
{
    u32 low = 0, high = zone_count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        struct zone *zone = &zones[middle];
        if (page.raw < zone->first.raw)
            high = middle;
        else if (page.raw - zone->first.raw >= zone->count * PAGE_BYTES)
            low = middle + 1;
        else
            return zone;
    }
    panic("pages: 0x%llx is not the allocator's", (unsigned long long)page.raw);
}

static void count_move(enum page_owner from, enum page_owner to, u64 pages)
{
    stats.pages[from] -= pages;
    stats.pages[to] += pages;
}

/* Under the lock: the page leaves the free ones. */
static hpa_t page_claim(struct zone *zone, u64 index, enum page_owner owner)
{
    ASSERT(zone->owners[index] == PAGE_FREE);
    zone->owners[index] = (u8)owner;
    zone->partners[index] = HPA_NONE;
    free_map_clear(&zone->free, index);
    zone->free_pages--;
    count_move(PAGE_FREE, owner, 1);
    return page_at(zone, index);
}

/* Under the lock: pages of the zone are free again. */
static void zone_note_free(struct zone *zone, u64 pages)
{
    zone->free_pages += pages;
    u32 number = (u32)(zone - zones);
    if (number < zone_hint)
        zone_hint = number;
}

/* An owner eight times over: so many pages' are looked at, and written, at once. */
static u64 owner_pattern(enum page_owner owner)
{
    return owner * 0x0101010101010101ull;
}

/* How many of [index, index + count) are of the first one's owner, up to another's. */
static u64 owner_run(const struct zone *zone, u64 index, u64 count)
{
    const u8 *owners = zone->owners;
    u64 pattern = owner_pattern(owners[index]);
    u64 at = index, end = index + count, words_end = align_down(end, sizeof(u64));
    while (at < end && owners[at] == (u8)pattern) {
        at++;
        if (at % sizeof(u64) == 0)
            while (at < words_end && *(const u64 *)&owners[at] == pattern)
                at += sizeof(u64);
    }
    return at - index;
}

static void owners_set(const struct zone *zone, u64 index, u64 count, enum page_owner owner)
{
    u8 *owners = zone->owners;
    u64 pattern = owner_pattern(owner);
    u64 at = index, end = index + count, words_end = align_down(end, sizeof(u64));
    while (at < end) {
        owners[at++] = (u8)owner;
        if (at % sizeof(u64) == 0)
            for (; at < words_end; at += sizeof(u64))
                *(u64 *)&owners[at] = pattern;
    }
}

/* Under the lock: pages of one owner are free again. */
static void run_release(struct zone *zone, u64 index, u64 count)
{
    enum page_owner owner = zone->owners[index];
    if (owner == PAGE_FREE)
        panic("pages: 0x%llx is freed twice", (unsigned long long)page_at(zone, index).raw);
    ASSERT(owner != PAGE_LEAKED);
    count_move(owner, PAGE_FREE, count);
    owners_set(zone, index, count, PAGE_FREE);
    free_map_set(&zone->free, index, count);
    zone_note_free(zone, count);
}

/* Lays the bookkeeping out and returns how many pages it takes; `zone` null: only that. */
static u64 zone_lay_out(struct zone *zone, hpa_t first, u64 count)
{
    u64 base = align_down(first.raw, BLOCK_BYTES);
    u64 pages = align_up(first.raw + count * PAGE_BYTES - base, BLOCK_BYTES) / PAGE_BYTES;
    u64 partners = pages, map = partners + pages * sizeof(hpa_t);
    u64 bytes = map + free_map_bytes(pages / BLOCK_PAGES);
    u64 taken = align_up(bytes, PAGE_BYTES) / PAGE_BYTES;
    if (!zone || taken >= count)
        return taken;
    u8 *memory = phys_to_virt(first);
    memset(memory, 0, taken * PAGE_BYTES);
    *zone = (struct zone){.base = hpa(base), .first = first, .count = count};
    zone->owners = memory;
    zone->partners = (hpa_t *)(memory + partners);
    free_map_init(&zone->free, pages / BLOCK_PAGES, memory + map);
    return taken;
}

/* All pages free but the first `taken`. The partners need no value yet. */
static void zone_fill(struct zone *zone, u64 taken)
{
    u64 start = index_of(zone, zone->first) + taken, end = index_end(zone);
    /* Those that are not there are nobody's: they must not look free. */
    owners_set(zone, 0, start, PAGE_VMM);
    owners_set(zone, end, align_up(end, BLOCK_PAGES) - end, PAGE_VMM);
    free_map_set(&zone->free, start, end - start);
    zone->free_pages = zone->count - taken;
}

void pages_add_range(hpa_t start, hpa_t end)
{
    ASSERT(is_aligned(start.raw | end.raw, PAGE_BYTES) && start.raw <= end.raw);
    u64 count = (end.raw - start.raw) / PAGE_BYTES;
    /* Too small to hold more than its own bookkeeping. */
    if (count == 0 || zone_lay_out(NULL, start, count) >= count)
        return;
    lock_take(&pages_lock);
    if (zone_count == ZONES_MAX) {
        lock_release(&pages_lock);
        log_line("pages: [0x%llx, 0x%llx) is not used: more than %u ranges",
                 (unsigned long long)start.raw, (unsigned long long)end.raw, ZONES_MAX);
        return;
    }
    struct zone zone;
    u64 taken = zone_lay_out(&zone, start, count);
    zone_fill(&zone, taken);
    u32 place = zone_count++;
    for (; place > 0 && zones[place - 1].first.raw > start.raw; place--)
        zones[place] = zones[place - 1];
    zones[place] = zone;
    zone_hint = 0;
    stats.total_pages += zone.count;
    stats.pages[PAGE_VMM] += taken;
    stats.pages[PAGE_FREE] += zone.count - taken;
    lock_release(&pages_lock);
}

u32 pages_allocate_some(enum page_owner owner, hpa_t *pages, u32 count)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    u32 done = 0;
    lock_take(&pages_lock);
    while (done < count) {
        while (zone_hint < zone_count && zones[zone_hint].free_pages == 0)
            zone_hint++;
        if (zone_hint == zone_count)
            break;
        struct zone *zone = &zones[zone_hint];
        pages[done++] = page_claim(zone, free_map_find_page(&zone->free), owner);
    }
    lock_release(&pages_lock);
    return done;
}

enum error page_allocate(enum page_owner owner, hpa_t *page)
{
    return pages_allocate_some(owner, page, 1) ? OK : ERR_NO_MEMORY;
}

/* 2 MiB. */
static enum error block_allocate(enum page_owner owner, hpa_t *page)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    enum error error = ERR_NO_MEMORY;
    lock_take(&pages_lock);
    for (u32 i = zone_hint; i < zone_count && error; i++) {
        struct zone *zone = &zones[i];
        u64 block = free_map_find_block(&zone->free);
        if (block == FREE_MAP_NONE)
            continue;
        free_map_clear_block(&zone->free, block);
        owners_set(zone, block * BLOCK_PAGES, BLOCK_PAGES, owner);
        zone->free_pages -= BLOCK_PAGES;
        count_move(PAGE_FREE, owner, BLOCK_PAGES);
        *page = page_at(zone, block * BLOCK_PAGES);
        error = OK;
    }
    lock_release(&pages_lock);
    return error;
}

enum error page_allocate_level(enum page_owner owner, enum level level, hpa_t *page)
{
    ASSERT(level <= LEVEL_2M);
    return level == LEVEL_4K ? page_allocate(owner, page) : block_allocate(owner, page);
}

void page_zero(hpa_t page, enum level level)
{
    for (u64 i = 0; i < level_pages(level); i++)
        memset(phys_to_virt(hpa(page.raw + i * PAGE_BYTES)), 0, PAGE_BYTES);
}

enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page)
{
    enum error error = page_allocate(owner, page);
    if (!error)
        page_zero(*page, LEVEL_4K);
    return error;
}

/* The index of a free run in the zone, or FREE_MAP_NONE. */
static u64 run_find(const struct zone *zone, u64 count, u64 align_pages)
{
    u64 align_bytes = align_pages * PAGE_BYTES, end = index_end(zone);
    u64 start = index_of(zone, hpa(align_up(zone->first.raw, align_bytes)));
    while (start < end && count <= end - start) {
        u64 len = 0;
        while (len < count && zone->owners[start + len] == PAGE_FREE)
            len++;
        if (len == count)
            return start;
        hpa_t behind = page_at(zone, start + len + 1);
        start = index_of(zone, hpa(align_up(behind.raw, align_bytes)));
    }
    return FREE_MAP_NONE;
}

enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    ASSERT(count > 0 && align_pages > 0 && (align_pages & (align_pages - 1)) == 0);
    enum error error = ERR_NO_MEMORY;
    lock_take(&pages_lock);
    for (u32 i = 0; i < zone_count && error; i++) {
        struct zone *zone = &zones[i];
        if (zone->free_pages < count)
            continue;
        u64 start = run_find(zone, count, align_pages);
        if (start == FREE_MAP_NONE)
            continue;
        for (u64 page = 0; page < count; page++)
            page_claim(zone, start + page, owner);
        *first = page_at(zone, start);
        error = OK;
    }
    lock_release(&pages_lock);
    return error;
}

void page_free(hpa_t page)
{
    pages_free(page, 1);
}

/* Under the lock. */
static void range_release(hpa_t first, u64 count)
{
    ASSERT(is_aligned(first.raw, PAGE_BYTES));
    struct zone *zone = zone_of(first);
    u64 at = index_of(zone, first), end = at + count;
    ASSERT(count <= index_end(zone) - at);
    while (at < end) {
        u64 run = owner_run(zone, at, end - at);
        run_release(zone, at, run);
        at += run;
    }
}

void pages_free(hpa_t first, u64 count)
{
    lock_take(&pages_lock);
    range_release(first, count);
    lock_release(&pages_lock);
}

void page_free_level(hpa_t page, enum level level)
{
    pages_free(page, level_pages(level));
}

void pages_free_some(const hpa_t *pages, u32 count)
{
    lock_take(&pages_lock);
    for (u32 i = 0; i < count; i++)
        range_release(pages[i], 1);
    lock_release(&pages_lock);
}

enum page_owner page_owner(hpa_t page)
{
    lock_take(&pages_lock);
    struct zone *zone = zone_of(page);
    enum page_owner owner = zone->owners[index_of(zone, page)];
    lock_release(&pages_lock);
    return owner;
}

static void owner_change(struct zone *zone, u64 index, enum page_owner owner)
{
    u8 *now = &zone->owners[index];
    ASSERT(*now != PAGE_FREE);
    count_move(*now, owner, 1);
    *now = (u8)owner;
}

void page_set_owner_level(hpa_t page, enum level level, enum page_owner owner)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    lock_take(&pages_lock);
    struct zone *zone = zone_of(page);
    u64 start = index_of(zone, page);
    ASSERT(level_pages(level) <= index_end(zone) - start);
    for (u64 i = 0; i < level_pages(level); i++)
        owner_change(zone, start + i, owner);
    lock_release(&pages_lock);
}

void page_set_owner(hpa_t page, enum page_owner owner)
{
    page_set_owner_level(page, LEVEL_4K, owner);
}

bool page_is_owned(hpa_t page, enum level level, enum page_owner owner)
{
    lock_take(&pages_lock);
    struct zone *zone = zone_of(page);
    u64 start = index_of(zone, page), count = level_pages(level);
    bool owned = count <= index_end(zone) - start && zone->owners[start] == owner &&
                 owner_run(zone, start, count) == count;
    lock_release(&pages_lock);
    return owned;
}

static hpa_t *partner_word(hpa_t page)
{
    struct zone *zone = zone_of(page);
    return &zone->partners[index_of(zone, page)];
}

void page_set_partner(hpa_t page, hpa_t partner)
{
    *partner_word(page) = partner;
}

hpa_t page_partner(hpa_t page)
{
    return *partner_word(page);
}

void pages_statistics(struct pages_stats *copy)
{
    lock_take(&pages_lock);
    *copy = stats;
    lock_release(&pages_lock);
}

void pages_reset_for_test(void)
{
    zone_count = 0;
    zone_hint = 0;
    stats = (struct pages_stats){};
}
