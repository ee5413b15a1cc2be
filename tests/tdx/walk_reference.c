/* SPDX-License-Identifier: MIT */
#include "tests/tdx/walk_reference.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tdx/soft/td.h"
#include "tests/host/machine.h"
#include "tests/tdx/guest.h"

struct walk_td walk_tds[WALK_TDS];

void walk_fail(const struct walk_td *walk, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "walks: TD %d: ", walk ? (int)walk->number : -1);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n%s", host_log());
    va_end(arguments);
    fflush(NULL);
    abort();
}

void reference_set(struct walk_td *walk, u32 frame, enum walk_frame_state state, u16 stamp)
{
    struct walk_frame *reference = &walk->frames[frame];
    walk->present -= reference->state != FRAME_ABSENT;
    walk->present += state != FRAME_ABSENT;
    *reference = (struct walk_frame){.state = (u8)state, .stamp = stamp};
}

void reference_clear(struct walk_td *walk)
{
    memset(walk->frames, 0, sizeof walk->frames);
    memset(walk->region_is_spoiled, 0, sizeof walk->region_is_spoiled);
    walk->present = 0;
}

#define STAMP_WORDS 3
static const u32 stamp_words[STAMP_WORDS] = {0, 301, TABLE_ENTRIES - 1};

static u64 stamp_value(const struct walk_td *walk, u32 frame, u16 stamp)
{
    u64 name = (u64)stamp << 40 | (u64)(walk->number + 1) << 32 | frame;
    return stamp ? name * 0x9e3779b97f4a7c15 : 0;
}

void page_stamp(const struct walk_td *walk, u32 frame, u64 page, u16 stamp)
{
    u64 *words = host_memory_at(page);
    for (u32 i = 0; i < STAMP_WORDS; i++)
        words[stamp_words[i]] = stamp_value(walk, frame, stamp);
}

void page_spoil(u64 page)
{
    u64 *words = host_memory_at(page);
    for (u32 i = 0; i < STAMP_WORDS; i++)
        words[stamp_words[i]] = 0xbad0bad0bad0bad0;
}

void page_check(const struct walk_td *walk, u32 frame, u64 page, u16 stamp)
{
    const u64 *words = host_memory_at(page);
    for (u32 i = 0; i < STAMP_WORDS; i++)
        WALK_CHECK(walk, words[stamp_words[i]] == stamp_value(walk, frame, stamp),
                   "frame %u (page %#llx) does not hold what the guest wrote last", frame,
                   (unsigned long long)page);
}

void page_check_zero(const struct walk_td *walk, u32 frame, u64 page)
{
    static const u8 zeros[PAGE_BYTES];
    WALK_CHECK(walk, memcmp(host_memory_at(page), zeros, PAGE_BYTES) == 0,
               "frame %u (page %#llx) is accepted and not zero", frame, (unsigned long long)page);
}

u64 walk_eptp(const struct walk_td *walk)
{
    const struct tdcs *tdcs = host_memory_at(walk->td.tdcs[0].raw);
    return tdcs->eptp;
}

/* What the module says of a frame that the mirror has at `level`. */
static void frame_compare_entry(struct walk_td *walk, u32 frame, enum level level, hpa_t page)
{
    const struct walk_frame *reference = &walk->frames[frame];
    struct external_entry entry;
    gfn_t aligned = gfn(align_down(frame, level_pages(level)));
    enum error error = walk->td.mirror.ops->read_entry(&walk->td, aligned, level, &entry);
    enum external_state state =
        reference->state == FRAME_PENDING ? EXTERNAL_PENDING : EXTERNAL_MAPPED;
    WALK_CHECK(walk, error == OK && entry.state == state,
               "frame %u, level %u: the module has state %u, expected %u", frame, level,
               entry.state, state);
    WALK_CHECK(walk, entry.page.raw + (frame - aligned.raw) * PAGE_BYTES == page.raw,
               "frame %u: the module has another page", frame);
}

void reference_compare_frame(struct walk_td *walk, u32 frame)
{
    const struct walk_frame *reference = &walk->frames[frame];
    struct translation translation;
    enum level level;
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(frame), &level);
    bool is_usable = reference->state != FRAME_ABSENT && !reference->is_blocked;
    WALK_CHECK(walk, is_usable == !hpa_is_none(page), "frame %u: the mirror %s it", frame,
               is_usable ? "lacks" : "has");
    bool is_reached = guest_translate(walk_eptp(walk), gfn_to_gpa(gfn(frame)).raw, &translation);
    WALK_CHECK(walk, is_reached == (is_usable && reference->state == FRAME_ACCEPTED),
               "frame %u: the guest %s it", frame, is_reached ? "reaches" : "does not reach");
    if (is_reached) {
        WALK_CHECK(walk, translation.page == page.raw && translation.level == level,
                   "frame %u: the guest reaches another page than the mirror has", frame);
        page_check(walk, frame, page.raw, reference->stamp);
    } else if (is_usable) {
        frame_compare_entry(walk, frame, level, page);
    }
}

static void td_compare(struct walk_td *walk)
{
    u64 pages = mirror_private_pages(&walk->td.mirror);
    for (u32 frame = 0; frame < WALK_FRAMES; frame++)
        if (walk->frames[frame].state != FRAME_ABSENT)
            reference_compare_frame(walk, frame);
    /* So many, and all of those: no others. */
    WALK_CHECK(walk, pages == walk->present, "the mirror counts %llu pages, expected %llu",
               (unsigned long long)pages, (unsigned long long)walk->present);
}

static void owner_check(const struct pages_stats *stats, enum page_owner owner, u64 expected)
{
    WALK_CHECK(NULL, stats->pages[owner] == expected, "%llu pages are %s, expected %llu",
               (unsigned long long)stats->pages[owner], page_owner_name(owner),
               (unsigned long long)expected);
}

static void owners_compare(void)
{
    struct pages_stats stats;
    u64 sum = 0, private_pages = 0, tables = 0, external = 0;
    pages_statistics(&stats);
    for (u32 i = 0; i < WALK_TDS; i++) {
        struct walk_td *walk = &walk_tds[i];
        private_pages += walk->caches.private_pages.count +
                         walk->caches.private_large.count * level_pages(LEVEL_2M);
        tables += walk->caches.mirror_tables.count;
        external += walk->caches.external_tables.count;
        if (walk->life == LIFE_NONE)
            continue;
        private_pages += walk->present;
        tables += walk->td.mirror.stats.tables + 1;
        external += walk->td.mirror.stats.tables;
    }
    for (u32 owner = 0; owner < PAGE_OWNER_KINDS; owner++)
        sum += stats.pages[owner];
    WALK_CHECK(NULL, sum == stats.total_pages, "the owners' pages do not add up");
    owner_check(&stats, PAGE_PRIVATE, private_pages);
    owner_check(&stats, PAGE_MIRROR_TABLE, tables);
    owner_check(&stats, PAGE_EXTERNAL, external);
    owner_check(&stats, PAGE_LEAKED, 0);
}

void reference_compare(void)
{
    for (u32 i = 0; i < WALK_TDS; i++)
        if (walk_tds[i].life == LIFE_RUNNING)
            td_compare(&walk_tds[i]);
    owners_compare();
}
