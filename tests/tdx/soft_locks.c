/* SPDX-License-Identifier: MIT */
#include "tests/tdx/soft_locks.h"

#include <stdio.h>

#include "tdx/soft/sept.h"
#include "tdx/soft/system.h"
#include "tests/host/machine.h"

static const char *held_text(const char *what, u64 where, u64 value)
{
    static char text[80];
    snprintf(text, sizeof text, "%s, 0x%llx: 0x%llx", what, (unsigned long long)where,
             (unsigned long long)value);
    return text;
}

static const char *system_lock_held(void)
{
    if (soft_system.lock)
        return held_text("SYS", 0, soft_system.lock);
    if (soft_system.keys_lock)
        return held_text("KOT", 0, soft_system.keys_lock);
    for (u32 i = 0; i < SOFT_PACKAGES_MAX; i++)
        if (soft_system.write_back[i].lock)
            return held_text("WBCACHE", i, soft_system.write_back[i].lock);
    return NULL;
}

/* Entries of 4 KiB are there where PAMT is static, or the region has a pair. */
static const char *metadata_lock_held(const struct tdmr *tdmr)
{
    if (tdmr->lock)
        return held_text("TDMR", tdmr->base, tdmr->lock);
    for (u32 level = LEVEL_4K; level <= LEVEL_1G; level++) {
        for (u64 at = tdmr->base; at < tdmr->base + tdmr->size;
             at += level_bytes((enum level)level)) {
            if (level == LEVEL_4K && soft_system.has_dynamic_pamt &&
                pamt_entry_at(tdmr, at, LEVEL_2M)->type != PT_PAMT)
                continue;
            const struct pamt_entry *entry = pamt_entry_at(tdmr, at, level);
            if (entry->lock)
                return held_text("PAMT", at | level, entry->lock);
        }
    }
    return NULL;
}

static struct tdcs *tdcs_of(u64 tdr_page)
{
    const struct tdr *tdr = host_memory_at(tdr_page);
    return host_memory_at(tdr->tdcx[0]);
}

/* The pages behind the first `count` entries, and, if one is locked, that. */
static u64 table_walk(u64 table, u32 level, u64 count, const char **held)
{
    u64 sum = 0;
    const u64 *entries = host_memory_at(table);
    for (u32 i = 0; i < count; i++) {
        if (entries[i] & SEPT_ENTRY_LOCK)
            *held = held_text("secure EPT entry of table", table, entries[i]);
        enum sept_state state = sept_entry_state(entries[i]);
        if (sept_state_is_table(state))
            sum += 1 + table_walk(sept_entry_address(entries[i]), level - 1, TABLE_ENTRIES, held);
        else if (sept_state_is_leaf(state))
            sum += 1ull << TABLE_SHIFT * level;
    }
    return sum;
}

static u64 tree_walk(const struct tdcs *tdcs, const char **held)
{
    u32 level = sept_root_level(tdcs);
    /* Behind the SHARED bit are the VMM's. */
    u64 count = 1ull << (tdcs->gpa_bits - 1 - PAGE_SHIFT - TABLE_SHIFT * level);
    return table_walk(tdcs->eptp & TDX_ADDRESS_MASK, level, count, held);
}

u64 soft_sept_pages(u64 tdr)
{
    const char *held;
    return tree_walk(tdcs_of(tdr), &held);
}

static const char *td_lock_held(u64 tdr)
{
    const struct tdcs *tdcs = tdcs_of(tdr);
    const char *held = NULL;
    if (tdcs->op_state_lock)
        return held_text("OP_STATE", tdr, tdcs->op_state_lock);
    if (tdcs->sept_lock)
        return held_text("SEPT_TREE", tdr, tdcs->sept_lock);
    if (tdcs->epoch_lock)
        return held_text("TD_EPOCH", tdr, tdcs->epoch_lock);
    if (tdcs->rtmr_lock)
        return held_text("RTMR", tdr, tdcs->rtmr_lock);
    if (tdcs->epoch_refcount[0] || tdcs->epoch_refcount[1])
        return held_text("a vCPU's epoch", tdr, tdcs->td_epoch);
    (void)tree_walk(tdcs, &held);
    return held;
}

const char *soft_lock_held(u64 tdr)
{
    const char *held = system_lock_held();
    for (u32 i = 0; !held && i < soft_system.tdmr_count; i++)
        held = metadata_lock_held(&soft_system.tdmrs[i]);
    return held ? held : td_lock_held(tdr);
}
