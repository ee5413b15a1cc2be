/* SPDX-License-Identifier: MIT */
/* The module's own life: SYS.INIT, LP.INIT, KEY.CONFIG, TDMR.INIT, SHUTDOWN. */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/platform_check.h"
#include "tdx/soft/system.h"

/* Pages of a TDMR whose metadata one TDMR.INIT call writes. */
#define TDMR_INIT_PAGES 1024

u64 tdh_sys_init(struct leaf *leaf)
{
    u64 attributes = leaf->regs->gpr[GPR_RCX];
    static const u8 outputs[] = {GPR_RCX, GPR_RDX, GPR_R8, GPR_R9, GPR_R10};
    for (u32 i = 0; i < sizeof outputs; i++)
        leaf->regs->gpr[outputs[i]] = 0;
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_EXCLUSIVE))
        return completion(TDX_SYS_BUSY, 0);
    if (attributes)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (soft_system.state != SYSTEM_INIT_PENDING)
        return completion(TDX_SYS_INIT_NOT_PENDING, 0);
    u64 status = platform_check();
    if (!status)
        soft_system.state = SYSTEM_INIT_DONE;
    return status;
}

u64 tdh_sys_lp_init(struct leaf *leaf)
{
    leaf->regs->gpr[GPR_RCX] = 0;
    leaf->regs->gpr[GPR_RDX] = 0;
    leaf->regs->gpr[GPR_R8] = 0;
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_SHARED))
        return completion(TDX_SYS_BUSY, 0);
    if (soft_system.state != SYSTEM_INIT_DONE)
        return completion(TDX_SYS_LP_INIT_NOT_PENDING, 0);
    u64 mine = 1ull << seam_lp();
    if (soft_system.lps_initialized & mine)
        return completion(TDX_SYS_LP_INIT_DONE, 0);
    u64 status = platform_lp_check();
    if (!status)
        atomic_fetch_or(&soft_system.lps_initialized, mine);
    return status;
}

u64 tdh_sys_key_config(struct leaf *leaf)
{
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_EXCLUSIVE))
        return completion(TDX_SYS_BUSY, 0);
    if (soft_system.state != SYSTEM_CONFIG_DONE)
        return completion(TDX_SYS_KEY_CONFIG_NOT_PENDING, 0);
    u64 mine = 1ull << platform_package();
    if (soft_system.packages_with_key & mine)
        return completion(TDX_KEY_CONFIGURED, 0);
    soft_system.packages_with_key |= mine;
    if (soft_system.packages_with_key == packages_all())
        soft_system.state = SYSTEM_READY;
    return 0;
}

static bool tdmr_page_is_reserved(const struct tdmr *tdmr, u64 address)
{
    for (u32 i = 0; i < tdmr->reserved_count; i++)
        if (address >= tdmr->reserved[i].start && address < tdmr->reserved[i].end)
            return true;
    return false;
}

static void tdmr_init_step(struct tdmr *tdmr)
{
    u64 start = tdmr->next, end = start + TDMR_INIT_PAGES * PAGE_BYTES;
    for (u32 level = LEVEL_2M; level <= LEVEL_1G; level++)
        for (u64 at = align_up(start, level_bytes((enum level)level)); at < end;
             at += level_bytes((enum level)level))
            memset(pamt_entry_at(tdmr, at, level), 0, sizeof(struct pamt_entry));
    for (u64 at = start; at < end && soft_system.has_dynamic_pamt; at += PAGE_BYTES)
        pamt_page_mark(tdmr, at, tdmr_page_is_reserved(tdmr, at));
    for (u64 at = start; at < end && !soft_system.has_dynamic_pamt; at += PAGE_BYTES) {
        struct pamt_entry *entry = pamt_entry_at(tdmr, at, LEVEL_4K);
        memset(entry, 0, sizeof *entry);
        entry->type = tdmr_page_is_reserved(tdmr, at) ? PT_RSVD : PT_NDA;
    }
    tdmr->next = end;
}

u64 tdh_sys_tdmr_init(struct leaf *leaf)
{
    u64 base = leaf->regs->gpr[GPR_RCX];
    leaf->regs->gpr[GPR_RDX] = 0;
    struct tdmr *tdmr = NULL;
    for (u32 i = 0; i < soft_system.tdmr_count; i++)
        if (soft_system.tdmrs[i].base == base)
            tdmr = &soft_system.tdmrs[i];
    if (!tdmr)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!leaf_lock(leaf, &tdmr->lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_RCX);
    if (tdmr->next >= tdmr->base + tdmr->size)
        return completion(TDX_TDMR_ALREADY_INITIALIZED, 0);
    tdmr_init_step(tdmr);
    leaf->regs->gpr[GPR_RDX] = align_down(tdmr->next, GIB);
    return 0;
}

u64 tdh_sys_lp_shutdown(struct leaf *leaf)
{
    (void)leaf;
    return 0;
}

/* The handoff version that the module writes is 0, and so is the oldest that it can. */
u64 tdh_sys_shutdown(struct leaf *leaf)
{
    if (leaf->regs->gpr[GPR_RCX])
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_EXCLUSIVE))
        return completion(TDX_SYS_BUSY, 0);
    soft_system.state = SYSTEM_SHUTDOWN;
    if (soft_system.lps_inside > 1) {
        soft_system.state = SYSTEM_READY;
        return completion(TDX_SYS_BUSY, 0);
    }
    return 0;
}

/* No module before this one left anything: there is no handoff data to go on from. */
u64 tdh_sys_update(struct leaf *leaf)
{
    if (!leaf_lock(leaf, &soft_system.lock, LOCK_EXCLUSIVE))
        return completion(TDX_SYS_BUSY, 0);
    if (soft_system.state != SYSTEM_INIT_DONE || soft_system.lps_initialized != lps_all())
        return completion(TDX_SYS_STATE_INCORRECT, 0);
    return completion(TDX_SYS_INVALID_HANDOFF, 0);
}
