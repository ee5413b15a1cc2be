/* SPDX-License-Identifier: MIT */
/* Pages of a TD: ADD, AUG, REMOVE, RELOCATE. */
#include "tdx/soft/sept.h"

#include "boot/string.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

/* 4 KiB pages behind an entry of a level. */
static u64 pages_of(u32 level)
{
    return 1ull << TABLE_SHIFT * level;
}

static void measure_page(const struct td *td, u64 address)
{
    static const char name[] = "MEM.PAGE.ADD";
    u8 record[SHA384_BLOCK_BYTES] = {0};
    memcpy(record, name, sizeof name - 1);
    memcpy(record + 16, &address, sizeof address);
    sha384_update(&td_measured(td)->mrtd_context, record, sizeof record);
}

u64 tdh_mem_page_add(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 page = leaf->regs->gpr[GPR_R8], source = leaf->regs->gpr[GPR_R9];
    u64 status = td_lock(leaf, call.rdx, OPERAND_RDX, LOCK_EXCLUSIVE, &call.td);
    if (!status)
        status = td_check_state(leaf, &call.td, LOCK_NONE);
    if (!status)
        status = mem_check_operand(&call, (struct mem_shape){LEVEL_4K, LEVEL_4K, LOCK_NONE});
    if (status)
        return status;
    if (!sept_gpa_is_private(call.td.tdcs, call.rcx))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!sept_walk(&call.td, call.rcx, LEVEL_4K, &call.walk))
        return mem_entry_error(&call, TDX_EPT_WALK_FAILED);
    status = mem_check_event(&call, SEPT_EVENT_ADD);
    if (!status)
        status = operand_shared(source, PAGE_BYTES, OPERAND_R9);
    struct pamt_entry *entry = NULL;
    struct page_operand operand = {page, OPERAND_R8, PT_NDA, LOCK_EXCLUSIVE};
    if (!status)
        status = page_lock(leaf, &operand, &entry);
    if (status)
        return status;
    memcpy(seam_page(page), seam_page(platform_address(source)), PAGE_BYTES);
    pamt_set(entry, PT_REG, call.td.address);
    atomic_fetch_add(&call.td.tdr->chldcnt, 1);
    sept_entry_set(&call.walk, sept_entry_leaf(page, call.next));
    measure_page(&call.td, call.rcx);
    return 0;
}

static u64 aug_page_lock(struct leaf *leaf, u64 page, u32 level, struct pamt_entry **entry)
{
    if (level == LEVEL_4K) {
        struct page_operand operand = {page, OPERAND_R8, PT_NDA, LOCK_EXCLUSIVE};
        return page_lock(leaf, &operand, entry);
    }
    if (!is_aligned(page, PAGE_BYTES << TABLE_SHIFT * level) || platform_address(page) != page)
        return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    return pamt_lock_free(leaf, page, level, OPERAND_R8, entry);
}

u64 tdh_mem_page_aug(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 page = leaf->regs->gpr[GPR_R8];
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_4K, LEVEL_2M, LOCK_SHARED});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_AUG);
    struct pamt_entry *entry = NULL;
    if (!status)
        status = aug_page_lock(leaf, page, call.walk.level, &entry);
    if (status)
        return status;
    for (u64 i = 0; call.walk.level != LEVEL_4K && i < pages_of(call.walk.level); i++)
        checker_page_given(page + i * PAGE_BYTES);
    pamt_set(entry, PT_REG, call.td.address);
    atomic_fetch_add(&call.td.tdr->chldcnt, pages_of(call.walk.level));
    sept_entry_set(&call.walk, sept_entry_leaf(page, call.next));
    return 0;
}

u64 tdh_mem_page_remove(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_4K, LEVEL_1G, LOCK_SHARED});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_REMOVE);
    if (status)
        return status;
    struct pamt_entry *entry = mem_lock_owned(&call, LOCK_EXCLUSIVE);
    if (!entry)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    status = mem_check_tracked(&call, entry);
    if (status)
        return status;
    u64 page = sept_entry_address(call.walk.value);
    leaf->regs->gpr[GPR_RCX] = page;
    sept_entry_set(&call.walk, SEPT_ENTRY_FREE);
    pamt_free(entry);
    checker_page_released(page, call.walk.level, call.td.tdr->hkid);
    atomic_fetch_sub(&call.td.tdr->chldcnt, pages_of(call.walk.level));
    return 0;
}

u64 tdh_mem_page_relocate(struct leaf *leaf)
{
    struct mem_call call;
    mem_begin(&call, leaf);
    u64 page = leaf->regs->gpr[GPR_R8];
    u64 status = mem_lock_entry(&call, (struct mem_shape){LEVEL_4K, LEVEL_4K, LOCK_SHARED});
    if (!status)
        status = mem_check_event(&call, SEPT_EVENT_RELOCATE);
    if (status)
        return status;
    u64 old = sept_entry_address(call.walk.value);
    if (page == old)
        return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    struct pamt_entry *old_entry = mem_lock_owned(&call, LOCK_EXCLUSIVE), *entry;
    if (!old_entry)
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    status = mem_check_tracked(&call, old_entry);
    struct page_operand operand = {page, OPERAND_R8, PT_NDA, LOCK_EXCLUSIVE};
    if (!status)
        status = page_lock(leaf, &operand, &entry);
    if (status)
        return status;
    if (!sept_state_is_pending(call.next))
        memcpy(seam_page(page), seam_page(old), PAGE_BYTES);
    pamt_set(entry, PT_REG, call.td.address);
    sept_entry_set(&call.walk, sept_entry_leaf(page, call.next));
    pamt_free(old_entry);
    checker_page_released(old, LEVEL_4K, call.td.tdr->hkid);
    leaf->regs->gpr[GPR_RCX] = old;
    return 0;
}
