/* SPDX-License-Identifier: MIT */
/* VM exits of a guest: which are the module's, which become #VE, and which the VMM hears of. */
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/x86.h"
#include "tdx/soft/cpuid.h"
#include "tdx/soft/ept_violation.h"
#include "tdx/soft/msr.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/run.h"
#include "tdx/soft/vmcs_init.h"

#define REASON_BASIC_MASK 0xffffu
#define REASON_ENTRY_FAILURE (1u << 31)

#define PENDING_DEBUG_SINGLE_STEP (1ull << 14)

void instruction_skip(u64 len_bytes)
{
    u64 rip = seam_vmcs_read(VMCS_GUEST_RIP) + len_bytes;
    u64 interruptibility = seam_vmcs_read(VMCS_GUEST_INTERRUPTIBILITY);

    seam_vmcs_write(VMCS_GUEST_RIP, guest_is_64_bit() ? rip : (u32)rip);
    if (interruptibility & BLOCKED_BY_STI_OR_MOV_SS)
        seam_vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, interruptibility & ~BLOCKED_BY_STI_OR_MOV_SS);
    if (seam_vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_TF)
        seam_vmcs_write(VMCS_GUEST_PENDING_DEBUG,
                        seam_vmcs_read(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_SINGLE_STEP);
}

static u32 reason_basic(void)
{
    return (u32)seam_vmcs_read(VMCS_EXIT_REASON) & REASON_BASIC_MASK;
}

static enum outcome general_protection(void)
{
    event_exception_code(VECTOR_GP, 0);
    return OUTCOME_RESUME;
}

/* The guest asks the VMM itself, through TDG.VP.VMCALL. */
static enum outcome handle_as_ve(struct run *run)
{
    struct ve_report report = {
        .reason = reason_basic(),
        .qualification = seam_vmcs_read(VMCS_EXIT_QUALIFICATION),
    };
    return event_virtualization(run, &report);
}

static enum outcome handle_as_undefined(struct run *run)
{
    (void)run;
    event_exception(VECTOR_UD);
    return OUTCOME_RESUME;
}

static enum outcome handle_by_vmm(struct run *run)
{
    return td_exit_asynchronous(run, TDX_SUCCESS, reason_basic());
}

static enum outcome handle_triple_fault(struct run *run)
{
    return td_exit_fatal(run, TDX_NON_RECOVERABLE_VCPU, EXIT_TRIPLE_FAULT);
}

static enum outcome handle_rdpmc(struct run *run)
{
    (void)run;
    return general_protection();
}

static enum outcome handle_tdcall(struct run *run)
{
    if (!guest_is_64_bit() || guest_is_user_mode())
        return general_protection();
    return tdcall_handle(run);
}

static enum outcome handle_exception_or_nmi(struct run *run)
{
    u64 info = seam_vmcs_read(VMCS_EXIT_INTR_INFO);

    if ((info & INTR_TYPE_MASK) == INTR_TYPE_NMI)
        return handle_by_vmm(run);
    if ((info & INTR_VECTOR_MASK) == VECTOR_MC)
        return td_exit_fatal(run, TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE, EXIT_EXCEPTION_OR_NMI);
    if (instruction_recognise(run) == INSTRUCTION_TDCALL)
        return handle_tdcall(run);
    return handle_as_undefined(run);
}

/* `vector` is in service at this processor's APIC. */
static enum outcome interrupt_arrived(struct run *run, u8 vector)
{
    if (interrupts_is_notification(run->vcpu, vector)) {
        processor_interrupt_end();
        return OUTCOME_RESUME;
    }
    td_exit_asynchronous(run, TDX_SUCCESS, EXIT_EXTERNAL_INTERRUPT);
    run->regs->gpr[GPR_RCX] = 0;
    run->regs->gpr[GPR_R9] = INTR_VALID | INTR_TYPE_EXTERNAL | vector;
    return OUTCOME_EXIT;
}

static enum outcome handle_external_interrupt(struct run *run)
{
    return interrupt_arrived(run, seam_vmcs_read(VMCS_EXIT_INTR_INFO) & INTR_VECTOR_MASK);
}

static enum outcome handle_preemption_timer(struct run *run)
{
    u32 vector = processor_interrupt_acknowledge();

    seam_vmcs_write(VMCS_PREEMPTION_TIMER, INTERRUPT_POLL_TICKS);
    if (vector == PROCESSOR_NO_INTERRUPT)
        return OUTCOME_RESUME;
    return interrupt_arrived(run, (u8)vector);
}

static enum outcome handle_nmi_window(struct run *run)
{
    event_nmi_inject(run);
    return OUTCOME_RESUME;
}

/* The guest can take an interrupt, or is done with one: interrupts_prepare looks again. */
static enum outcome handle_interrupts_change(struct run *run)
{
    (void)run;
    return OUTCOME_RESUME;
}

