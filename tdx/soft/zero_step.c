/* SPDX-License-Identifier: MIT */
#include "tdx/soft/zero_step.h"

#include "tdx/soft/guest_memory.h"

#define NOTIFY_EPT_FAULTS (1ull << 0) /* of NOTIFY_ENABLES */

/* So many entries that only fault are still taken for chance. */
#define FAULTS_TOLERATED 6

void zero_step_forget(struct tdvps *vcpu)
{
    vcpu->fault_count = 0;
    vcpu->fault_page_count = 0;
}

void zero_step_enter(struct run *run)
{
    if (run->vcpu->fault_count)
        run->entry_rip = seam_vmcs_read(VMCS_GUEST_RIP);
}

void zero_step_leave(struct run *run)
{
    if (run->vcpu->fault_count && seam_vmcs_read(VMCS_GUEST_RIP) != run->entry_rip)
        zero_step_forget(run->vcpu);
}

void zero_step_count(struct run *run, u64 address)
{
    struct tdvps *vcpu = run->vcpu;
    u64 page = address & ~PAGE_MASK;

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

bool zero_step_is_suspected(const struct tdvps *vcpu)
{
    return vcpu->fault_page_count != 0;
}

static bool page_is_accessible(const struct run *run, u64 page)
{
    struct sept_walk walk;

    (void)sept_walk(&run->td, page, LEVEL_4K, &walk);
    return sept_entry_state(walk.value) == SEPT_MAPPED;
}

bool zero_step_is_served(struct run *run, u64 *missing)
{
    struct tdvps *vcpu = run->vcpu;

    for (u32 i = 0; i < vcpu->fault_page_count; i++) {
        if (!page_is_accessible(run, vcpu->fault_pages[i])) {
            *missing = vcpu->fault_pages[i];
            return false;
        }
    }
    zero_step_forget(vcpu);
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
