/* SPDX-License-Identifier: MIT */
#include "tests/soft/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/assert.h"
#include "tdx/soft/sept.h"
#include "tdx/soft/system.h"
#include "tdx/soft/vcpu.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/sparse_memory.h"

#define TRYLOCK_EXCLUSIVE 0x8000
#define TDCX_DATA 0
#define TDCX_SEPT_ROOT 3
#define USED_MAX (1u << 19)

/* Every page that the metadata says is somebody's. */
static struct used {
    u64 address, owner;
    u32 level;
    u8 type;
    bool is_linked; /* a TD's structures lead there */
} used[USED_MAX];
static u32 used_count;
static char *message;

__attribute__((format(printf, 1, 2))) static bool breach(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, SOFT_AUDIT_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static bool lock_check(const trylock_t *lock, const char *name, u64 of, u32 expected)
{
    if (*lock == expected)
        return true;
    return breach("the %s lock of %#lx is %#x between calls, not %#x", name, of, *lock, expected);
}

static const void *object_at(u64 address)
{
    return (const u8 *)memory_peek(address) + (address & PAGE_MASK);
}

/* --- Page metadata ------------------------------------------------------------------------ */

/* A vCPU inside its guest shares the entries on the ways to its TDVPR and its TDR. */
static u32 shares_expected(u64 address, u32 level)
{
    u32 shares = 0;
    u64 bytes = level_bytes((enum level)level), tdvpr, tdr;
    for (u32 lp = 0; lp < platform()->lp_count; lp++)
        if (machine_guest_of(lp, &tdvpr, &tdr))
            shares += (align_down(tdvpr, bytes) == address) + (align_down(tdr, bytes) == address);
    return shares;
}

static bool entry_is_idle(const struct pamt_entry *entry)
{
    return !entry->lock && entry->type == PT_NDA;
}

static bool entry_check(const struct pamt_entry *entry, u64 address, u32 level)
{
    if (!lock_check(&entry->lock, level ? "large page's" : "page's", address,
                    shares_expected(address, level)))
        return false;
    if (entry->type == PT_NDA || entry->type == PT_RSVD || entry->type == PT_PAMT)
        return true;
    if (level && entry->type != PT_REG)
        return breach("the page %#lx of level %u is of type %u", address, level, entry->type);
    if (used_count == USED_MAX)
        panic("more pages are used than the audit can hold");
    used[used_count++] = (struct used){
        .address = address, .owner = pamt_owner(entry), .level = level, .type = entry->type};
    return true;
}

/* Entries side by side that describe pages from an address on. */
static bool entries_check(u64 table, u32 count, u64 address, u32 level)
{
    const struct pamt_entry *entries = object_at(table);
    for (u32 i = 0; i < count; i++, address += level_bytes((enum level)level))
        if (!entry_is_idle(&entries[i]) && !entry_check(&entries[i], address, level))
            return false;
    return true;
}

/* A table of the TDMR's, page by page; what nobody touched is as idle as it was kept. */
static bool level_check(const struct tdmr *tdmr, u32 level)
{
    u64 bytes = level_bytes((enum level)level), count = (tdmr->next - tdmr->base) / bytes;
    u32 per_page = PAGE_BYTES / sizeof(struct pamt_entry);
    for (u64 i = 0; i < count; i += per_page) {
        u64 table = tdmr->pamt_base[level] + i * sizeof(struct pamt_entry);
        u32 here = count - i < per_page ? (u32)(count - i) : per_page;
        if (memory_is_touched(table) && !entries_check(table, here, tdmr->base + i * bytes, level))
            return false;
    }
    return true;
}

static const struct pamt_entry *entry_peek(const struct tdmr *tdmr, u64 address, u32 level)
{
    u64 index = (address - tdmr->base) >> (PAGE_SHIFT + TABLE_SHIFT * level);
    return object_at(tdmr->pamt_base[level] + index * sizeof(struct pamt_entry));
}

static bool is_marked(const struct tdmr *tdmr, u64 address)
{
    u64 index = (address - tdmr->base) >> PAGE_SHIFT;
    const u64 *word = object_at(tdmr->pamt_base[LEVEL_4K] + index / 64 * sizeof(u64));
    return *word >> index % 64 & 1;
}

/* Dynamic PAMT: the pages of 4 KiB are described where a region has a pair. */
static bool pairs_check(const struct tdmr *tdmr)
{
    u64 end = align_down(tdmr->next, level_bytes(LEVEL_2M));
    u32 per_page = PAGE_BYTES / sizeof(struct pamt_entry);
    for (u64 region = tdmr->base; region < end; region += level_bytes(LEVEL_2M)) {
        const struct pamt_entry *entry = entry_peek(tdmr, region, LEVEL_2M);
        u64 pages[PAMT_PAIR_PAGES];
        if (entry->type != PT_PAMT)
            continue;
        pamt_pair_of(entry, pages);
        for (u32 i = 0; i < PAMT_PAIR_PAGES; i++) {
            const struct tdmr *home = tdmr_of(pages[i]);
            if (!home || !is_marked(home, pages[i]))
                return breach("the page %#lx of the pair of %#lx is not marked", pages[i], region);
            if (!entries_check(pages[i], per_page, region + i * per_page * PAGE_BYTES, LEVEL_4K))
                return false;
        }
    }
    return true;
}

/* No page is described at two levels, and none in use is one that holds descriptions. */
static bool nesting_check(const struct used *page)
{
    const struct tdmr *tdmr = tdmr_of(page->address);
    if (!tdmr)
        return breach("the page %#lx is in no initialized block", page->address);
    for (u32 above = page->level + 1; above <= LEVEL_1G; above++) {
        u8 type = entry_peek(tdmr, page->address, above)->type;
        bool is_node = soft_system.has_dynamic_pamt && above == LEVEL_2M;
        if (type != (is_node ? PT_PAMT : PT_NDA))
            return breach("the page %#lx is in a page of level %u, type %u", page->address, above,
                          type);
    }
    for (u64 i = 0; soft_system.has_dynamic_pamt && i < 1ull << TABLE_SHIFT * page->level; i++)
        if (is_marked(tdmr, page->address + i * PAGE_BYTES))
            return breach("the page %#lx is in use and in a pair",
                          (u64)(page->address + i * PAGE_BYTES));
    return true;
}

static int used_compare(const void *left, const void *right)
{
    const struct used *a = left, *b = right;
    return a->address < b->address ? -1 : a->address > b->address;
}

static bool metadata_check(void)
{
    used_count = 0;
    for (u32 i = 0; i < soft_system.tdmr_count; i++) {
        const struct tdmr *tdmr = &soft_system.tdmrs[i];
        for (u32 level = LEVEL_1G; level > LEVEL_4K; level--)
            if (!level_check(tdmr, level))
                return false;
        if (soft_system.has_dynamic_pamt ? !pairs_check(tdmr) : !level_check(tdmr, LEVEL_4K))
            return false;
    }
    qsort(used, used_count, sizeof used[0], used_compare);
    for (u32 i = 0; i < used_count; i++)
        if (!nesting_check(&used[i]))
            return false;
    return true;
}

/* --- What leads to a page ----------------------------------------------------------------- */

static struct used *used_find(u64 address)
{
    struct used key = {.address = address};
    return bsearch(&key, used, used_count, sizeof used[0], used_compare);
}

static bool link_check(u64 address, u32 level, enum pamt_type type, u64 tdr, const char *from)
{
    struct used *page = used_find(address);
    if (!page)
        return breach("%s of TD %#lx leads to the free page %#lx", from, tdr, address);
    if (page->level != level || page->type != type || page->owner != tdr)
        return breach("%s of TD %#lx leads to page %#lx of type %u, level %u, TD %#lx", from, tdr,
                      address, page->type, page->level, page->owner);
    if (page->is_linked)
        return breach("the page %#lx of TD %#lx is in two places", address, tdr);
    page->is_linked = true;
    return true;
}

static bool sept_check(const struct tdcs *tdcs, u64 tdr, u64 table, u32 level, u64 start)
{
    const u64 *entries = memory_peek(table);
    u64 bytes = PAGE_BYTES << TABLE_SHIFT * level, limit = 1ull << (tdcs->gpa_bits - 1);
    for (u32 i = 0; i < TABLE_ENTRIES && start + i * bytes < limit; i++) {
        u64 value = entries[i], gpa = start + i * bytes;
        if (value == SEPT_ENTRY_FREE)
            continue;
        if (value & SEPT_ENTRY_LOCK)
            return breach("TD %#lx: the entry of GPA %#lx, level %u, is locked between calls", tdr,
                          gpa, level);
        value = sept_entry_plain(value, level);
        enum sept_state state = sept_entry_state(value);
        u64 address = sept_entry_address(value);
        if (sept_state_is_leaf(state)) {
            if (!link_check(address, level, PT_REG, tdr, "an EPT entry"))
                return false;
        } else if (!sept_state_is_table(state) || !level) {
            return breach("TD %#lx: the entry of GPA %#lx, level %u, is in no state: %#lx", tdr,
                          gpa, level, value);
        } else if (!link_check(address, LEVEL_4K, PT_EPT, tdr, "an EPT entry") ||
                   !sept_check(tdcs, tdr, address, level - 1, gpa)) {
            return false;
        }
    }
    return true;
}

struct census {
    u32 vcpus, associated, epochs[2];
};

static bool vcpu_check(u64 tdvpr, u64 tdr, struct census *census)
{
    const struct tdvps *vcpu = memory_peek(tdvpr);
    bool is_inside = false;
    u64 inside_tdvpr, inside_tdr;
    for (u32 lp = 0; lp < platform()->lp_count; lp++)
        is_inside |= machine_guest_of(lp, &inside_tdvpr, &inside_tdr) && inside_tdvpr == tdvpr;
    if (is_inside != (vcpu->state == VCPU_ACTIVE))
        return breach("vCPU %#lx is %s its guest, its state is %u", tdvpr,
                      is_inside ? "in" : "outside", vcpu->state);
    if (vcpu->owner_tdr != tdr || vcpu->pages[0] != tdvpr || vcpu->num_pages > TDVPS_PAGES_MAX_)
        return breach("vCPU %#lx is not TD %#lx's", tdvpr, tdr);
    for (u32 i = 1; i < vcpu->num_pages; i++)
        if (!link_check(vcpu->pages[i], LEVEL_4K, PT_TDCX, tdr, "a vCPU"))
            return false;
    census->vcpus += vcpu->state != VCPU_UNINITIALIZED;
    census->associated += vcpu->assoc_lp != VCPU_NO_LP;
    census->epochs[vcpu->vcpu_epoch & 1] += is_inside;
    return true;
}

/* --- TDs ---------------------------------------------------------------------------------- */

static bool tdcs_locks_check(const struct tdcs *tdcs, u64 tdr)
{
    return lock_check(&tdcs->op_state_lock, "OP_STATE", tdr, 0) &&
           lock_check(&tdcs->sept_lock, "secure EPT's", tdr, 0) &&
           lock_check(&tdcs->epoch_lock, "epoch's", tdr, 0) &&
           lock_check(&tdcs->rtmr_lock, "RTMRs'", tdr, 0);
}

static bool census_check(const struct tdcs *tdcs, u64 tdr, const struct census *census)
{
    if (tdcs->num_vcpus != census->vcpus || tdcs->num_assoc_vcpus != census->associated)
        return breach("TD %#lx counts %u vCPUs, %u associated; there are %u and %u", tdr,
                      tdcs->num_vcpus, tdcs->num_assoc_vcpus, census->vcpus, census->associated);
    for (u32 i = 0; i < 2; i++)
        if (tdcs->epoch_refcount[i] != census->epochs[i])
            return breach("TD %#lx counts %lu vCPUs in epochs of parity %u, there are %u", tdr,
                          tdcs->epoch_refcount[i], i, census->epochs[i]);
    return true;
}

/* The pages of a TD that can still run: each is led to, and by its TD alone. */
static bool td_links_check(const struct tdr *tdr, u64 address)
{
    struct census census = {};
    const struct tdcs *tdcs = memory_peek(tdr->tdcx[TDCX_DATA]);
    for (u32 i = 0; i < tdr->num_tdcx; i++)
        if (!link_check(tdr->tdcx[i], LEVEL_4K, PT_TDCX, address, "the TDR"))
            return false;
    for (u32 i = 0; i < used_count; i++) {
        if (used[i].owner != address || used[i].type != PT_TDVPR)
            continue;
        used[i].is_linked = true;
        if (!vcpu_check(used[i].address, address, &census))
            return false;
    }
    bool has_tdcs = tdr->num_tdcx >= TDCX_PAGES_BASE;
    if (has_tdcs && (!tdcs_locks_check(tdcs, address) || !census_check(tdcs, address, &census)))
        return false;
    return !has_tdcs || tdcs->op_state == TD_UNINITIALIZED ||
           sept_check(tdcs, address, tdr->tdcx[TDCX_SEPT_ROOT], sept_root_level(tdcs), 0);
}

static bool keyid_check(const struct tdr *tdr, u64 address, u8 expected[SOFT_KEYIDS_MAX])
{
    if (tdr->lifecycle == TD_TEARDOWN)
        return true;
    if (!keyid_is_private(tdr->hkid) || expected[tdr->hkid] != KEYID_FREE)
        return breach("TD %#lx has KeyID %u, which is not its alone", address, tdr->hkid);
    expected[tdr->hkid] = tdr->lifecycle == TD_BLOCKED ? KEYID_FLUSHED : KEYID_ASSIGNED;
    return true;
}

static bool td_check(struct used *page, u8 keyids[SOFT_KEYIDS_MAX])
{
    const struct tdr *tdr = memory_peek(page->address);
    u64 children = 0;
    page->is_linked = true;
    for (u32 i = 0; i < used_count; i++)
        if (used[i].owner == page->address && used[i].type != PT_TDR)
            children += 1ull << TABLE_SHIFT * used[i].level;
    if (tdr->chldcnt != children)
        return breach("TD %#lx counts %lu pages, it has %lu", page->address, tdr->chldcnt,
                      children);
    if (tdr->lifecycle > TD_TEARDOWN || tdr->num_tdcx > TDCX_PAGES_MAX)
        return breach("TD %#lx is in no state", page->address);
    if (!keyid_check(tdr, page->address, keyids))
        return false;
    return tdr->lifecycle == TD_TEARDOWN || td_links_check(tdr, page->address);
}

/* Of a TD that is being torn down the VMM takes the pages in any order. */
static bool orphan_check(const struct used *page)
{
    const struct used *owner = used_find(page->owner);
    if (!owner || owner->type != PT_TDR)
        return breach("the page %#lx, type %u, has no TD: %#lx", page->address, page->type,
                      page->owner);
    const struct tdr *tdr = memory_peek(page->owner);
    if (tdr->lifecycle == TD_TEARDOWN)
        return true;
    return breach("nothing of TD %#lx leads to its page %#lx, type %u", page->owner, page->address,
                  page->type);
}

static bool system_locks_check(void)
{
    if (!lock_check(&soft_system.lock, "module's", 0, 0) ||
        !lock_check(&soft_system.keys_lock, "KeyIDs'", 0, 0))
        return false;
    for (u32 i = 0; i < soft_system.tdmr_count; i++)
        if (!lock_check(&soft_system.tdmrs[i].lock, "TDMR's", soft_system.tdmrs[i].base, 0))
            return false;
    for (u32 i = 0; i < SOFT_PACKAGES_MAX; i++)
        if (!lock_check(&soft_system.write_back[i].lock, "package's", i, 0))
            return false;
    return true;
}

static bool keyids_check(const u8 expected[SOFT_KEYIDS_MAX])
{
    u32 reserved = 0;
    for (u32 i = 0; i < SOFT_KEYIDS_MAX; i++) {
        u8 state = soft_system.keyids[i].state;
        reserved += state == KEYID_RESERVED;
        if (state != expected[i] && state != KEYID_RESERVED)
            return breach("KeyID %u is in state %u, its TD wants %u", i, state, expected[i]);
        if (state == KEYID_RESERVED && expected[i] != KEYID_FREE)
            return breach("KeyID %u is the module's own, and a TD's", i);
    }
    /* A SYS.CONFIG that is refused keeps the KeyID that it named: there may be several. */
    if (soft_system.state == SYSTEM_READY && !reserved)
        return breach("the module has no KeyID of its own");
    return true;
}

bool soft_audit(char text[SOFT_AUDIT_BYTES])
{
    u8 keyids[SOFT_KEYIDS_MAX] = {};
    message = text;
    if (!system_locks_check() || !metadata_check())
        return false;
    for (u32 i = 0; i < used_count; i++)
        if (used[i].type == PT_TDR && !td_check(&used[i], keyids))
            return false;
    for (u32 i = 0; i < used_count; i++)
        if (!used[i].is_linked && !orphan_check(&used[i]))
            return false;
    return keyids_check(keyids);
}
