/* SPDX-License-Identifier: MIT */
#include "tdx/soft/objects.h"

#include "boot/assert.h"
#include "boot/string.h"
#include "tdx/soft/system.h"

static void td_open(u64 address, struct pamt_entry *entry, struct td *td)
{
    td->address = address;
    td->entry = entry;
    td->tdr = seam_page(address);
    td->tdcs =
        td->tdr->num_tdcx < TDCX_PAGES_BASE ? NULL : seam_page(td->tdr->tdcx[TDCS_PAGE_DATA]);
}

u64 td_lock(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
            struct td *td)
{
    struct page_operand page = {address, operand, PT_TDR, mode};
    struct pamt_entry *entry;
    u64 status = page_lock(leaf, &page, &entry);
    if (!status)
        td_open(address, entry, td);
    return status;
}

u64 td_check_state(struct leaf *leaf, const struct td *td, enum lock_mode mode)
{
    if (td->tdr->fatal)
        return completion(TDX_TD_FATAL, 0);
    if (td->tdr->lifecycle != TD_KEYS_CONFIGURED)
        return completion(TDX_TD_KEYS_NOT_CONFIGURED, 0);
    if (!td->tdcs)
        return completion(TDX_TDCS_NOT_ALLOCATED, 0);
    if (!leaf_lock(leaf, &td->tdcs->op_state_lock, mode))
        return completion(TDX_OPERAND_BUSY, OPERAND_OP_STATE);
    if (!(leaf->op_states & 1u << td->tdcs->op_state))
        return completion(TDX_OP_STATE_INCORRECT, 0);
    return 0;
}

struct tdcs_measured *td_measured(const struct td *td)
{
    return seam_page(td->tdr->tdcx[TDCS_PAGE_MEASURED]);
}

u64 td_msr_bitmaps_address(const struct td *td)
{
    return td->tdr->tdcx[TDCS_PAGE_MSR_BITMAP];
}

void *td_msr_bitmaps(const struct td *td)
{
    return seam_page(td_msr_bitmaps_address(td));
}

u64 td_sept_root(const struct td *td)
{
    return td->tdr->tdcx[TDCS_PAGE_SEPT_ROOT];
}

void td_make_fatal(const struct td *td)
{
    td->tdr->fatal = true;
}

u64 vcpu_lock(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
              struct tdvps **vcpu, struct td *td)
{
    struct page_operand page = {address, operand, PT_TDVPR, mode};
    return vcpu_lock_both(leaf, &page, LOCK_SHARED, vcpu, td);
}

u64 vcpu_lock_both(struct leaf *leaf, const struct page_operand *page, enum lock_mode td_mode,
                   struct tdvps **vcpu, struct td *td)
{
    struct pamt_entry *entry;
    u64 status = page_lock(leaf, page, &entry);
    if (status)
        return status;
    *vcpu = seam_page(page->address);
    u64 owner = pamt_owner(entry);
    struct pamt_walk walk;
    status = pamt_walk(leaf, owner, OPERAND_TDR, td_mode, &walk);
    if (status)
        return status;
    ASSERT(walk.entry->type == PT_TDR);
    td_open(owner, walk.entry, td);
    return 0;
}

void td_take_page(const struct td *td, struct pamt_entry *entry, u64 address, enum pamt_type type)
{
    memset(seam_page(address), 0, PAGE_BYTES);
    pamt_set(entry, type, td->address);
    atomic_fetch_add(&td->tdr->chldcnt, 1);
}

bool epoch_enter(struct tdcs *tdcs, u64 *vcpu_epoch)
{
    if (!trylock_share(&tdcs->epoch_lock))
        return false;
    *vcpu_epoch = tdcs->td_epoch;
    atomic_fetch_add(&tdcs->epoch_refcount[*vcpu_epoch & 1], 1);
    trylock_unshare(&tdcs->epoch_lock);
    return true;
}

void epoch_leave(struct tdcs *tdcs, u64 vcpu_epoch)
{
    atomic_fetch_sub(&tdcs->epoch_refcount[vcpu_epoch & 1], 1);
}
