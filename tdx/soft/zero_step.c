/* SPDX-License-Identifier: MIT */
#include "tdx/soft/zero_step.h"

#include "tdx/soft/guest_memory.h"

#define NOTIFY_EPT_FAULTS (1ull << 0) /* of NOTIFY_ENABLES */

/* So many faults at one instruction, with no page accepted in between, are taken for chance. */
#define FAULTS_TOLERATED 6

void zero_step_exit(struct tdvps *vcpu)
{
    if (vcpu->fault_count && seam_vmcs_read(VMCS_GUEST_RIP) != vcpu->fault_rip)
        zero_step_forget(vcpu);
}

void zero_step_skip(struct tdvps *vcpu, u64 len_bytes)
{
    vcpu->fault_rip += len_bytes;
}

void zero_step_count(struct run *run, u64 address)
{
    struct tdvps *vcpu = run->vcpu;
    u64 page = address & ~PAGE_MASK;

    vcpu->fault_rip = seam_vmcs_read(VMCS_GUEST_RIP);
    if (vcpu->fault_count < FAULTS_TOLERATED) {
        vcpu->fault_count++;
        return;
    }
    if (vcpu->fault_page_count == ZERO_STEP_PAGES_MAX)
        return;
    for (u32 i = 0; i < vcpu->fault_page_count; i++)
        if (vcpu->fault_pages[i] == page)
            return;
    vcpu->fault_pages[vcpu->fault_page_count++] = page;
}

void zero_step_forget(struct tdvps *vcpu)
{
    vcpu->fault_count = 0;
    vcpu->fault_page_count = 0;
}

bool zero_step_is_suspected(const struct tdvps *vcpu)
{
    return vcpu->fault_page_count != 0;
}

/*
 * Every entry of the secure EPT suppresses #VE: a pending page is missing even where the TD wants
 * to hear of it itself.
 */
static bool page_is_served(const struct run *run, u64 page)
{
    struct sept_walk walk;

    (void)sept_walk(&run->td, page, LEVEL_4K, &walk);
    return sept_entry_state(walk.value) == SEPT_MAPPED;
}

bool zero_step_is_served(const struct run *run, u64 *missing)
{
    const struct tdvps *vcpu = run->vcpu;

    for (u32 i = 0; i < vcpu->fault_page_count; i++) {
        if (!page_is_served(run, vcpu->fault_pages[i])) {
            *missing = vcpu->fault_pages[i];
            return false;
        }
    }
    return true;
}

void zero_step_notify(struct run *run)
{
    u64 qualification = seam_vmcs_read(VMCS_EXIT_QUALIFICATION);
    u64 address = seam_vmcs_read(VMCS_GUEST_PHYSICAL_ADDRESS);
    u64 blocking = seam_vmcs_read(VMCS_GUEST_INTERRUPTIBILITY);

    if (!(run->tdcs->notify_enables & NOTIFY_EPT_FAULTS) ||
        (u16)seam_vmcs_read(VMCS_EXIT_REASON) != EXIT_EPT_VIOLATION ||
        (address & gpa_shared_bit(run->tdcs)))
        return;
    if ((blocking & BLOCKED_BY_NMI) || (qualification & EPT_VIOLATION_NMI_UNBLOCKED) ||
        (seam_vmcs_read(VMCS_IDT_VECTORING_INFO) & INTR_VALID) || run->vcpu->ve.valid)
        return;
    struct ve_report report = {
        .reason = EXIT_EPT_VIOLATION, .qualification = qualification, .gpa = address};
    (void)event_virtualization(run, &report);
}
