/* SPDX-License-Identifier: MIT */
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

#include "boot/x86.h"
#include "tdx/soft/cpuid.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/zero_step.h"
#include "tests/soft/processor_model.h"

#define VE_INJECTED (INTR_VALID | INTR_TYPE_EXCEPTION | VECTOR_VE)
#define DF_INJECTED (INTR_VALID | INTR_TYPE_EXCEPTION | INTR_HAS_ERROR_CODE | VECTOR_DF)
#define GP_INJECTED (INTR_VALID | INTR_TYPE_EXCEPTION | INTR_HAS_ERROR_CODE | VECTOR_GP)
#define PF_INJECTED (INTR_VALID | INTR_TYPE_EXCEPTION | INTR_HAS_ERROR_CODE | VECTOR_PF)
#define SHARED_BIT (1ull << 47)

static struct run run;
static u64 *const vmcs = processor_model.vmcs;

/* TDCALL has its own tests: the conformance traces. */
enum outcome tdcall_handle(struct run *r)
{
    return r ? OUTCOME_EXIT : OUTCOME_RESUME;
}

static int fresh(void **state)
{
    (void)state;
    processor_model_reset(&run);
    return 0;
}

static int done(void **state)
{
    (void)state;
    host_memory_destroy();
    return 0;
}

static enum outcome exits(u32 reason)
{
    vmcs[VMCS_EXIT_REASON] = reason;
    return exit_handle(&run);
}

static u64 injected(void)
{
    return vmcs[VMCS_ENTRY_INTR_INFO];
}

static u64 configure(u32 index, struct cpuid_values wanted, u64 *where)
{
    static struct td_params params;
    params = (struct td_params){.xfam = 3, .tsc_frequency = 4, .max_vcpus = 4};
    params.cpuid[index] = wanted;
    *where = 0;
    return cpuid_table_configure(run.measured, &params, where);
}

static void exits_with_cpuid(u32 leaf, u32 subleaf)
{
    run.vcpu->gpr[GPR_RAX] = leaf;
    run.vcpu->gpr[GPR_RCX] = subleaf;
    assert_int_equal(exits(EXIT_CPUID), OUTCOME_RESUME);
}

static void hlt_becomes_a_ve_and_rip_stays(void **state)
{
    (void)state;
    vmcs[VMCS_GUEST_RIP] = 0x1000;
    vmcs[VMCS_EXIT_QUALIFICATION] = 5;
    assert_int_equal(exits(EXIT_HLT), OUTCOME_RESUME);
    assert_int_equal(injected(), VE_INJECTED);
    assert_int_equal(run.vcpu->ve.reason, EXIT_HLT);
    assert_int_equal(run.vcpu->ve.qualification, 5);
    assert_int_equal(run.vcpu->ve.instruction_length, 2);
    assert_int_equal(vmcs[VMCS_GUEST_RIP], 0x1000);
    assert_true(vmcs[VMCS_GUEST_RFLAGS] & RFLAGS_RF);
}

static void a_second_ve_before_the_first_was_fetched_is_a_double_fault(void **state)
{
    (void)state;
    (void)exits(EXIT_HLT);
    (void)exits(EXIT_IO);
    assert_int_equal(injected(), DF_INJECTED);
    assert_int_equal(run.vcpu->ve.reason, EXIT_HLT);
}

static void an_interrupted_delivery_is_repeated(void **state)
{
    (void)state;
    vmcs[VMCS_IDT_VECTORING_INFO] = INTR_VALID | INTR_TYPE_EXTERNAL | INTR_NMI_UNBLOCKING | 0x41;
    assert_int_equal(exits(EXIT_EPT_VIOLATION), OUTCOME_EXIT);
    assert_int_equal(injected(), INTR_VALID | INTR_TYPE_EXTERNAL | 0x41);
}

