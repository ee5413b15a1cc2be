/* SPDX-License-Identifier: MIT */
/*
 * The external page table of a TD, as the mirror engine asks for it. Each function is one leaf
 * or few, once: who meets BUSY decides in mm/mirror.c what to do about it.
 */
#include "tdx/td_parts.h"

#include "boot/log.h"
#include "tdx/handover.h"
#include "tdx/operands.h"
#include "tdx/pamt.h"
#include "tdx/seamcall_once.h"

#define WHERE_BYTES 64
#define ENTRY_STATE_SHIFT 8
#define ENTRY_STATE_MASK 0xffull

static void entry_operands(struct tdx_regs *regs, const struct td *td, gfn_t frame,
                           enum level level)
{
    *regs = (struct tdx_regs){};
    regs->gpr[GPR_RCX] = operand_entry(frame, level);
    regs->gpr[GPR_RDX] = td->tdr.raw;
}

__attribute__((noinline)) static enum error
entry_refusal(struct tdx_status status, enum tdh_leaf leaf, gfn_t frame, enum level level)
{
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "GPA 0x%llx, level %u",
                  (unsigned long long)gfn_to_gpa(frame).raw, level);
    return tdx_status_error(status, leaf, where);
}

static inline enum error entry_error(struct tdx_status status, enum tdh_leaf leaf, gfn_t frame,
                                     enum level level)
{
    return status.raw == 0 ? OK : entry_refusal(status, leaf, frame, level);
}

/* Gives `page` (R8) to a leaf that puts it into the entry; a refusal leaves it ours. */
__attribute__((always_inline)) static inline enum error entry_fill(struct td *td,
                                                                   enum tdh_leaf leaf, gfn_t frame,
                                                                   enum level level, hpa_t page,
                                                                   struct page_cache *pairs)
{
    /* A table is one page whatever the level of the entry that points to it. */
    enum level given = leaf == TDH_MEM_SEPT_ADD ? LEVEL_4K : level;
    enum error error = page_hand_over(page, given, pairs);
    if (error)
        return error;
    struct tdx_short regs = {
        .rax = leaf, .rcx = operand_entry(frame, level), .rdx = td->tdr.raw, .r8 = page.raw};
    struct tdx_status status = seamcall_once(leaf, true, (union seamcall_registers){.few = &regs});
    if (status.raw == 0)
        return OK;
    error = entry_error(status, leaf, frame, level);
    if (error)
        page_keep(page, given, pairs);
    return error;
}

static enum error link_table(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t table)
{
    return entry_fill(owner, TDH_MEM_SEPT_ADD, frame, level, table, &caches->metadata_pages);
}

static enum error add_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                           hpa_t source)
{
    struct page_cache *pairs = &caches->metadata_pages;
    struct td *td = owner;
    struct tdx_regs regs;
    entry_operands(&regs, td, frame, LEVEL_4K);
    regs.gpr[GPR_R8] = page.raw;
    regs.gpr[GPR_R9] = source.raw;
    enum error error = page_hand_over(page, LEVEL_4K, pairs);
    if (error)
        return error;
    error = entry_error(seamcall(TDH_MEM_PAGE_ADD, &regs), TDH_MEM_PAGE_ADD, frame, LEVEL_4K);
    if (error)
        page_keep(page, LEVEL_4K, pairs);
    return error;
}

static enum error set_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                           hpa_t page)
{
    return entry_fill(owner, TDH_MEM_PAGE_AUG, frame, level, page, &caches->metadata_pages);
}

/* The leaf for each entry of the row, which goes off it. */
static enum error row_call(const struct td *td, enum tdh_leaf leaf, struct entry_row *row)
{
    struct tdx_each each = {
        .leaf = leaf,
        .operand = operand_entry(row->frame, row->level),
        .rdx = td->tdr.raw,
        .step = level_bytes(row->level),
        .left = row->count,
    };
    struct tdx_status status = seamcall_each(&each);
    entry_row_advance(row, row->count - (u32)each.left);
    return row->count == 0 ? OK : entry_refusal(status, leaf, row->frame, row->level);
}

