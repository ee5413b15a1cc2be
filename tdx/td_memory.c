/* SPDX-License-Identifier: MIT */
/*
 * The external page table of a TD, as the mirror engine asks for it. Each function is one leaf
 * or few, once: who meets BUSY decides in mm/mirror.c what to do about it.
 */
#include "tdx/td_parts.h"

#include "boot/log.h"
#include "tdx/handover.h"
#include "tdx/operands.h"

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

static enum error entry_error(struct tdx_status status, enum tdh_leaf leaf, gfn_t frame,
                              enum level level)
{
    if (status.raw == 0)
        return OK;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "GPA 0x%llx, level %u",
                  (unsigned long long)gfn_to_gpa(frame).raw, level);
    return tdx_status_error(status, leaf, where);
}

static hpa_t page_at(hpa_t first, u64 index)
{
    return hpa(first.raw + index * PAGE_BYTES);
}

static void pages_hand_over(hpa_t first, enum level level)
{
    for (u64 i = 0; i < level_pages(level); i++)
        page_hand_over(page_at(first, i));
}

static void pages_keep(hpa_t first, enum level level)
{
    for (u64 i = 0; i < level_pages(level); i++)
        page_keep(page_at(first, i));
}

/* Gives `page` (R8) to a leaf that puts it into the entry; a refusal leaves it ours. */
static enum error entry_fill(struct td *td, enum tdh_leaf leaf, gfn_t frame, enum level level,
                             hpa_t page)
{
    struct tdx_regs regs;
    /* A table is one page whatever the level of the entry that points to it. */
    enum level given = leaf == TDH_MEM_SEPT_ADD ? LEVEL_4K : level;
    entry_operands(&regs, td, frame, level);
    regs.gpr[GPR_R8] = page.raw;
    pages_hand_over(page, given);
    enum error error = entry_error(seamcall(leaf, &regs), leaf, frame, level);
    if (error)
        pages_keep(page, given);
    return error;
}

static enum error link_table(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t table)
{
    (void)caches;
    return entry_fill(owner, TDH_MEM_SEPT_ADD, frame, level, table);
}

static enum error add_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                           hpa_t source)
{
    (void)caches;
    struct td *td = owner;
    struct tdx_regs regs;
    entry_operands(&regs, td, frame, LEVEL_4K);
    regs.gpr[GPR_R8] = page.raw;
    regs.gpr[GPR_R9] = source.raw;
    page_hand_over(page);
    enum error error =
        entry_error(seamcall(TDH_MEM_PAGE_ADD, &regs), TDH_MEM_PAGE_ADD, frame, LEVEL_4K);
    if (error)
        page_keep(page);
    return error;
}

static enum error set_leaf(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                           hpa_t page)
{
    (void)caches;
    return entry_fill(owner, TDH_MEM_PAGE_AUG, frame, level, page);
}

static enum error block(void *owner, gfn_t frame, enum level level)
{
    struct td *td = owner;
    struct tdx_regs regs;
    /* No vCPU can hold a translation yet: the module removes unblocked entries. */
    if (!td->finalized)
        return OK;
    entry_operands(&regs, td, frame, level);
    return entry_error(seamcall(TDH_MEM_RANGE_BLOCK, &regs), TDH_MEM_RANGE_BLOCK, frame, level);
}

static enum error unblock(void *owner, gfn_t frame, enum level level)
{
    struct td *td = owner;
    struct tdx_regs regs;
    if (!td->finalized)
        return OK;
    entry_operands(&regs, td, frame, level);
    return entry_error(seamcall(TDH_MEM_RANGE_UNBLOCK, &regs), TDH_MEM_RANGE_UNBLOCK, frame, level);
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
    lock_release(&td->track_lock);
    return error;
}

/*
 * After PAGE.REMOVE there is no way back, and a page that the caches may still write to cannot be
 * used: the TD has lost it. The mirror keeps it, and td_destroy leaks it.
 */
static void page_lost(struct td *td, gfn_t frame)
{
    log_line("tdx: GPA 0x%llx is removed, its page is not written back: the TD cannot go on",
             (unsigned long long)gfn_to_gpa(frame).raw);
    atomic_store(&td->broken, true);
}

/* What the module has let go of: written back under the TD's key, and ours again. */
static enum error page_recover(struct td *td, gfn_t frame, hpa_t page, enum level level)
{
    enum error error = OK;
    for (u64 i = 0; !error && i < level_pages(level); i++)
        error = page_write_back(page_at(page, i), td->hkid, "a removed page");
    if (error) {
        page_lost(td, frame);
        return error;
    }
    for (u64 i = 0; i < level_pages(level); i++)
        page_take_back(page_at(page, i));
    return OK;
}

static enum error remove_leaf(void *owner, gfn_t frame, enum level level, hpa_t page)
{
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    enum error error =
        entry_error(seamcall(TDH_MEM_PAGE_REMOVE, &regs), TDH_MEM_PAGE_REMOVE, frame, level);
    return error ? error : page_recover(owner, frame, page, level);
}

static enum error unlink_table(void *owner, gfn_t frame, enum level level, hpa_t table)
{
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    enum error error =
        entry_error(seamcall(TDH_MEM_SEPT_REMOVE, &regs), TDH_MEM_SEPT_REMOVE, frame, level);
    return error ? error : page_recover(owner, frame, table, LEVEL_4K);
}

static enum error demote(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                         hpa_t page, hpa_t table)
{
    (void)caches;
    (void)page;
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    regs.gpr[GPR_R8] = table.raw;
    /* No tables of nested guests. */
    regs.gpr[GPR_R9] = regs.gpr[GPR_R10] = regs.gpr[GPR_R11] = ~0ull;
    page_hand_over(table);
    enum error error =
        entry_error(seamcall(TDH_MEM_PAGE_DEMOTE, &regs), TDH_MEM_PAGE_DEMOTE, frame, level);
    if (error)
        page_keep(table);
    return error;
}

static enum error promote(void *owner, gfn_t frame, enum level level, hpa_t page, hpa_t table)
{
    (void)page;
    struct tdx_regs regs;
    entry_operands(&regs, owner, frame, level);
    struct tdx_status status = seamcall(TDH_MEM_PAGE_PROMOTE, &regs);
    if (tdx_status_code(status) == TDX_EPT_INVALID_PROMOTE_CONDITIONS)
        return ERR_STATE;
    enum error error = entry_error(status, TDH_MEM_PAGE_PROMOTE, frame, level);
    return error ? error : page_recover(owner, frame, table, LEVEL_4K);
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

static enum error reclaim_page(void *owner, hpa_t page, enum level level)
{
    struct td *td = owner;
    /* The module reclaims nothing of a TD whose key is not free; td_destroy said why it is not. */
    if (td->hkid_assigned)
        return ERR_REFUSED;
    enum error error = page_reclaim(page, "a TD's memory");
    for (u64 i = 0; !error && i < level_pages(level); i++)
        page_take_back(page_at(page, i));
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
    .remove_leaf = remove_leaf,
    .unlink_table = unlink_table,
    .demote = demote,
    .promote = promote,
    .hold_vcpus = hold_vcpus,
    .release_vcpus = release_vcpus,
    .reclaim_page = reclaim_page,
    .read_entry = read_entry,
};