static void nmi_waits_for_the_ve_report_to_be_fetched(void **state)
{
    (void)state;
    run.vcpu->pend_nmi = true;
    run.vcpu->ve.valid = ~0u;
    event_nmi_prepare(&run);
    assert_int_equal(injected(), 0);
    assert_false(vmcs[VMCS_PROC_CONTROLS] & PROC_NMI_WINDOW);
    run.vcpu->ve.valid = 0;
    event_nmi_prepare(&run);
    assert_int_equal(injected(), 0);
    assert_true(vmcs[VMCS_PROC_CONTROLS] & PROC_NMI_WINDOW);
    assert_int_equal(exits(EXIT_NMI_WINDOW), OUTCOME_RESUME);
    assert_int_equal(injected(), INTR_VALID | INTR_TYPE_NMI | VECTOR_NMI);
    event_nmi_prepare(&run);
    assert_false(vmcs[VMCS_PROC_CONTROLS] & PROC_NMI_WINDOW);
    assert_false(run.vcpu->pend_nmi);
}

static void cpuid_shows_a_td_with_x2apic_and_without_la57(void **state)
{
    (void)state;
    u64 where;
    assert_int_equal(configure(5, (struct cpuid_values){0, 0, 1u << 16, 0}, &where), 0);
    exits_with_cpuid(0x21, 0);
    assert_int_equal(run.vcpu->gpr[GPR_RBX], 0x65746e49);
    exits_with_cpuid(1, 0);
    assert_int_equal(run.vcpu->gpr[GPR_RCX] & (1u << 31 | 1u << 21 | 1u << 3), 1u << 31 | 1u << 21);
    exits_with_cpuid(7, 0);
    assert_false(run.vcpu->gpr[GPR_RCX] & (1u << 16));
    exits_with_cpuid(0x15, 0);
    assert_int_equal(run.vcpu->gpr[GPR_RBX], 4);
    assert_int_equal(vmcs[VMCS_GUEST_RIP], 8);
}

static void cpuid_of_a_hypervisor_raises_ve_and_one_above_the_range_does_not(void **state)
{
    (void)state;
    u64 where;
    assert_int_equal(configure(0, (struct cpuid_values){0}, &where), 0);
    exits_with_cpuid(0x80000009, 0);
    assert_int_equal(injected(), 0);
    exits_with_cpuid(0x40000000, 0);
    assert_int_equal(injected(), VE_INJECTED);
    assert_int_equal(run.vcpu->ve.reason, EXIT_CPUID);
}

static void cpuid_configuration_outside_its_masks_is_refused(void **state)
{
    (void)state;
    u64 where;
    u64 refused = completion(TDX_OPERAND_INVALID, OPERAND_CPUID_CONFIG);
    assert_int_equal(configure(5, (struct cpuid_values){1, 0, 0, 0}, &where), refused);
    assert_int_equal(where, 7);
    /* HLE without RTM. */
    assert_int_equal(configure(5, (struct cpuid_values){0, 1u << 4, 0, 0}, &where), refused);
    /* Another family than the platform's. */
    assert_int_equal(configure(0, (struct cpuid_values){1, 0, 0, 0}, &where), refused);
    assert_int_equal(where, 0xffffffff00000001ull);
}

static void msr_bitmap_passes_what_the_table_passes(void **state)
{
    (void)state;
    u8 page[PAGE_BYTES];
    msr_bitmap_build(run.tdcs, page);
    assert_false(page[0x10 / 8] >> (0x10 % 8) & 1);
    assert_true(page[2048 + 0x10 / 8] >> (0x10 % 8) & 1);
    assert_false(page[2048 + 0x80b / 8] >> (0x80b % 8) & 1);
    assert_true(page[0x1b / 8] >> (0x1b % 8) & 1);
    assert_false(page[3072 + 0x101 / 8] >> (0x101 % 8) & 1);
    assert_true(page[3072 + 0x80 / 8] >> (0x80 % 8) & 1);
    assert_true(page[0xc1 / 8] >> (0xc1 % 8) & 1);
    run.tdcs->attributes = TD_ATTRIBUTE_PERFMON;
    msr_bitmap_build(run.tdcs, page);
    assert_false(page[0xc1 / 8] >> (0xc1 % 8) & 1);
}