static enum error entry_call(const struct td *td, enum tdh_leaf leaf, gfn_t frame, enum level level)
{
    struct entry_row one = {.frame = frame, .level = level, .count = 1, .page = HPA_NONE};
    return row_call(td, leaf, &one);
}

static enum error block(void *owner, struct entry_row *row)
{
    struct td *td = owner;
    u32 count = row->count;
    /* No vCPU can hold a translation yet: the module removes unblocked entries. */
    if (!td->finalized) {
        entry_row_advance(row, count);
        return OK;
    }
    enum error error = row_call(td, TDH_MEM_RANGE_BLOCK, row);
    td->untracked |= row->count < count;
    return error;
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    struct td *td = owner;
    if (!td->finalized)
        return OK;
    /* It is over, and page_lost said why: some of this may be removed. */
    if (atomic_load(&td->broken))
        return ERR_REFUSED;
    /* The TRACK failed, and was told. The module unblocks no more than it removes without one. */
    if (td->untracked)
        return ERR_REFUSED;
    return entry_call(td, TDH_MEM_RANGE_UNBLOCK, frame, level);
}

static enum error track(void *owner)
{
    struct td *td = owner;
    if (!td->finalized)
        return OK;
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = td->tdr.raw;
    lock_take(&td->track_lock);
    struct tdx_status status = seamcall(TDH_MEM_TRACK, &regs);
    enum error error = tdx_status_error(status, TDH_MEM_TRACK, "a removal");
    if (!error)
        td_vcpus_kick(td);
    td->untracked &= error != OK;
    lock_release(&td->track_lock);
    return error;
}

/*
 * After PAGE.REMOVE there is no way back, and a page that the caches may still write to cannot be
 * used: the TD has lost it, and what was removed with it. The mirror keeps all that, and td_destroy
 * leaks it.
 */
static void page_lost(struct td *td, gfn_t frame)
{
    log_line("tdx: GPA 0x%llx is removed, its page is not written back: the TD cannot go on",
             (unsigned long long)gfn_to_gpa(frame).raw);
    atomic_store(&td->broken, true);
}

/* What the module has let go of: written back under the TD's key, and ours again. */
static enum error row_recover(struct td *td, struct entry_row *row)
{
    u64 leaf_pages = level_pages(row->level), written;
    enum error error =
        pages_write_back(row->page, row->count * leaf_pages, td->hkid, "a removed page", &written);
    u32 done = (u32)(written / leaf_pages);
    pages_take_back(row->page, row->level, done);
    entry_row_advance(row, done);
    if (error)
        page_lost(td, row->frame);
    return error;
}

static enum error table_recover(struct td *td, gfn_t frame, hpa_t table)
{
    struct entry_row one = {.frame = frame, .level = LEVEL_4K, .count = 1, .page = table};
    return row_recover(td, &one);
}

static enum error remove_row(void *owner, struct entry_row *row)
{
    struct entry_row removed = *row, rest = *row;
    enum error error = row_call(owner, TDH_MEM_PAGE_REMOVE, &rest);
    removed.count -= rest.count;
    enum error lost = row_recover(owner, &removed);
    entry_row_advance(row, row->count - rest.count - removed.count);
    return lost ? lost : error;
}

static enum error unlink_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    enum error error = entry_call(owner, TDH_MEM_SEPT_REMOVE, frame, level);
    return error ? error : table_recover(owner, frame, table);
}

