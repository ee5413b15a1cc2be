/* SPDX-License-Identifier: MIT */
#include "vmm/msrs.h"

#include "boot/msr.h"
#include "vmm/vm.h"

/* MSRs of one constant value, which is also the only one that may be written. */
static const struct {
    u32 msr;
    u64 value;
} constants[] = {
    {MSR_MCG_CAP, 0},    /* no machine-check banks; refusing it makes Linux panic */
    {MSR_MCG_STATUS, 0}, /* none in progress */
    {MSR_TSC_ADJUST, 0}, /* the module owns the TSC */
    {MSR_UCODE_REVISION, 0},
};

static enum error constant_read(u32 msr, u64 *value)
{
    for (u32 i = 0; i < ARRAY_LENGTH(constants); i++) {
        if (constants[i].msr == msr) {
            *value = constants[i].value;
            return OK;
        }
    }
    return ERR_INVALID;
}

enum error msr_read(struct vcpu *vcpu, u32 msr, u64 *value)
{
    enum error e =
        lapic_owns_msr(msr) ? lapic_read(&vcpu->lapic, msr, value) : constant_read(msr, value);
    vcpu->msrs_refused += e != OK;
    return e;
}

enum error msr_write(struct vcpu *vcpu, u32 msr, u64 value)
{
    struct interrupt interrupt = {.kind = INTERRUPT_NONE};
    u64 constant = 0;
    enum error e;
    if (lapic_owns_msr(msr)) {
        e = lapic_write(&vcpu->lapic, msr, value, &interrupt);
    } else {
        e = constant_read(msr, &constant);
        if (!e && value != constant)
            e = ERR_INVALID;
    }
    vm_deliver(vcpu->vm, &interrupt, vcpu->index);
    vcpu->msrs_refused += e != OK;
    return e;
}