static void writes_msr(u32 index, u64 value)
{
    run.vcpu->gpr[GPR_RCX] = index;
    run.vcpu->gpr[GPR_RAX] = (u32)value;
    run.vcpu->gpr[GPR_RDX] = value >> 32;
    run.vcpu->ve.valid = 0;
    assert_int_equal(exits(EXIT_WRMSR), OUTCOME_RESUME);
}

static void msr_rules_hold_at_exits(void **state)
{
    (void)state;
    u64 where;
    vmcs[VMCS_GUEST_EFER] = EFER_LME | EFER_NXE;
    writes_msr(0xc0000080, EFER_LME | EFER_NXE | EFER_SCE);
    assert_int_equal(injected(), 0);
    assert_int_equal(vmcs[VMCS_GUEST_EFER], EFER_LME | EFER_NXE | EFER_SCE);
    writes_msr(0xc0000080, EFER_LME);
    assert_int_equal(injected(), VE_INJECTED);
    writes_msr(0x8c, 0);
    assert_int_equal(injected(), GP_INJECTED);
    writes_msr(0x1b, 0);
    assert_int_equal(injected(), VE_INJECTED);
    writes_msr(0xda0, 1ull << 11);
    assert_int_equal(injected(), GP_INJECTED);
    /* The deadline timer is there if CPUID says so. */
    assert_int_equal(configure(0, (struct cpuid_values){0}, &where), 0);
    writes_msr(0x6e0, 1);
    assert_int_equal(injected(), GP_INJECTED);
    assert_int_equal(configure(0, (struct cpuid_values){0, 0, 1u << 24, 0}, &where), 0);
    writes_msr(0x6e0, 1);
    assert_int_equal(injected(), VE_INJECTED);
    /* A self-IPI is a request, which the guest's IRR shows. */
    writes_msr(0x83f, 0x51);
    assert_int_equal(interrupts_irr(run.vcpu, 2), 1u << 17);
    run.vcpu->gpr[GPR_RCX] = 0x822;
    assert_int_equal(exits(EXIT_RDMSR), OUTCOME_RESUME);
    assert_int_equal(run.vcpu->gpr[GPR_RAX], 1u << 17);
    writes_msr(0x83f, 0x151);
    assert_int_equal(injected(), GP_INJECTED);
}

static void writes_cr(u32 number, u64 value)
{
    vmcs[VMCS_ENTRY_INTR_INFO] = 0;
    run.vcpu->ve.valid = 0;
    vmcs[VMCS_EXIT_QUALIFICATION] = number | GPR_RBX << 8;
    run.vcpu->gpr[GPR_RBX] = value;
    assert_int_equal(exits(EXIT_CR_ACCESS), OUTCOME_RESUME);
}

static void a_write_to_cr4_is_a_ve_and_of_a_feature_that_the_td_has_not_a_gp(void **state)
{
    (void)state;
    vmcs[VMCS_GUEST_CR4] = CR4_MCE | CR4_VMXE;
    writes_cr(4, CR4_PAE);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(4, CR4_MCE | CR4_VMXE);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(4, CR4_MCE | 1ull << 22);
    assert_int_equal(injected(), GP_INJECTED);
    run.tdcs->xfam |= 1 << 9;
    writes_cr(4, 1ull << 22);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(4, CR4_MCE | 1ull << 23);
    assert_int_equal(injected(), GP_INJECTED);
    /* Control-flow enforcement wants CR0.WP. */
    run.tdcs->xfam |= 3 << 11;
    vmcs[VMCS_GUEST_CR0] = 0;
    writes_cr(4, CR4_MCE | 1ull << 23);
    assert_int_equal(injected(), GP_INJECTED);
    vmcs[VMCS_GUEST_CR0] = CR0_WP;
    writes_cr(4, CR4_MCE | 1ull << 23);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(4, CR4_MCE | 1ull << 25);
    assert_int_equal(injected(), GP_INJECTED);
    run.tdcs->xfam |= 1 << 14;
    writes_cr(4, CR4_MCE | 1ull << 25);
    assert_int_equal(injected(), VE_INJECTED);
    assert_int_equal(vmcs[VMCS_GUEST_CR4], CR4_MCE | CR4_VMXE);
}

