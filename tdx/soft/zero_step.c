/* SPDX-License-Identifier: MIT */
#include "tdx/soft/zero_step.h"

/* So many faults at one RIP are still taken for chance. */
#define FAULTS_TOLERATED 6

void zero_step_count(struct run *run, u64 address)
{
    struct tdvps *vcpu = run->vcpu;
    u64 rip = seam_vmcs_read(VMCS_GUEST_RIP);
    u64 page = address & ~PAGE_MASK;

    if (rip != vcpu->last_fault_rip) {
        vcpu->last_fault_rip = rip;
        vcpu->fault_count = 0;
        vcpu->fault_page_count = 0;
    }
    if (vcpu->fault_count < FAULTS_TOLERATED)
        vcpu->fault_count++;
    if (vcpu->fault_count < FAULTS_TOLERATED || vcpu->fault_page_count == ZERO_STEP_PAGES_MAX)
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

bool zero_step_is_served(struct run *run, u64 *missing)
{
    struct tdvps *vcpu = run->vcpu;

    for (u32 i = 0; i < vcpu->fault_page_count; i++) {
        struct sept_walk walk;
        (void)sept_walk(&run->td, vcpu->fault_pages[i], LEVEL_4K, &walk);
        enum sept_state state = sept_entry_state(walk.value);
        if (state != SEPT_MAPPED && state != SEPT_PENDING) {
            *missing = vcpu->fault_pages[i];
            return false;
        }
    }
    vcpu->fault_count = 0;
    vcpu->fault_page_count = 0;
    return true;
}
