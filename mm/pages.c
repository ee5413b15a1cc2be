/* SPDX-License-Identifier: MIT */
/*
 * Each range ("zone") begins with its own bookkeeping:
 *
 *   first                                                                     first + count
 *   | owner of each page | partner of each page | free bits: level 0, 1, ... | pages to give |
 *     u8                   hpa_t                  u64 words
 *
 * A bit of level 0 says that a page is free; a bit of level n + 1 that a word of level n is not 0.
 * The top level is one word, so the lowest free page is found in as many steps as there are
 * levels, and none of the bookkeeping lies in the pages given out: the VMM may be unable to see
 * them.
 */
#include "mm/pages.h"

#include "boot/assert.h"
#include "boot/lock.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"

#define ZONES_MAX 512
#define WORD_BITS 64
#define WORD_SHIFT 6
/* 64^6 pages are more than a processor can address. */
#define FREE_LEVELS_MAX 6

struct zone {
    hpa_t first;
    u64 count;
    u64 free_pages;
    hpa_t owners;
    hpa_t partners;
    hpa_t free_bits[FREE_LEVELS_MAX];
    u32 free_levels;
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
    return hpa(zone->first.raw + index * PAGE_BYTES);
}

static u64 index_of(const struct zone *zone, hpa_t page)
{
    return (page.raw - zone->first.raw) / PAGE_BYTES;
}

static u8 *owner_byte(const struct zone *zone, u64 index)
{
    return phys_to_virt(hpa(zone->owners.raw + index));
}

static u64 *free_word(const struct zone *zone, u32 level, u64 word)
{
    return phys_to_virt(hpa(zone->free_bits[level].raw + word * sizeof(u64)));
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

static void free_bit_set(const struct zone *zone, u64 index)
{
    for (u32 level = 0; level < zone->free_levels; level++) {
        u64 *word = free_word(zone, level, index >> WORD_SHIFT);
        u64 before = *word;
        *word |= 1ull << (index % WORD_BITS);
        if (before)
            return;
        index >>= WORD_SHIFT;
    }
}

static void free_bit_clear(const struct zone *zone, u64 index)
{
    for (u32 level = 0; level < zone->free_levels; level++) {
        u64 *word = free_word(zone, level, index >> WORD_SHIFT);
        *word &= ~(1ull << (index % WORD_BITS));
        if (*word)
            return;
        index >>= WORD_SHIFT;
    }
}

static u64 free_bit_lowest(const struct zone *zone)
{
    u64 index = 0;
    for (u32 level = zone->free_levels; level-- > 0;) {
        u64 word = *free_word(zone, level, index);
        ASSERT(word);
        index = index << WORD_SHIFT | (u64)__builtin_ctzll(word);
    }
    return index;
}

/* Under the lock: the page leaves the free ones. */
static hpa_t page_claim(struct zone *zone, u64 index, enum page_owner owner)
{
    u8 *byte = owner_byte(zone, index);
    ASSERT(*byte == PAGE_FREE);
    *byte = (u8)owner;
    free_bit_clear(zone, index);
    zone->free_pages--;
    stats.pages[PAGE_FREE]--;
    stats.pages[owner]++;
    hpa_t page = page_at(zone, index);
    page_set_partner(page, HPA_NONE);
    return page;
}

/* Under the lock. */
static void page_release(struct zone *zone, u64 index)
{
    u8 *byte = owner_byte(zone, index);
    if (*byte == PAGE_FREE)
        panic("pages: 0x%llx is freed twice", (unsigned long long)page_at(zone, index).raw);
    ASSERT(*byte != PAGE_LEAKED);
    stats.pages[*byte]--;
    stats.pages[PAGE_FREE]++;
    *byte = PAGE_FREE;
    free_bit_set(zone, index);
    zone->free_pages++;
    u32 number = (u32)(zone - zones);
    if (number < zone_hint)
        zone_hint = number;
}

/* Lays the bookkeeping out and returns how many pages it takes. */
static u64 zone_lay_out(struct zone *zone)
{
    u64 at = zone->first.raw;
    zone->owners = hpa(at);
    at = align_up(at + zone->count, sizeof(hpa_t));
    zone->partners = hpa(at);
    at += zone->count * sizeof(hpa_t);
    u64 bits = zone->count;
    zone->free_levels = 0;
    do {
        ASSERT(zone->free_levels < FREE_LEVELS_MAX);
        u64 words = (bits + WORD_BITS - 1) / WORD_BITS;
        zone->free_bits[zone->free_levels++] = hpa(at);
        at += words * sizeof(u64);
        bits = words;
    } while (bits > 1);
    return align_up(at - zone->first.raw, PAGE_BYTES) / PAGE_BYTES;
}

/* All pages free but the first `taken`. The partners need no value yet. */
static void zone_fill(struct zone *zone, u64 taken)
{
    for (u64 i = 0; i < taken; i++)
        memset(phys_to_virt(page_at(zone, i)), 0, PAGE_BYTES);
    for (u64 i = 0; i < taken; i++)
        *owner_byte(zone, i) = PAGE_VMM;
    u64 end = zone->count;
    u64 start = taken;
    for (u32 level = 0; level < zone->free_levels; level++) {
        for (u64 word = start / WORD_BITS; word * WORD_BITS < end; word++) {
            u64 bits = ~0ull;
            if (word == start / WORD_BITS)
                bits &= ~0ull << (start % WORD_BITS);
            if (end - word * WORD_BITS < WORD_BITS)
                bits &= (1ull << (end % WORD_BITS)) - 1;
            *free_word(zone, level, word) = bits;
        }
        start /= WORD_BITS;
        end = (end + WORD_BITS - 1) / WORD_BITS;
    }
    zone->free_pages = zone->count - taken;
}

void pages_add_range(hpa_t start, hpa_t end)
{
    ASSERT(is_aligned(start.raw | end.raw, PAGE_BYTES) && start.raw <= end.raw);
    struct zone zone = {.first = start, .count = (end.raw - start.raw) / PAGE_BYTES};
    u64 taken = zone.count ? zone_lay_out(&zone) : 0;
    /* Too small to hold more than its own bookkeeping. */
    if (taken >= zone.count)
        return;
    lock_take(&pages_lock);
    if (zone_count == ZONES_MAX) {
        lock_release(&pages_lock);
        log_line("pages: [0x%llx, 0x%llx) is not used: more than %u ranges",
                 (unsigned long long)start.raw, (unsigned long long)end.raw, ZONES_MAX);
        return;
    }
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

enum error page_allocate(enum page_owner owner, hpa_t *page)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    enum error error = ERR_NO_MEMORY;
    lock_take(&pages_lock);
    while (zone_hint < zone_count && zones[zone_hint].free_pages == 0)
        zone_hint++;
    if (zone_hint < zone_count) {
        struct zone *zone = &zones[zone_hint];
        *page = page_claim(zone, free_bit_lowest(zone), owner);
        error = OK;
    }
    lock_release(&pages_lock);
    return error;
}

enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page)
{
    enum error error = page_allocate(owner, page);
    if (!error)
        memset(phys_to_virt(*page), 0, PAGE_BYTES);
    return error;
}