static enum error demote(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                         hpa_t page, hpa_t table)
{
    struct page_cache *pairs = &caches->metadata_pages;
    struct tdx_regs regs;
    hpa_t pair[PAMT_PAIR_PAGES];
    enum error error = page_hand_over(table, LEVEL_4K, pairs);
    if (error)
        return error;
    error = pamt_demote_begin(page, level, pairs, pair);
    if (!error) {
        entry_operands(&regs, owner, frame, level);
        regs.gpr[GPR_R8] = table.raw;
        /* No tables of nested guests. */
        regs.gpr[GPR_R9] = regs.gpr[GPR_R10] = regs.gpr[GPR_R11] = ~0ull;
        regs.gpr[GPR_R12] = pair[0].raw;
        regs.gpr[GPR_R13] = pair[1].raw;
        error =
            entry_error(seamcall(TDH_MEM_PAGE_DEMOTE, &regs), TDH_MEM_PAGE_DEMOTE, frame, level);
        pamt_demote_end(page, level, pairs, error);
    }
    if (error)
        page_keep(table, LEVEL_4K, pairs);
    return error;
}

static enum error promote(void *owner, gfn_t frame, enum level level, hpa_t page, hpa_t table)
{
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    struct tdx_status status = seamcall(TDH_MEM_PAGE_PROMOTE, &regs);
    if (tdx_status_code(status) == TDX_EPT_INVALID_PROMOTE_CONDITIONS)
        return ERR_STATE;
    enum error error = entry_error(status, TDH_MEM_PAGE_PROMOTE, frame, level);
    if (error)
        return error;
    pamt_promoted(page, level, NULL);
    return table_recover(owner, frame, table);
}

static void hold_vcpus(void *owner)
{
    struct td *td = owner;
    atomic_store(&td->held, true);
    td_vcpus_kick(td);
}

static void release_vcpus(void *owner)
{
    struct td *td = owner;
    atomic_store(&td->held, false);
}

static enum error reclaim(void *owner, struct entry_row *row)
{
    struct td *td = owner;
    u32 done;
    /* The module reclaims nothing of a TD whose key is not free; td_destroy said why it is not. */
    if (td->hkid_assigned)
        return ERR_REFUSED;
    enum error error = pages_reclaim(row->page, row->level, row->count, "a TD's memory", &done);
    pages_take_back(row->page, row->level, done);
    entry_row_advance(row, done);
    return error;
}

static enum external_state external_state(enum sept_state state)
{
    switch (state) {
    case SEPT_MAPPED:
        return EXTERNAL_MAPPED;
    case SEPT_PENDING:
        return EXTERNAL_PENDING;
    case SEPT_NL_MAPPED:
        return EXTERNAL_TABLE;
    case SEPT_BLOCKED:
    case SEPT_PENDING_BLOCKED:
    case SEPT_NL_BLOCKED:
        return EXTERNAL_BLOCKED;
    case SEPT_FREE:
    case SEPT_REMOVED:
        return EXTERNAL_FREE;
    }
    /* A state that only migration has: no leaf of ours. */
    return EXTERNAL_FREE;
}

static enum error read_entry(void *owner, gfn_t frame, enum level level,
                             struct external_entry *entry)
{
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    struct tdx_status status = seamcall(TDH_MEM_SEPT_RD, &regs);
    enum error error = entry_error(status, TDH_MEM_SEPT_RD, frame, level);
    if (error)
        return error;
    u64 info = regs.gpr[GPR_RDX];
    entry->state = external_state((info >> ENTRY_STATE_SHIFT) & ENTRY_STATE_MASK);
    entry->page = HPA_NONE;
    if (entry->state != EXTERNAL_FREE && entry->state != EXTERNAL_TABLE)
        entry->page = hpa(regs.gpr[GPR_RCX] & TDX_ADDRESS_MASK);
    return OK;
}

const struct mirror_ops td_mirror_ops = {
    .link_table = link_table,
    .add_leaf = add_leaf,
    .set_leaf = set_leaf,
    .block = block,
    .track = track,
    .unblock = unblock,
    .remove = remove_row,
    .unlink_table = unlink_table,
    .demote = demote,
    .promote = promote,
    .hold_vcpus = hold_vcpus,
    .release_vcpus = release_vcpus,
    .reclaim = reclaim,
    .read_entry = read_entry,
};
