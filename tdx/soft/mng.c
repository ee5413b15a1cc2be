/* SPDX-License-Identifier: MIT */
/* A TD's life: MNG.CREATE, KEY.CONFIG, ADDCX, VPFLUSHDONE, KEY.FREEID, and its metadata. */
#include "tdx/soft/sept.h"

#include "boot/string.h"
#include "tdx/soft/checker.h"
#include "tdx/soft/system.h"

#define TDCX_MSR_BITMAPS 2
#define TDCX_SEPT_ROOT 3

u64 tdh_mng_create(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX], keyid = leaf->regs->gpr[GPR_RDX];
    if (!keyid_is_private(keyid))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    struct page_operand operand = {page, OPERAND_RCX, PT_NDA, LOCK_EXCLUSIVE};
    struct pamt_entry *entry;
    u64 status = page_lock(leaf, &operand, &entry);
    if (status)
        return status;
    if (!leaf_lock(leaf, &soft_system.keys_lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_KOT);
    if (soft_system.keyids[keyid].state != KEYID_FREE) {
        checker_report(SOFT_RULE_KEY_REUSED, "KeyID %llu", (unsigned long long)keyid);
        return completion(TDX_HKID_NOT_FREE, 0);
    }
    u64 uuid[4];
    for (u32 i = 0; i < ARRAY_LENGTH(uuid); i++)
        if (!seam_random(&uuid[i]))
            return completion(TDX_RND_NO_ENTROPY, 0);
    struct tdr *tdr = memset(seam_page(page), 0, PAGE_BYTES);
    tdr->hkid = (u16)keyid;
    tdr->lifecycle = TD_HKID_ASSIGNED;
    memcpy(tdr->uuid, uuid, sizeof uuid);
    pamt_set(entry, PT_TDR, 0);
    soft_system.keyids[keyid].state = KEYID_ASSIGNED;
    return 0;
}

u64 tdh_mng_key_config(struct leaf *leaf)
{
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_EXCLUSIVE, &td);
    if (status)
        return status;
    if (td.tdr->fatal)
        return completion(TDX_TD_FATAL, 0);
    if (td.tdr->lifecycle != TD_HKID_ASSIGNED)
        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);
    u64 mine = 1ull << platform_package();
    if (td.tdr->package_config_bitmap & mine)
        return completion(TDX_KEY_CONFIGURED, 0);
    td.tdr->package_config_bitmap |= mine;
    if (td.tdr->package_config_bitmap == packages_all())
        td.tdr->lifecycle = TD_KEYS_CONFIGURED;
    return 0;
}

u64 tdh_mng_addcx(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RDX], OPERAND_RDX, LOCK_EXCLUSIVE, &td);
    if (status)
        return status;
    if (td.tdr->fatal)
        return completion(TDX_TD_FATAL, 0);
    if (td.tdr->lifecycle != TD_KEYS_CONFIGURED)
        return completion(TDX_TD_KEYS_NOT_CONFIGURED, 0);
    u32 index = td.tdr->num_tdcx;
    if (index >= TDCX_PAGES_MAX)
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    struct page_operand operand = {page, OPERAND_RCX, PT_NDA, LOCK_EXCLUSIVE};
    struct pamt_entry *entry;
    status = page_lock(leaf, &operand, &entry);
    if (status)
        return status;
    if (td.tdcs && td.tdcs->op_state != TD_UNINITIALIZED)
        return completion(TDX_OP_STATE_INCORRECT, 0);
    td_take_page(&td, entry, page, PT_TDCX);
    if (index == TDCX_MSR_BITMAPS)
        memset(seam_page(page), 0xff, PAGE_BYTES);
    if (index == TDCX_SEPT_ROOT || index >= TDCX_PAGES_BASE)
        sept_table_fill_free(page);
    td.tdr->tdcx[index] = page;
    td.tdr->num_tdcx = index + 1;
    return 0;
}

u64 tdh_mng_vpflushdone(struct leaf *leaf)
{
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_EXCLUSIVE, &td);
    if (status)
        return status;
    if (!leaf_lock(leaf, &soft_system.keys_lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_KOT);
    if (td.tdr->lifecycle != TD_HKID_ASSIGNED && td.tdr->lifecycle != TD_KEYS_CONFIGURED)
        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);
    if (td.tdcs && td.tdcs->num_assoc_vcpus)
        return completion(TDX_FLUSHVP_NOT_DONE, 0);
    td.tdr->lifecycle = TD_BLOCKED;
    soft_system.keyids[td.tdr->hkid].state = KEYID_FLUSHED;
    soft_system.keyids[td.tdr->hkid].packages_to_flush = packages_all();
    return 0;
}

u64 tdh_mng_key_freeid(struct leaf *leaf)
{
    struct td td;
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_EXCLUSIVE, &td);
    if (status)
        return status;
    if (td.tdr->lifecycle != TD_BLOCKED)
        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);
    if (!leaf_lock(leaf, &soft_system.keys_lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_KOT);
    u64 packages = soft_system.keyids[td.tdr->hkid].packages_to_flush;
    if (packages) {
        checker_report(SOFT_RULE_KEY_UNFLUSHED, "KeyID %u, packages 0x%llx", td.tdr->hkid,
                       (unsigned long long)packages);
        return completion(TDX_WBCACHE_NOT_COMPLETE, 0);
    }
    checker_key_freed(td.tdr->hkid);
    soft_system.keyids[td.tdr->hkid].state = KEYID_FREE;
    td.tdr->lifecycle = TD_TEARDOWN;
    return 0;
}

u64 tdh_mng_key_reclaimid(struct leaf *leaf)
{
    (void)leaf;
    return 0;
}