/* The index of a free run in the zone, or its count if there is none. */
static u64 run_find(const struct zone *zone, u64 count, u64 align_pages)
{
    u64 align_bytes = align_pages * PAGE_BYTES;
    u64 start = (align_up(zone->first.raw, align_bytes) - zone->first.raw) / PAGE_BYTES;
    while (start < zone->count && count <= zone->count - start) {
        u64 len = 0;
        while (len < count && *owner_byte(zone, start + len) == PAGE_FREE)
            len++;
        if (len == count)
            return start;
        hpa_t behind = page_at(zone, start + len + 1);
        start = index_of(zone, hpa(align_up(behind.raw, align_bytes)));
    }
    return zone->count;
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
        if (start == zone->count)
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

void pages_free(hpa_t first, u64 count)
{
    ASSERT(is_aligned(first.raw, PAGE_BYTES));
    lock_take(&pages_lock);
    struct zone *zone = zone_of(first);
    u64 start = index_of(zone, first);
    ASSERT(count <= zone->count - start);
    for (u64 i = 0; i < count; i++)
        page_release(zone, start + i);
    lock_release(&pages_lock);
}

enum page_owner page_owner(hpa_t page)
{
    lock_take(&pages_lock);
    struct zone *zone = zone_of(page);
    enum page_owner owner = *owner_byte(zone, index_of(zone, page));
    lock_release(&pages_lock);
    return owner;
}

void page_set_owner(hpa_t page, enum page_owner owner)
{
    ASSERT(owner != PAGE_FREE && owner < PAGE_OWNER_KINDS);
    lock_take(&pages_lock);
    struct zone *zone = zone_of(page);
    u8 *byte = owner_byte(zone, index_of(zone, page));
    ASSERT(*byte != PAGE_FREE);
    stats.pages[*byte]--;
    stats.pages[owner]++;
    *byte = (u8)owner;
    lock_release(&pages_lock);
}

static hpa_t *partner_word(hpa_t page)
{
    struct zone *zone = zone_of(page);
    return phys_to_virt(hpa(zone->partners.raw + index_of(zone, page) * sizeof(hpa_t)));
}

void page_set_partner(hpa_t page, hpa_t partner)
{
    *partner_word(page) = partner;
}

hpa_t page_partner(hpa_t page)
{
    return *partner_word(page);
}

enum error page_allocate_level(enum page_owner owner, enum level level, hpa_t *page)
{
    if (level == LEVEL_4K)
        return page_allocate(owner, page);
    return pages_allocate(owner, level_pages(level), level_pages(level), page);
}

void page_free_level(hpa_t page, enum level level)
{
    pages_free(page, level_pages(level));
}

void page_set_owner_level(hpa_t page, enum level level, enum page_owner owner)
{
    for (u64 i = 0; i < level_pages(level); i++)
        page_set_owner(hpa(page.raw + i * PAGE_BYTES), owner);
}

bool page_is_owned(hpa_t page, enum level level, enum page_owner owner)
{
    for (u64 i = 0; i < level_pages(level); i++)
        if (page_owner(hpa(page.raw + i * PAGE_BYTES)) != owner)
            return false;
    return true;
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
