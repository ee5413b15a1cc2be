/* SPDX-License-Identifier: MIT */
#include "tdx/platform.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "boot/msr.h"
#include "boot/x86.h"
#include "tdx/seamcall.h"

#define SEAMRR_BASE_CONFIGURED (1ull << 3)
#define SEAMRR_MASK_LOCKED (1ull << 10)
#define SEAMRR_MASK_VALID (1ull << 11)
#define TME_ACTIVATE_KEYID_BITS_SHIFT 32
#define TME_ACTIVATE_KEYID_BITS_MASK 0xfu
#define KEYIDS_NEEDED 2 /* the global one, and one for a TD */
#define KEYIDS_MAX 2048

static enum error not_found(const char *reason)
{
    log_line("tdx: no Intel TDX module: %s", reason);
    return ERR_NOT_FOUND;
}

/*
 * The values decide, not that the reads do not fault: an emulator may answer an MSR that it does
 * not know with 0.
 */
static enum error keyids_find(struct private_keyids *keyids)
{
    u64 partitioning, activate;
    if (!rdmsr_try(MSR_MKTME_KEYID_PARTITIONING, &partitioning))
        return not_found("no KeyID partitioning");
    u64 shared = (u32)partitioning, private = partitioning >> 32;
    if (private < KEYIDS_NEEDED || shared + private > KEYIDS_MAX)
        return not_found("no KeyIDs are set aside for TDX");
    if (!rdmsr_try(MSR_TME_ACTIVATE, &activate))
        return not_found("no memory encryption");
    u32 bits = (u32)(activate >> TME_ACTIVATE_KEYID_BITS_SHIFT) & TME_ACTIVATE_KEYID_BITS_MASK;
    if (bits == 0 || (shared + private) >> bits != 0)
        return not_found("memory encryption has too few KeyID bits");
    keyids->first = (u16)(shared + 1);
    keyids->count = (u16) private;
    keyids->shift = machine()->physical_address_bits - bits;
    return OK;
}

enum error hardware_find(struct private_keyids *keyids)
{
    u64 base, mask;
    enum error error = keyids_find(keyids);
    if (error)
        return error;
    if (!rdmsr_try(MSR_SEAMRR_BASE, &base) || !rdmsr_try(MSR_SEAMRR_MASK, &mask) ||
        !(base & SEAMRR_BASE_CONFIGURED) || !(mask & SEAMRR_MASK_VALID) ||
        !(mask & SEAMRR_MASK_LOCKED))
        return not_found("the firmware configured no SEAM range");

    /* A harmless question. Any answer will do, as long as it is a module's. */
    struct tdx_regs regs = {};
    regs.gpr[GPR_RAX] = TDH_SYS_RD;
    regs.gpr[GPR_RDX] = MD_SYS_MAJOR_VERSION;
    tdx_entry = seamcall_hardware;
    bool carry = tdx_call(&regs);
    struct tdx_status status = {carry ? TDX_STATUS_NO_MODULE : regs.gpr[GPR_RAX]};
    if (tdx_status_is_unanswered(status))
        return not_found(tdx_status_name(status));
    return OK;
}