#define CR_NUMBER_MASK 0xfu
#define CR_TYPE_SHIFT 4
#define CR_TYPE_MASK 3u
#define CR_TYPE_MOVE_TO 0
#define CR_TYPE_LMSW 3
#define CR_LMSW_SHIFT 16
#define CR_GPR_SHIFT 8
#define CR_GPR_MASK 0xfu

/* Of CR0: 28:19, 17 and 15:6, which a write leaves as they are. */
#define CR0_IGNORED 0x1ffaffc0ull
#define CR0_LMSW (CR0_MP | CR0_EM | CR0_TS)
#define CR4_CET (1ull << 23)

static bool bits_are_native(u64 value, u64 free, u32 fixed0_msr, u32 fixed1_msr)
{
    u64 fixed0 = processor_msr_read(fixed0_msr) & ~free;
    return !(fixed0 & ~value) && !(value & ~processor_msr_read(fixed1_msr));
}

/* A write exits for bits that are the module's: what no processor takes is #GP, the rest #VE. */
static enum outcome handle_cr0_write(struct run *run, u64 value)
{
    bool has_cet = seam_vmcs_read(VMCS_GUEST_CR4) & CR4_CET;
    if (!bits_are_native(value, CR0_PE | CR0_PG, MSR_VMX_CR0_FIXED0, MSR_VMX_CR0_FIXED1) ||
        (!(value & CR0_PE) && (value & CR0_PG)) || (has_cet && !(value & CR0_WP)))
        return general_protection();
    if (!(value & CR0_PE) || !(value & CR0_NE) || value & (CR0_NW | CR0_CD))
        return handle_as_ve(run);
    u64 kept = seam_vmcs_read(VMCS_GUEST_CR0) & CR0_IGNORED;
    seam_vmcs_write(VMCS_GUEST_CR0, (value & ~CR0_IGNORED) | kept);
    instruction_skip(seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    return OUTCOME_RESUME;
}

static enum outcome handle_cr4_write(struct run *run, u64 value)
{
    bool has_wp = seam_vmcs_read(VMCS_GUEST_CR0) & CR0_WP;
    if (!bits_are_native(value, CR4_VMXE, MSR_VMX_CR4_FIXED0, MSR_VMX_CR4_FIXED1) ||
        (value & vmcs_cr4_refused(run->tdcs)) || ((value & CR4_CET) && !has_wp))
        return general_protection();
    return handle_as_ve(run);
}

/* LMSW exits for the module's bits too, but changes none of them. */
static enum outcome handle_lmsw(u64 source)
{
    u64 cr0 = seam_vmcs_read(VMCS_GUEST_CR0);
    seam_vmcs_write(VMCS_GUEST_CR0, (cr0 & ~CR0_LMSW) | (source & CR0_LMSW));
    instruction_skip(seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    return OUTCOME_RESUME;
}

/* Of a TD that may be debugged the VMM hears; else it is the end of the TD. */
static enum outcome handle_unforeseen(struct run *run)
{
    u32 reason = (u32)seam_vmcs_read(VMCS_EXIT_REASON);
    if (run->tdcs->attributes & TD_ATTRIBUTE_DEBUG)
        return td_exit_asynchronous(run, TDX_SUCCESS, reason);
    log_line("soft: vCPU %u left its guest for an unforeseen reason: %u (%s)", run->vcpu->index,
             reason_basic(), exit_reason_name(reason_basic()));
    return td_exit_fatal(run, TDX_NON_RECOVERABLE_TD, reason);
}

static enum outcome handle_cr_access(struct run *run)
{
    u32 qualification = (u32)seam_vmcs_read(VMCS_EXIT_QUALIFICATION);
    u32 number = qualification & CR_NUMBER_MASK;
    u32 gpr = qualification >> CR_GPR_SHIFT & CR_GPR_MASK;
    u64 value = gpr == GPR_RSP ? seam_vmcs_read(VMCS_GUEST_RSP) : run->vcpu->gpr[gpr];

    switch (qualification >> CR_TYPE_SHIFT & CR_TYPE_MASK) {
    case CR_TYPE_MOVE_TO:
        if (number == 0)
            return handle_cr0_write(run, value);
        return number == 4 ? handle_cr4_write(run, value) : handle_unforeseen(run);
    case CR_TYPE_LMSW:
        return handle_lmsw(qualification >> CR_LMSW_SHIFT);
    default:
        return handle_unforeseen(run);
    }
}

#define NOTIFY_CONTEXT_INVALID 1ull

static enum outcome handle_notification(struct run *run)
{
    if (seam_vmcs_read(VMCS_EXIT_QUALIFICATION) & NOTIFY_CONTEXT_INVALID)
        return td_exit_fatal(run, TDX_NON_RECOVERABLE_TD, EXIT_NOTIFY);
    return handle_by_vmm(run);
}

#define XCR0_X87 (1ull << 0)
#define XCR0_SSE (1ull << 1)
#define XCR0_AVX (1ull << 2)
#define XCR0_AVX512 (7ull << 5)
#define XCR0_AMX (3ull << 17)
#define XCR0_DEFINED (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | 1ull << 9 | XCR0_AMX)

static bool xcr0_is_valid(u64 value, u64 allowed)
{
    u64 avx512 = value & XCR0_AVX512, amx = value & XCR0_AMX;

    if (!(value & XCR0_X87) || (value & ~allowed))
        return false;
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        return false;
    if (avx512 && (avx512 != XCR0_AVX512 || !(value & XCR0_AVX)))
        return false;
    return !amx || amx == XCR0_AMX;
}

static enum outcome handle_xsetbv(struct run *run)
{
    const u64 *gpr = run->vcpu->gpr;
    u64 value = (u32)gpr[GPR_RAX] | gpr[GPR_RDX] << 32;
    u64 allowed = run->tdcs->xfam & XCR0_DEFINED & processor_xfeatures();