static void a_write_to_cr0_keeps_what_is_the_modules(void **state)
{
    (void)state;
    u64 running = CR0_PE | CR0_NE | CR0_WP | CR0_PG;
    vmcs[VMCS_GUEST_CR0] = running;
    writes_cr(0, CR0_PG | CR0_NE);
    assert_int_equal(injected(), GP_INJECTED);
    writes_cr(0, CR0_NE);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(0, running | CR0_CD);
    assert_int_equal(injected(), VE_INJECTED);
    writes_cr(0, running & ~CR0_NE);
    assert_int_equal(injected(), VE_INJECTED);
    vmcs[VMCS_GUEST_CR4] = 1ull << 23;
    writes_cr(0, running & ~CR0_WP);
    assert_int_equal(injected(), GP_INJECTED);
    assert_int_equal(vmcs[VMCS_GUEST_CR0], running);
    writes_cr(0, running | CR0_TS | 1 << 6);
    assert_int_equal(injected(), 0);
    assert_int_equal(vmcs[VMCS_GUEST_CR0], running | CR0_TS);
    vmcs[VMCS_EXIT_QUALIFICATION] = 3 << 4 | (u64)(CR0_MP | CR0_NE) << 16;
    assert_int_equal(exits(EXIT_CR_ACCESS), OUTCOME_RESUME);
    assert_int_equal(vmcs[VMCS_GUEST_CR0], running | CR0_MP);
}

static void what_is_unforeseen_ends_a_td_unless_it_is_debugged(void **state)
{
    (void)state;
    run.tdcs->attributes = TD_ATTRIBUTE_DEBUG;
    assert_int_equal(exits(EXIT_MONITOR_TRAP), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], EXIT_MONITOR_TRAP);
    assert_false(run.td.tdr->fatal);
    vmcs[VMCS_EXIT_QUALIFICATION] = 0;
    assert_int_equal(exits(EXIT_NOTIFY), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], EXIT_NOTIFY);
    vmcs[VMCS_EXIT_QUALIFICATION] = 1;
    assert_int_equal(exits(EXIT_NOTIFY), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX] >> 32, TDX_NON_RECOVERABLE_TD);
}

static void xsetbv_takes_what_xfam_has(void **state)
{
    (void)state;
    run.vcpu->gpr[GPR_RAX] = 3;
    assert_int_equal(exits(EXIT_XSETBV), OUTCOME_RESUME);
    assert_int_equal(processor_model.xcr0, 3);
    run.vcpu->gpr[GPR_RAX] = 7;
    assert_int_equal(exits(EXIT_XSETBV), OUTCOME_RESUME);
    assert_int_equal(injected(), GP_INJECTED);
    assert_int_equal(processor_model.xcr0, 3);
}

static void an_interrupt_exits_but_a_notification_does_not(void **state)
{
    (void)state;
    run.vcpu->posted_enabled = true;
    run.vcpu->posted_vector = 0xf2;
    vmcs[VMCS_EXIT_INTR_INFO] = INTR_VALID | 0xf2;
    assert_int_equal(exits(EXIT_EXTERNAL_INTERRUPT), OUTCOME_RESUME);
    assert_int_equal(processor_model.interrupts_ended, 1);
    vmcs[VMCS_EXIT_INTR_INFO] = INTR_VALID | 0xf1;
    assert_int_equal(exits(EXIT_EXTERNAL_INTERRUPT), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], EXIT_EXTERNAL_INTERRUPT);
    assert_int_equal(run.regs->gpr[GPR_R9], INTR_VALID | 0xf1);
    assert_int_equal(processor_model.interrupts_ended, 1);
}

static void the_timer_finds_an_interrupt_that_caused_no_exit(void **state)
{
    (void)state;
    assert_int_equal(exits(EXIT_PREEMPTION_TIMER), OUTCOME_RESUME);
    processor_model.interrupt_waiting = 0x55;
    assert_int_equal(exits(EXIT_PREEMPTION_TIMER), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], EXIT_EXTERNAL_INTERRUPT);
    assert_int_equal(run.regs->gpr[GPR_R9], INTR_VALID | 0x55);
    assert_int_not_equal(vmcs[VMCS_PREEMPTION_TIMER], 0);
}

