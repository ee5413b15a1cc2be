/* SPDX-License-Identifier: MIT */
#include "tdx/soft/objects.h"

#include "boot/log.h"
#include "tdx/soft/sept.h"
#include "tdx/soft/system.h"

struct leaf_row {
    leaf_handler *handler;
    u32 version_max;
    u32 op_states;
};

static const struct leaf_row leaf_rows[TDH_LEAF_LIMIT] = {
#define SOFT_LEAF(leaf, version, handler, states) [leaf] = {handler, version, states},
#include "tdx/soft/leaves.def"
#undef SOFT_LEAF
};

static _Atomic bool missing_was_logged[TDH_LEAF_LIMIT];

static const char *leaf_name(u64 leaf)
{
    switch (leaf) {
#define TDH_LEAF(enumerator, number, name) \
    case number:                           \
        return name;
#include "tdx/abi/tdh_leaves.def"
#undef TDH_LEAF
    default:
        return "no leaf";
    }
}

static void missing_log(u64 leaf)
{
    if (leaf < TDH_LEAF_LIMIT && !atomic_exchange(&missing_was_logged[leaf], true))
        log_line("soft: leaf %llu (%s) is not implemented", (unsigned long long)leaf,
                 leaf_name(leaf));
}

/* Before SYS.KEY.CONFIG has ended the bring-up. */
static bool leaf_is_for_bring_up(u64 leaf)
{
    switch (leaf) {
    case TDH_SYS_INFO:
    case TDH_SYS_RD:
    case TDH_SYS_RDALL:
    case TDH_SYS_INIT:
    case TDH_SYS_LP_INIT:
    case TDH_SYS_CONFIG:
    case TDH_SYS_KEY_CONFIG:
    case TDH_SYS_LP_SHUTDOWN:
    case TDH_SYS_UPDATE:
        return true;
    default:
        return false;
    }
}

/* Leaves that have versions look at theirs after they have cleared their outputs. */
static u64 version_refuse(struct leaf *leaf, u64 number)
{
    u64 *gpr = leaf->regs->gpr;
    switch (number) {
    case TDH_MEM_PAGE_PROMOTE:
    case TDH_MEM_SEPT_REMOVE:
        mem_clear_l2_pages(leaf);
        [[fallthrough]];
    case TDH_MEM_SEPT_ADD:
        gpr[GPR_RCX] = 0;
        gpr[GPR_RDX] = 0;
        break;
    case TDH_MNG_RD:
    case TDH_VP_RD:
        gpr[GPR_RDX] = ~0ull;
        gpr[GPR_R8] = 0;
        break;
    default:
        break;
    }
    return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
}

static u32 version_max(const struct leaf_row *row)
{
    bool is_newer = row->handler == tdh_vp_init;
    return is_newer && !feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM) ? 0 : row->version_max;
}

static u64 serve(struct leaf *leaf, u64 rax)
{
    u64 number = rax & TDX_LEAF_MASK;
    if (rax & TDX_LEAF_RESERVED)
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    const struct leaf_row *row = number < TDH_LEAF_LIMIT ? &leaf_rows[number] : NULL;
    bool is_there = row && row->handler;
    if (leaf->version && !(is_there && version_max(row)))
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    u32 state = soft_system.state;
    if (state == SYSTEM_SHUTDOWN && number != TDH_SYS_LP_SHUTDOWN)
        return completion(TDX_SYS_SHUTDOWN, 0);
    if (state != SYSTEM_READY && !leaf_is_for_bring_up(number))
        return completion(TDX_SYS_NOT_READY, 0);
    if (!is_there) {
        missing_log(number);
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    }
    if (leaf->version > version_max(row))
        return version_refuse(leaf, number);
    leaf->op_states = row->op_states;
    return row->handler(leaf);
}

void soft_dispatch(struct tdx_regs *regs)
{
    struct leaf leaf;
    leaf_begin(&leaf, regs);
    soft_system.lps_inside++;
    u64 status = serve(&leaf, regs->gpr[GPR_RAX]);
    leaf_unlock_all(&leaf);
    soft_system.lps_inside--;
    regs->gpr[GPR_RAX] = status;
}
