/* SPDX-License-Identifier: MIT */
/* The table of a VM's MSRs: which are the guest's own, and that all others are refused. */
#include "vmm/vmx_msrs.h"

#include <stdlib.h>
#include <string.h>

#include "boot/machine.h"
#include "boot/msr.h"
#include "tests/host/cmocka.h"
#include "vmm/vm.h"
#include "vmm/vmx_policy.h"

#define HIGH 0xc0000000u
#define RANGE 0x2000u

static struct vm vm;
static struct vcpu *vcpu;
static struct interrupt delivered;

void vm_deliver(struct vm *to, const struct interrupt *interrupt, u32 sender)
{
    assert_ptr_equal(to, &vm);
    assert_int_equal(sender, 1);
    delivered = *interrupt;
}

u64 vmx_arch_capabilities(void)
{
    return 0x55;
}

bool vmx_efer_is_valid(u64 value, u64 present, bool paging)
{
    (void)value;
    (void)present;
    (void)paging;
    return false;
}

static int set_up(void **state)
{
    static const struct machine described = {.tsc_hz = 1000000000};
    (void)state;
    machine_set(&described);
    vcpu = calloc(1, sizeof *vcpu);
    vcpu->vm = &vm;
    vcpu->index = 1;
    lapic_init(&vcpu->lapic, 1);
    delivered = (struct interrupt){.kind = INTERRUPT_NONE};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(vcpu);
    return 0;
}

static bool is_one_of(u32 index, const u32 *list, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        if (list[i] == index)
            return true;
    }
    return false;
}

static void the_guest_s_own_msrs_and_no_others_are_no_exit(void **state)
{
    (void)state;
    static const u32 own[] = {MSR_FS_BASE,     MSR_GS_BASE,      MSR_KERNEL_GS_BASE,
                              MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
                              MSR_PAT,         MSR_STAR,         MSR_LSTAR,
                              MSR_CSTAR,       MSR_FMASK,        MSR_TSC_AUX};
    const u8 *bitmap = vmx_msr_bitmap();
    for (u32 i = 0; i < 2 * RANGE; i++) {
        u32 index = i < RANGE ? i : HIGH + i - RANGE;
        const u8 *reads = bitmap + (i < RANGE ? 0 : 1024);
        bool free_read = !(reads[i % RANGE / 8] >> i % 8 & 1);
        bool free_write = !(reads[2048 + i % RANGE / 8] >> i % 8 & 1);
        assert_int_equal(free_read, is_one_of(index, own, ARRAY_LENGTH(own)));
        assert_int_equal(free_write, free_read);
    }
    assert_ptr_equal(vmx_msr_bitmap(), bitmap);
}

static void what_no_row_names_is_refused(void **state)
{
    (void)state;
    static const u32 known[] = {
        MSR_EFER,           MSR_TSC,         MSR_TSC_ADJUST, MSR_ARCH_CAPABILITIES, MSR_PLATFORM_ID,
        MSR_UCODE_REVISION, MSR_MCG_CAP,     MSR_MCG_STATUS, MSR_MISC_ENABLE,       MSR_DEBUGCTL,
        MSR_APIC_BASE,      MSR_TSC_DEADLINE};
    for (u32 i = 0; i < 2 * RANGE; i++) {
        u32 index = i < RANGE ? i : HIGH + i - RANGE;
        u64 value;
        if (is_one_of(index, known, ARRAY_LENGTH(known)) || (index >= 0x800 && index < 0x900))
            continue;
        assert_int_equal(vmx_msr_read(vcpu, index, &value), ERR_INVALID);
        assert_int_equal(vmx_msr_write(vcpu, index, 0), ERR_INVALID);
    }
    for (u32 i = 0; i < ARRAY_LENGTH(known); i++) {
        u64 value;
        if (known[i] != MSR_EFER) /* the VMCS has it */
            assert_int_equal(vmx_msr_read(vcpu, known[i], &value), OK);
    }
}

static void a_constant_takes_its_own_value_alone(void **state)
{
    (void)state;
    u64 value;
    assert_int_equal(vmx_msr_read(vcpu, MSR_MISC_ENABLE, &value), OK);
    assert_int_equal(vmx_msr_write(vcpu, MSR_MISC_ENABLE, value), OK);
    assert_int_equal(vmx_msr_write(vcpu, MSR_MISC_ENABLE, value ^ 1), ERR_INVALID);
    assert_int_equal(vmx_msr_write(vcpu, MSR_UCODE_REVISION, 0), OK);
    assert_int_equal(vmx_msr_read(vcpu, MSR_ARCH_CAPABILITIES, &value), OK);
    assert_int_equal(value, 0x55);
    assert_int_equal(vmx_msr_write(vcpu, MSR_ARCH_CAPABILITIES, value), ERR_INVALID);
}

static void what_the_apic_is_told_is_looked_at(void **state)
{
    (void)state;
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_ICR, 0x40), OK);
    assert_int_equal(delivered.kind, INTERRUPT_FIXED);
    assert_int_equal(delivered.vector, 0x40);
    vcpu->vmx.attention = false;
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_EOI, 0), OK);
    assert_false(vcpu->vmx.attention); /* nothing waits */
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_SELF_IPI, 0x50), OK);
    assert_true(vcpu->vmx.attention);
    vcpu->vmx.attention = false;
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_EOI, 0), OK);
    assert_true(vcpu->vmx.attention);
    vcpu->vmx.attention = false;
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_LVT_TIMER, 0x400ec), OK);
    assert_int_equal(vmx_msr_write(vcpu, MSR_TSC_DEADLINE, 1), OK);
    assert_true(vcpu->vmx.attention);
}

static void the_modes_of_the_apic_have_their_registers(void **state)
{
    (void)state;
    u64 value;
    vcpu->vmx.cpuid[3].is_filled = true;
    assert_int_equal(vmx_msr_read(vcpu, MSR_X2APIC_ID, &value), OK);
    assert_int_equal(vmx_msr_write(vcpu, MSR_APIC_BASE, 0xfee00800), ERR_INVALID);
    (void)vlapic_post(&vcpu->vmx.apic, 0x40);
    assert_int_equal(vmx_msr_write(vcpu, MSR_APIC_BASE, 0xfee00000), OK);
    assert_false(vcpu->vmx.cpuid[3].is_filled); /* CPUID shows no APIC now */
    assert_int_equal(vmx_msr_read(vcpu, MSR_X2APIC_ID, &value), ERR_INVALID);
    assert_int_equal(vmx_msr_write(vcpu, MSR_X2APIC_EOI, 0), ERR_INVALID);
    assert_int_equal(vmx_msr_write(vcpu, MSR_APIC_BASE, 0xfee00800), OK);
    assert_false(vlapic_is_waiting(&vcpu->vmx.apic));
    assert_int_equal(vmx_msr_read(vcpu, MSR_X2APIC_ID, &value), ERR_INVALID);
    assert_int_equal(vmx_msr_write(vcpu, MSR_APIC_BASE, 0xfee00c00), OK);
    assert_int_equal(vmx_msr_read(vcpu, MSR_X2APIC_ID, &value), OK);
    assert_int_equal(vmx_msr_read(vcpu, MSR_APIC_BASE, &value), OK);
    assert_int_equal(value, 0xfee00c00);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_guest_s_own_msrs_and_no_others_are_no_exit),
        TEST(what_no_row_names_is_refused),
        TEST(a_constant_takes_its_own_value_alone),
        TEST(what_the_apic_is_told_is_looked_at),
        TEST(the_modes_of_the_apic_have_their_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
