/* SPDX-License-Identifier: MIT */
#include "tdx/soft/checker.h"

#include "boot/log.h"
#include "boot/string.h"
#include "tdx/soft/system.h"

#define LINES_MAX 8 /* of each rule */
#define WHAT_BYTES 96
#define CACHE_LINE_WORDS 8

/*
 * Pages released and not written back: sets of slots, found by the page's number. A slot holds the
 * page's address, in its low bits the KeyID and whether it is in use; `sums` goes with it.
 */
#define SETS 512
#define WAYS 8
#define SLOT_FREE 0ull
#define SLOT_USED 1ull
#define SLOT_CLAIMED 2ull /* its sum is being made */
#define SLOT_KEYID_SHIFT 1
#define SLOT_KEYID_MASK (SOFT_KEYIDS_MAX - 1ull)
_Static_assert(SOFT_KEYIDS_MAX << SLOT_KEYID_SHIFT <= PAGE_BYTES, "a KeyID fits below an address");

static _Atomic u64 slots[SETS * WAYS]; /* WAYS of them a set */
static u64 sums[SETS * WAYS];
static _Atomic u32 slots_used;
static _Atomic u64 counts[SOFT_RULES];

static const struct {
    const char *name, *sentence;
} rules[SOFT_RULES] = {
#define SOFT_RULE(rule, name, sentence) [rule] = {name, sentence},
#include "tdx/abi/soft_rules.def"
#undef SOFT_RULE
};

void checker_reset(void)
{
    memset((void *)slots, 0, sizeof slots);
    memset((void *)counts, 0, sizeof counts);
    slots_used = 0;
}

void checker_report(enum soft_rule rule, const char *what, ...)
{
    char text[WHAT_BYTES];
    va_list arguments;
    if (!platform()->has_checker || atomic_fetch_add(&counts[rule], 1) >= LINES_MAX)
        return;
    va_start(arguments, what);
    format_string_v(text, sizeof text, what, arguments);
    va_end(arguments);
    log_line("soft: checker: %s: %s: %s", rules[rule].name, text, rules[rule].sentence);
}

bool checker_field(u64 id, u64 *count)
{
    u64 rule = id - MD_SYS_SOFT_RULES;
    if (!platform()->has_checker || rule >= SOFT_RULES)
        return false;
    *count = counts[rule];
    return true;
}

/* The first slot of the page's set. */
static u32 set_of(u64 page)
{
    return (page >> PAGE_SHIFT & (SETS - 1)) * WAYS;
}

static u32 slot_keyid(u64 slot)
{
    return (u32)(slot >> SLOT_KEYID_SHIFT & SLOT_KEYID_MASK);
}

static u64 page_sum(u64 page)
{
    const u64 *words = seam_page(page);
    u64 sum = 0;
    for (u32 i = 0; i < PAGE_BYTES / sizeof(u64); i += CACHE_LINE_WORDS)
        sum = sum * 31 + words[i];
    return sum;
}

static void page_remember(u64 page, u32 keyid)
{
    for (u32 i = set_of(page), end = i + WAYS; i < end; i++) {
        u64 none = SLOT_FREE;
        if (!atomic_compare_exchange_strong(&slots[i], &none, SLOT_CLAIMED))
            continue;
        atomic_fetch_add(&slots_used, 1);
        sums[i] = page_sum(page);
        slots[i] = page | (u64)keyid << SLOT_KEYID_SHIFT | SLOT_USED;
        return;
    }
}

void checker_page_released(u64 page, u32 level, u32 keyid)
{
    if (!platform()->has_checker)
        return;
    for (u64 at = 0; at < level_bytes((enum level)level); at += PAGE_BYTES)
        page_remember(page + at, keyid);
}

static _Atomic u64 *slot_find(u64 page)
{
    if (!slots_used)
        return NULL;
    for (u32 i = set_of(page), end = i + WAYS; i < end; i++)
        if ((slots[i] & SLOT_USED) && (slots[i] & ~PAGE_MASK) == page)
            return &slots[i];
    return NULL;
}

static void slot_forget(_Atomic u64 *slot)
{
    *slot = SLOT_FREE;
    atomic_fetch_sub(&slots_used, 1);
}

/* What was in memory before the lines are written back has to be there still. */
static void slot_check(const _Atomic u64 *slot)
{
    u64 page = *slot & ~PAGE_MASK;
    if (page_sum(page) != sums[slot - slots])
        checker_report(SOFT_RULE_PAGE_WRITTEN, "page 0x%llx, KeyID %u", (unsigned long long)page,
                       slot_keyid(*slot));
}

void checker_page_written_back(u64 page, u32 keyid)
{
    _Atomic u64 *slot = slot_find(page);
    if (!slot || slot_keyid(*slot) != keyid)
        return;
    slot_check(slot);
    slot_forget(slot);
}

void checker_page_given(u64 page)
{
    _Atomic u64 *slot = slot_find(page);
    if (!slot)
        return;
    checker_report(SOFT_RULE_PAGE_REUSED, "page 0x%llx, KeyID %u", (unsigned long long)page,
                   slot_keyid(*slot));
    slot_check(slot);
    slot_forget(slot);
}

void checker_key_freed(u32 keyid)
{
    for (u32 i = 0; slots_used && i < SETS * WAYS; i++) {
        _Atomic u64 *slot = &slots[i];
        if (!(*slot & SLOT_USED) || slot_keyid(*slot) != keyid)
            continue;
        slot_check(slot);
        slot_forget(slot);
    }
}
