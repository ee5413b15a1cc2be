/* SPDX-License-Identifier: MIT */
/* EPT violations: a private page that the VMM has to add or the guest to accept, or MMIO. */
#include "tdx/soft/ept_violation.h"

#include "boot/log.h"
#include "boot/x86.h"
#include "tdx/soft/guest_memory.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/zero_step.h"

#define PF_PRESENT (1u << 0)
#define PF_WRITE (1u << 1)
#define PF_USER (1u << 2)
#define PF_RESERVED (1u << 3)
#define PF_FETCH (1u << 4)

struct violation {
    u64 address;
    u64 qualification;
    u64 gla; /* 0 where the processor reports none */
};

static enum outcome inject_ve(struct run *run, const struct violation *violation)
{
    struct ve_report report = {
        .reason = EXIT_EPT_VIOLATION,
        .qualification = violation->qualification,
        .gla = violation->gla,
        .gpa = violation->address,
    };
    return event_virtualization(run, &report);
}

/* Address bits above the TD's guest physical width are reserved bits of its page tables. */
static enum outcome inject_reserved_bit_fault(const struct violation *violation)
{
    u32 error_code = PF_PRESENT | PF_RESERVED;
    if (violation->qualification & EPT_VIOLATION_WRITE)
        error_code |= PF_WRITE;
    if (violation->qualification & EPT_VIOLATION_EXECUTE)
        error_code |= PF_FETCH;
    if (guest_is_user_mode())
        error_code |= PF_USER;
    processor_cr2_write(violation->gla);
    event_exception_code(VECTOR_PF, error_code);
    return OUTCOME_RESUME;
}

static enum outcome private_violation(struct run *run, const struct violation *violation)
{
    struct sept_walk walk;
    u64 detail = TD_EXIT_DETAIL_NONE;

    (void)sept_walk(&run->td, violation->address, LEVEL_4K, &walk);
    if (sept_entry_state(walk.value) == SEPT_PENDING) {
        if (!(run->tdcs->td_ctls & TD_CTLS_PENDING_VE_DISABLE))
            return inject_ve(run, violation);
        detail = TD_EXIT_DETAIL_PENDING_EPT_VIOLATION;
    }
    zero_step_count(run, violation->address);
    return td_exit_ept_violation(run, violation->address, violation->qualification, detail);
}

/*
 * With the feature EPT-violation #VE the processor looks at the entry where the walk ended: the
 * guest hears of the violation itself unless the VMM set "suppress #VE" there.
 */
static bool shared_violation_is_guests(const struct run *run, const struct violation *violation)
{
    u64 eptp = shared_eptp(run);
    return eptp && !(ept_last_entry(eptp, violation->address) & EPT_SUPPRESS_VE) &&
           !run->vcpu->ve.valid && !event_is_queued();
}

enum outcome ept_violation_handle(struct run *run)
{
    struct violation violation = {
        .address = seam_vmcs_read(VMCS_GUEST_PHYSICAL_ADDRESS),
        .qualification = seam_vmcs_read(VMCS_EXIT_QUALIFICATION),
    };

    if (violation.qualification & EPT_VIOLATION_GLA_VALID)
        violation.gla = seam_vmcs_read(VMCS_GUEST_LINEAR_ADDRESS);
    if ((violation.qualification & EPT_VIOLATION_NMI_UNBLOCKED) && !event_is_queued())
        seam_vmcs_write(VMCS_GUEST_INTERRUPTIBILITY,
                        seam_vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKED_BY_NMI);
    if (violation.address >> run->tdcs->gpa_bits) {
        if (violation.qualification & EPT_VIOLATION_GLA_VALID)
            return inject_reserved_bit_fault(&violation);
        return td_exit_ept_violation(run, violation.address, violation.qualification, 0);
    }
    if (!(violation.address & gpa_shared_bit(run->tdcs)))
        return private_violation(run, &violation);
    if (shared_violation_is_guests(run, &violation))
        return inject_ve(run, &violation);
    return td_exit_ept_violation(run, violation.address, violation.qualification, 0);
}

enum outcome ept_misconfiguration_handle(struct run *run)
{
    u64 address = seam_vmcs_read(VMCS_GUEST_PHYSICAL_ADDRESS);

    if (!(address & gpa_shared_bit(run->tdcs))) {
        log_line("soft: the secure EPT is misconfigured at GPA %lx", address);
        return td_exit_fatal(run, TDX_NON_RECOVERABLE_TD, EXIT_EPT_MISCONFIGURATION);
    }
    return td_exit_ept_misconfiguration(run, address);
}
