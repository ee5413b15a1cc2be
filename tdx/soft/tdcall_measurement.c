/* SPDX-License-Identifier: MIT */
/* RTMRs and the report that a TD shows as evidence of itself. */
#include "boot/string.h"
#include "tdx/soft/guest_memory.h"
#include "tdx/soft/report.h"
#include "tdx/soft/tdcall.h"

#define RTMR_OPERAND_ALIGN 64
#define REPORT_ALIGN 1024
#define REPORT_DATA_ALIGN 64

static bool address_is_valid(const struct run *run, u64 address, u64 align_bytes)
{
    return is_aligned(address, align_bytes) && !(address >> run->tdcs->gpa_bits);
}

u64 tdg_mr_rtmr_extend(struct tdcall *call)
{
    struct tdcs *tdcs = call->run->tdcs;
    u64 address = call->gpr[GPR_RCX], index = call->gpr[GPR_RDX];
    struct sha384 sha;

    if (!address_is_valid(call->run, address, RTMR_OPERAND_ALIGN) ||
        (address & gpa_shared_bit(tdcs)))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    const void *data = tdcall_operand(call, address, EPT_VIOLATION_READ);
    if (!data)
        return 0;
    if (index >= RTMR_COUNT)
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (!leaf_lock(call->leaf, &tdcs->rtmr_lock, LOCK_EXCLUSIVE))
        return completion(TDX_OPERAND_BUSY, OPERAND_RTMR);
    sha384_start(&sha);
    sha384_update(&sha, tdcs->rtmr[index], SHA384_BYTES);
    sha384_update(&sha, data, SHA384_BYTES);
    sha384_finish(&sha, tdcs->rtmr[index]);
    return 0;
}

u64 tdg_mr_report(struct tdcall *call)
{
    struct tdcs *tdcs = call->run->tdcs;
    u8 data[REPORT_DATA_BYTES];
    struct td_report report;

    if (!address_is_valid(call->run, call->gpr[GPR_RCX], REPORT_ALIGN))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!address_is_valid(call->run, call->gpr[GPR_RDX], REPORT_DATA_ALIGN))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    const void *from = tdcall_operand(call, call->gpr[GPR_RDX], EPT_VIOLATION_READ);
    if (!from)
        return 0;
    /* A guest may keep its data inside the buffer that the report goes to. */
    memcpy(data, from, sizeof data);
    if (call->gpr[GPR_R8])
        return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    void *to = tdcall_operand(call, call->gpr[GPR_RCX], EPT_VIOLATION_WRITE);
    if (!to)
        return 0;
    if (!leaf_lock(call->leaf, &tdcs->rtmr_lock, LOCK_SHARED))
        return completion(TDX_OPERAND_BUSY, OPERAND_RTMR);
    if (!report_make(&report, tdcs, data))
        return completion(TDX_RND_NO_ENTROPY, 0);
    memcpy(to, &report, sizeof report);
    return 0;
}
