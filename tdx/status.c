/* SPDX-License-Identifier: MIT */
#include "tdx/seamcall.h"

#include "boot/log.h"

#define WHERE_BYTES 64
#define CLASS_SHIFT 8
#define CLASS_MASK 0xffu

/* Bits 47:40 of a status whose low half is an operand id. */
enum status_class {
    CLASS_OPERAND = 1,
    CLASS_BUSY = 2,
    CLASS_PAGE = 3,
    CLASS_EPT = 0xb,
};

const char *tdx_status_name(struct tdx_status status)
{
    switch (status.raw) {
    case TDX_STATUS_NO_MODULE:
        return "NO_MODULE";
    case TDX_STATUS_SEAMCALL_GP:
        return "SEAMCALL_GP";
    case TDX_STATUS_SEAMCALL_UD:
        return "SEAMCALL_UD";
    }
    switch (tdx_status_code(status)) {
#define TDX_STATUS(status_, value) \
    case value:                    \
        return &#status_[sizeof "TDX_" - 1];
#include "tdx/abi/status.def"
#undef TDX_STATUS
    default:
        return "?";
    }
}

const char *tdh_leaf_name(u32 leaf)
{
    switch (leaf) {
#define TDH_LEAF(leaf_, number, name) \
    case number:                      \
        return name;
#include "tdx/abi/tdh_leaves.def"
#undef TDH_LEAF
    default:
        return "?";
    }
}

const char *tdx_operand_name(u32 operand)
{
    switch (operand) {
#define TDX_OPERAND(operand_, id) \
    case id:                      \
        return &#operand_[sizeof "OPERAND_" - 1];
#include "tdx/abi/operands.def"
#undef TDX_OPERAND
    default:
        return "?";
    }
}

bool tdx_status_is_busy(struct tdx_status status)
{
    switch (tdx_status_code(status)) {
    case TDX_OPERAND_BUSY:
    case TDX_OPERAND_BUSY_HOST_PRIORITY:
    case TDX_HOST_PRIORITY_BUSY_TIMEOUT:
    case TDX_PREVIOUS_TLB_EPOCH_BUSY:
    case TDX_SYS_BUSY:
    case TDX_INTERRUPTED_BUSY:
    case TDX_INTERRUPTED_RESUMABLE:
    case TDX_INTERRUPTED_RESTARTABLE:
    case TDX_INTERRUPTED_PAMT:
    case TDX_RND_NO_ENTROPY:
        return true;
    default:
        return false;
    }
}

bool tdx_status_is_unanswered(struct tdx_status status)
{
    return status.raw == TDX_STATUS_NO_MODULE || status.raw == TDX_STATUS_SEAMCALL_GP ||
           status.raw == TDX_STATUS_SEAMCALL_UD;
}

/* " (RCX)" where the low half names an operand, " (details 0x5)" where it says something else. */
static void details_write(struct tdx_status status, char out[WHERE_BYTES])
{
    u32 details = (u32)status.raw;
    u32 class = tdx_status_code(status) >> CLASS_SHIFT & CLASS_MASK;
    bool operand =
        class == CLASS_OPERAND ||
        (details != 0 && (class == CLASS_BUSY || class == CLASS_PAGE || class == CLASS_EPT));
    if (operand)
        format_string(out, WHERE_BYTES, " (%s)", tdx_operand_name(details));
    else if (details != 0)
        format_string(out, WHERE_BYTES, " (details 0x%x)", details);
    else
        out[0] = 0;
}

static void refusal_log(struct tdx_status status, enum tdh_leaf leaf, const char *where)
{
    char details[WHERE_BYTES];
    details_write(status, details);
    log_line("tdx: %s refused: %s%s at %s (status 0x%016llx)", tdh_leaf_name(leaf),
             tdx_status_name(status), details, where, (unsigned long long)status.raw);
}

enum error tdx_status_error(struct tdx_status status, enum tdh_leaf leaf, const char *where)
{
    if (!(status.raw & (TDX_STATUS_ERROR | TDX_STATUS_NON_RECOVERABLE)))
        return OK;
    if (tdx_status_is_busy(status))
        return ERR_BUSY;
    refusal_log(status, leaf, where);
    return ERR_REFUSED;
}

enum error tdx_status_error_final(struct tdx_status status, enum tdh_leaf leaf, const char *where)
{
    enum error error = tdx_status_error(status, leaf, where);
    if (error != ERR_BUSY)
        return error;
    refusal_log(status, leaf, where);
    return ERR_REFUSED;
}