static void posted_requests_are_the_vcpu_s(void **state)
{
    (void)state;
    u64 descriptor = HOST_MEMORY_START + 40 * PAGE_BYTES;
    u32 *posted = seam_page(descriptor);

    run.vcpu->posted_enabled = true;
    run.vcpu->posted_descriptor = descriptor;
    vmcs[VMCS_GUEST_INTR_STATUS] = 0x3130;
    posted[2] = 1u << 1;
    posted[1] = 1u << 3;
    interrupts_take_posted(run.vcpu); /* no notification outstanding: nothing happens */
    assert_int_equal(posted[2], 1u << 1);
    posted[8] = 1;
    interrupts_take_posted(run.vcpu);
    assert_int_equal(posted[1] | posted[2] | posted[8], 0);
    assert_int_equal(interrupts_irr(run.vcpu, 1), 1u << 3);
    assert_int_equal(interrupts_irr(run.vcpu, 2), 1u << 1);
    assert_true(interrupts_is_deliverable(run.vcpu));
}

static u32 *irr(u32 word)
{
    return (u32 *)((u8 *)seam_page(run.vcpu->pages[2]) + 0x200 + 0x10 * word);
}

/*
 * What the next entry shows the processor of requests for vectors 0x41 and 0x23, and the exits that
 * are asked for; then the guest comes back without having taken it.
 */
static void request_is_shown(bool shown, bool window, bool eoi_exits)
{
    interrupts_prepare(run.vcpu);
    assert_int_equal(vmcs[VMCS_GUEST_INTR_STATUS], shown ? 0x3141 : 0x3100);
    assert_int_equal(*irr(2), shown ? 1u << 1 : 0);
    assert_int_equal(*irr(1), 0); /* never a second one */
    assert_int_equal(vmcs[VMCS_PROC_CONTROLS] & PROC_INTERRUPT_WINDOW,
                     window ? PROC_INTERRUPT_WINDOW : 0);
    for (u32 field = VMCS_EOI_EXIT_BITMAP0; field <= VMCS_EOI_EXIT_BITMAP3; field += 2)
        assert_true(vmcs[field] == (eoi_exits ? ~0ull : 0));
    interrupts_collect(run.vcpu);
    assert_int_equal(vmcs[VMCS_GUEST_INTR_STATUS], 0x3100);
    assert_int_equal(*irr(2), 0);
    assert_int_equal(interrupts_irr(run.vcpu, 2), 1u << 1);
}

static void a_request_is_shown_where_the_guest_can_take_it(void **state)
{
    (void)state;
    u32 *priority = (u32 *)((u8 *)seam_page(run.vcpu->pages[2]) + 0xa0);
    vmcs[VMCS_GUEST_INTR_STATUS] = 0x3100;
    interrupts_prepare(run.vcpu); /* none */
    assert_int_equal(vmcs[VMCS_PROC_CONTROLS] & PROC_INTERRUPT_WINDOW, 0);

    interrupts_request(run.vcpu, 15); /* none */
    interrupts_request(run.vcpu, 0x41);
    interrupts_request(run.vcpu, 0x23);
    vmcs[VMCS_GUEST_RFLAGS] = 0;
    request_is_shown(false, true, false);
    assert_int_equal(exits(EXIT_INTERRUPT_WINDOW), OUTCOME_RESUME);
    vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
    request_is_shown(true, false, false);
    vmcs[VMCS_GUEST_INTERRUPTIBILITY] = 1; /* behind STI */
    request_is_shown(false, true, false);
    vmcs[VMCS_GUEST_INTERRUPTIBILITY] = 0;
    event_exception(VECTOR_VE);
    request_is_shown(false, true, false);
    vmcs[VMCS_ENTRY_INTR_INFO] = 0;
    *priority = 0x40; /* one of its class is in service: its end is what there is to wait for */
    assert_false(interrupts_is_deliverable(run.vcpu));
    request_is_shown(false, false, true);
    assert_int_equal(exits(EXIT_VIRTUALIZED_EOI), OUTCOME_RESUME);
    *priority = 0x30;
    request_is_shown(true, false, false);
    /* The guest takes it: the processor clears its bit, and the next is shown. */
    interrupts_prepare(run.vcpu);
    *irr(2) = 0;
    vmcs[VMCS_GUEST_INTR_STATUS] = 0x4100;
    *priority = 0;
    interrupts_collect(run.vcpu);
    interrupts_prepare(run.vcpu);
    assert_int_equal(vmcs[VMCS_GUEST_INTR_STATUS], 0x4123);
    assert_int_equal(interrupts_irr(run.vcpu, 2), 0);
}