    if ((u32)gpr[GPR_RCX] != 0 || !xcr0_is_valid(value, allowed))
        return general_protection();
    run->vcpu->xcr0 = value;
    processor_xcr0_write(value);
    instruction_skip(seam_vmcs_read(VMCS_EXIT_INSTRUCTION_LEN));
    return OUTCOME_RESUME;
}

static enum outcome (*const handlers[EXIT_REASON_LIMIT])(struct run *run) = {
    [EXIT_EXCEPTION_OR_NMI] = handle_exception_or_nmi,
    [EXIT_EXTERNAL_INTERRUPT] = handle_external_interrupt,
    [EXIT_TRIPLE_FAULT] = handle_triple_fault,
    [EXIT_INIT] = handle_by_vmm,
    [EXIT_SMI] = handle_by_vmm,
    [EXIT_INTERRUPT_WINDOW] = handle_interrupts_change,
    [EXIT_NMI_WINDOW] = handle_nmi_window,
    [EXIT_TASK_SWITCH] = handle_by_vmm,
    [EXIT_CPUID] = cpuid_handle,
    [EXIT_GETSEC] = handle_as_undefined,
    [EXIT_HLT] = handle_as_ve,
    [EXIT_INVD] = handle_as_ve,
    [EXIT_RDPMC] = handle_rdpmc,
    [EXIT_RSM] = handle_as_undefined,
    [EXIT_VMCALL] = handle_as_ve,
    [EXIT_VMCLEAR] = handle_as_undefined,
    [EXIT_VMLAUNCH] = handle_as_undefined,
    [EXIT_VMPTRLD] = handle_as_undefined,
    [EXIT_VMPTRST] = handle_as_undefined,
    [EXIT_VMREAD] = handle_as_undefined,
    [EXIT_VMRESUME] = handle_as_undefined,
    [EXIT_VMWRITE] = handle_as_undefined,
    [EXIT_VMXOFF] = handle_as_undefined,
    [EXIT_VMXON] = handle_as_undefined,
    [EXIT_CR_ACCESS] = handle_cr_access,
    [EXIT_IO] = handle_as_ve,
    [EXIT_RDMSR] = msr_read_handle,
    [EXIT_WRMSR] = msr_write_handle,
    [EXIT_MWAIT] = handle_as_ve,
    [EXIT_MONITOR] = handle_as_ve,
    [EXIT_VIRTUALIZED_EOI] = handle_interrupts_change,
    [EXIT_EPT_VIOLATION] = ept_violation_handle,
    [EXIT_EPT_MISCONFIGURATION] = ept_misconfiguration_handle,
    [EXIT_INVEPT] = handle_as_undefined,
    [EXIT_PREEMPTION_TIMER] = handle_preemption_timer,
    [EXIT_INVVPID] = handle_as_undefined,
    [EXIT_WBINVD] = handle_as_ve,
    [EXIT_XSETBV] = handle_xsetbv,
    [EXIT_APIC_WRITE] = handle_as_ve,
    [EXIT_VMFUNC] = handle_as_undefined,
    [EXIT_ENCLS] = handle_as_undefined,
    [EXIT_PCONFIG] = handle_as_ve,
    [EXIT_BUS_LOCK] = handle_by_vmm,
    [EXIT_NOTIFY] = handle_notification,
    [EXIT_SEAMCALL] = handle_as_undefined,
    [EXIT_TDCALL] = handle_tdcall,
};

enum outcome exit_handle(struct run *run)
{
    u32 reason = (u32)seam_vmcs_read(VMCS_EXIT_REASON);
    u32 basic = reason & REASON_BASIC_MASK;

    run->vcpu->last_exit_tsc = seam_tsc();
    if (reason & REASON_ENTRY_FAILURE) {
        log_line("soft: entry of vCPU %u failed: exit reason %u (%s), qualification %lx",
                 run->vcpu->index, basic, exit_reason_name(basic),
                 seam_vmcs_read(VMCS_EXIT_QUALIFICATION));
        return td_exit_fatal(run, TDX_NON_RECOVERABLE_TD, reason);
    }
    event_recover();
    if (basic < EXIT_REASON_LIMIT && handlers[basic])
        return handlers[basic](run);
    return handle_unforeseen(run);
}
