/* SPDX-License-Identifier: MIT */
/* Memory operands of TDCALL: the module reads and writes where the guest could. */
#include "boot/vmx.h"
#include "tdx/soft/guest_memory.h"
#include "tdx/soft/tdcall.h"

/* Where an EPT violation's qualification has the rights of the entries. */
#define QUALIFICATION_RIGHTS_SHIFT 3

static u64 violation_qualification(u64 wanted, u64 given)
{
    return (wanted & ~given) | given << QUALIFICATION_RIGHTS_SHIFT;
}

/* The guest executes the TDCALL again after it has served its #VE. */
static void exception_report(struct tdcall *call, u64 address, u64 qualification)
{
    struct ve_report report = {
        .reason = EXIT_EPT_VIOLATION, .qualification = qualification, .gpa = address};
    (void)event_virtualization(call->run, &report);
    call->end = TDCALL_REPEATED;
}

static void violation_report(struct tdcall *call, u64 address, u64 qualification, u64 detail)
{
    (void)td_exit_ept_violation(call->run, address, qualification, detail);
    call->end = TDCALL_FAULTED;
}

/* A private violation is the VMM's, but for a pending page that the guest wants to hear of. */
static void private_report(struct tdcall *call, u64 address, u64 qualification, u64 entry)
{
    if (sept_entry_state(entry) != SEPT_PENDING)
        violation_report(call, address, qualification, TD_EXIT_DETAIL_NONE);
    else if (call->run->tdcs->td_ctls & TD_CTLS_PENDING_VE_DISABLE)
        violation_report(call, address, qualification, TD_EXIT_DETAIL_PENDING_EPT_VIOLATION);
    else
        exception_report(call, address, qualification);
}

void *tdcall_operand(struct tdcall *call, const struct tdcall_operand *operand, u64 *status)
{
    struct run *run = call->run;
    u64 address = operand->address;
    bool is_shared = address & gpa_shared_bit(run->tdcs);
    struct guest_translation at;

    *status = 0;
    if (address >> run->tdcs->gpa_bits || (is_shared && operand->is_private)) {
        *status = completion(TDX_OPERAND_INVALID, operand->operand);
        return NULL;
    }
    enum guest_access access = guest_access_walk(run, address, operand->rights, &at);
    u64 qualification = violation_qualification(operand->rights, at.rights);
    if (access == GUEST_ACCESS_GRANTED)
        return (u8 *)seam_page(at.host & ~PAGE_MASK) + (at.host & PAGE_MASK);
    if (!is_shared) {
        private_report(call, address, qualification, at.entry);
    } else if (access == GUEST_ACCESS_VE) {
        exception_report(call, address, qualification);
    } else if (access == GUEST_ACCESS_VIOLATION) {
        violation_report(call, address, qualification, TD_EXIT_DETAIL_NONE);
    } else {
        (void)td_exit_ept_misconfiguration(run, address);
        call->end = TDCALL_FAULTED;
    }
    return NULL;
}