static enum outcome violates(u64 address, u64 qualification)
{
    vmcs[VMCS_GUEST_PHYSICAL_ADDRESS] = address;
    vmcs[VMCS_GUEST_LINEAR_ADDRESS] = 0x7777;
    vmcs[VMCS_EXIT_QUALIFICATION] = qualification;
    return exits(EXIT_EPT_VIOLATION);
}

static void a_missing_private_page_exits_with_its_address(void **state)
{
    (void)state;
    run.tdcs->config_flags = TD_CONFIG_NO_RBP_MOD;
    run.regs->gpr[GPR_RBP] = 0xbbb;
    run.regs->gpr[GPR_R15] = 0xfff;
    assert_int_equal(violates(0x123456, EPT_VIOLATION_WRITE | EPT_VIOLATION_GLA_VALID | 1 << 8),
                     OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], EXIT_EPT_VIOLATION);
    assert_int_equal(run.regs->gpr[GPR_RCX], EPT_VIOLATION_WRITE);
    assert_int_equal(run.regs->gpr[GPR_R8], 0x123000);
    assert_int_equal(run.regs->gpr[GPR_RBP], 0xbbb);
    assert_int_equal(run.regs->gpr[GPR_R15], 0);
}

static void mmio_is_the_guests_unless_the_vmm_suppresses_it(void **state)
{
    (void)state;
    u64 root = HOST_MEMORY_START + 41 * PAGE_BYTES;
    u64 *entries = seam_page(root);

    run.vcpu->shared_eptp = root;
    entries[256] = EPT_SUPPRESS_VE;
    assert_int_equal(violates(SHARED_BIT | 0x5008, EPT_VIOLATION_READ), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_R8], SHARED_BIT | 0x5000);
    entries[256] = 0;
    assert_int_equal(violates(SHARED_BIT | 0x5008, EPT_VIOLATION_READ | EPT_VIOLATION_GLA_VALID),
                     OUTCOME_RESUME);
    assert_int_equal(injected(), VE_INJECTED);
    assert_int_equal(run.vcpu->ve.gpa, SHARED_BIT | 0x5008);
    assert_int_equal(run.vcpu->ve.gla, 0x7777);
}

static void an_address_beyond_the_width_is_a_page_fault(void **state)
{
    (void)state;
    assert_int_equal(violates(1ull << 49, EPT_VIOLATION_WRITE | EPT_VIOLATION_GLA_VALID),
                     OUTCOME_RESUME);
    assert_int_equal(injected(), PF_INJECTED);
    assert_int_equal(vmcs[VMCS_ENTRY_ERROR_CODE], 1 | 2 | 8);
    assert_int_equal(processor_model.cr2, 0x7777);
}

static void zero_stepping_is_suspected_from_the_seventh_fault_in_a_row(void **state)
{
    (void)state;
    u64 missing = 0;
    for (u32 i = 0; i < 6; i++)
        assert_int_equal(violates(0x8000, EPT_VIOLATION_READ), OUTCOME_EXIT);
    assert_false(zero_step_is_suspected(run.vcpu));
    assert_int_equal(violates(0x8000, EPT_VIOLATION_READ), OUTCOME_EXIT);
    assert_true(zero_step_is_suspected(run.vcpu));
    assert_false(zero_step_is_served(&run, &missing));
    assert_int_equal(missing, 0x8000);
    /* A page that the guest has yet to accept is not there yet. */
    u64 *root = seam_page(run.td.tdr->tdcx[3]);
    root[0] = sept_entry_leaf(0, SEPT_PENDING);
    assert_false(zero_step_is_served(&run, &missing));
    root[0] = sept_entry_leaf(0, SEPT_MAPPED);
    assert_true(zero_step_is_served(&run, &missing));
    assert_false(zero_step_is_suspected(run.vcpu));
}

