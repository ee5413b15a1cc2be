/* SPDX-License-Identifier: MIT */
/* RTMRs, and the reports that TDs show as evidence of themselves. */
#include "boot/string.h"
#include "boot/vmx.h"
#include "tdx/soft/report.h"
#include "tdx/soft/tdcall.h"

#define RTMR_OPERAND_ALIGN 64
#define REPORT_ALIGN 1024
#define REPORT_DATA_ALIGN 64

u64 tdg_mr_rtmr_extend(struct tdcall *call)
{
    struct tdcs *tdcs = call->run->tdcs;
    u64 address = call->gpr[GPR_RCX], index = call->gpr[GPR_RDX], status;
    struct sha384 sha;

    if (!is_aligned(address, RTMR_OPERAND_ALIGN))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    struct tdcall_operand operand = {address, OPERAND_RCX, EPT_READ, .is_private = true};
    const void *data = tdcall_operand(call, &operand, &status);
    if (!data)
        return status;
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

/* The report in a buffer of the module's: the guest's own is looked at last. */
static u64 report_prepare(struct tdcall *call, struct td_report *report)
{
    struct tdcs *tdcs = call->run->tdcs;
    struct tdcall_operand operand = {call->gpr[GPR_RDX], OPERAND_RDX, EPT_READ, false};
    u8 data[REPORT_DATA_BYTES];
    u64 status;

    const void *from = tdcall_operand(call, &operand, &status);
    if (!from)
        return status;
    memcpy(data, from, sizeof data);
    if (call->gpr[GPR_R8])
        return completion(TDX_OPERAND_INVALID, OPERAND_R8);
    if (!leaf_lock(call->leaf, &tdcs->rtmr_lock, LOCK_SHARED))
        return completion(TDX_OPERAND_BUSY, OPERAND_RTMR);
    if (!report_make(report, tdcs, data))
        return completion(TDX_RND_NO_ENTROPY, 0);
    leaf_unlock(call->leaf, &tdcs->rtmr_lock);
    return 0;
}

u64 tdg_mr_report(struct tdcall *call)
{
    struct tdcall_operand operand = {call->gpr[GPR_RCX], OPERAND_RCX, EPT_READ | EPT_WRITE, false};
    struct td_report report;

    if (!is_aligned(operand.address, REPORT_ALIGN))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    if (!is_aligned(call->gpr[GPR_RDX], REPORT_DATA_ALIGN))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    u64 status = report_prepare(call, &report);
    if (status || call->end != TDCALL_COMPLETED)
        return status;
    if (seam_guest_is_interrupted()) {
        call->end = TDCALL_REPEATED;
        return 0;
    }
    void *to = tdcall_operand(call, &operand, &status);
    if (to)
        memcpy(to, &report, sizeof report);
    return status;
}

u64 tdg_mr_verifyreport(struct tdcall *call)
{
    struct tdcall_operand operand = {call->gpr[GPR_RCX], OPERAND_RCX, EPT_READ, .is_private = true};
    u8 mac_struct[REPORT_MAC_STRUCT_BYTES];
    u64 status;

    if (!is_aligned(operand.address, sizeof mac_struct))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    const void *from = tdcall_operand(call, &operand, &status);
    if (!from)
        return status;
    memcpy(mac_struct, from, sizeof mac_struct);
    switch (report_verify(mac_struct)) {
    case REPORT_GENUINE:
        return 0;
    case REPORT_OF_OTHER_CPU:
        return completion(TDX_INVALID_CPUSVN, 0);
    case REPORT_NO_ENTROPY:
        return completion(TDX_RND_NO_ENTROPY, 0);
    default:
        return completion(TDX_INVALID_REPORTMACSTRUCT, 0);
    }
}