/* It executed something between entry and exit, even if it faults again then. */
static void a_guest_that_gets_on_is_not_suspected(void **state)
{
    (void)state;
    for (u32 i = 0; i < 20; i++) {
        zero_step_enter(&run);
        vmcs[VMCS_GUEST_RIP] += 4;
        zero_step_leave(&run);
        assert_int_equal(violates(0x8000, EPT_VIOLATION_READ), OUTCOME_EXIT);
    }
    assert_false(zero_step_is_suspected(run.vcpu));
    for (u32 i = 0; i < 6; i++) {
        zero_step_enter(&run);
        zero_step_leave(&run);
        assert_int_equal(violates(0x8000, EPT_VIOLATION_READ), OUTCOME_EXIT);
    }
    assert_true(zero_step_is_suspected(run.vcpu));
}

static void a_triple_fault_ends_the_vcpu_and_an_unknown_exit_the_td(void **state)
{
    (void)state;
    assert_int_equal(exits(EXIT_TRIPLE_FAULT), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX], 0x4000000100000002ull);
    assert_int_equal(run.vcpu->state, VCPU_DISABLED);
    assert_false(run.td.tdr->fatal);
    assert_int_equal(exits(EXIT_MONITOR_TRAP), OUTCOME_EXIT);
    assert_int_equal(run.regs->gpr[GPR_RAX] >> 32, TDX_NON_RECOVERABLE_TD);
    assert_true(run.td.tdr->fatal);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, done)

static void a_td_that_wants_to_know_hears_of_a_suspicion(void **state)
{
    (void)state;
    assert_int_equal(violates(0x8000, EPT_VIOLATION_READ), OUTCOME_EXIT);
    zero_step_notify(&run);
    assert_int_equal(injected(), 0);
    run.tdcs->notify_enables = 1;
    run.vcpu->ve.valid = ~0u;
    zero_step_notify(&run);
    assert_int_equal(injected(), 0);
    run.vcpu->ve.valid = 0;
    zero_step_notify(&run);
    assert_int_equal(injected(), VE_INJECTED);
    assert_int_equal(run.vcpu->ve.gpa, 0x8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(hlt_becomes_a_ve_and_rip_stays),
        T(a_second_ve_before_the_first_was_fetched_is_a_double_fault),
        T(an_interrupted_delivery_is_repeated),
        T(nmi_waits_for_the_ve_report_to_be_fetched),
        T(cpuid_shows_a_td_with_x2apic_and_without_la57),
        T(cpuid_of_a_hypervisor_raises_ve_and_one_above_the_range_does_not),
        T(cpuid_configuration_outside_its_masks_is_refused),
        T(msr_bitmap_passes_what_the_table_passes),
        T(msr_rules_hold_at_exits),
        T(a_write_to_cr4_is_a_ve_and_of_a_feature_that_the_td_has_not_a_gp),
        T(a_write_to_cr0_keeps_what_is_the_modules),
        T(what_is_unforeseen_ends_a_td_unless_it_is_debugged),
        T(xsetbv_takes_what_xfam_has),
        T(an_interrupt_exits_but_a_notification_does_not),
        T(the_timer_finds_an_interrupt_that_caused_no_exit),
        T(posted_requests_are_the_vcpu_s),
        T(a_request_is_shown_where_the_guest_can_take_it),
        T(a_missing_private_page_exits_with_its_address),
        T(mmio_is_the_guests_unless_the_vmm_suppresses_it),
        T(an_address_beyond_the_width_is_a_page_fault),
        T(zero_stepping_is_suspected_from_the_seventh_fault_in_a_row),
        T(a_guest_that_gets_on_is_not_suspected),
        T(a_td_that_wants_to_know_hears_of_a_suspicion),
        T(a_triple_fault_ends_the_vcpu_and_an_unknown_exit_the_td),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
