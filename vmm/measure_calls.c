/* SPDX-License-Identifier: MIT */
/* What a guest that tests or measures may ask of Tain: TDVMCALLs of our own. */
#include "boot/log.h"
#include "vmm/measure.h"
#include "vmm/vm.h"
#include "vmm/vmcall.h"

typedef u64 measure_handler(struct vcpu *vcpu, struct tdx_regs *regs);

#define MEASURE_CALL(handler, number) static measure_handler call_##handler;
#include "vmm/measure_calls.def"
#undef MEASURE_CALL

enum {
#define MEASURE_CALL(handler, number) CALL_##handler = (number),
#include "vmm/measure_calls.def"
#undef MEASURE_CALL
};

u64 measure_vmcall(struct vcpu *vcpu, struct tdx_regs *regs)
{
    switch (regs->gpr[GPR_R11]) {
#define MEASURE_CALL(handler, number) \
    case number:                      \
        return call_##handler(vcpu, regs);
#include "vmm/measure_calls.def"
#undef MEASURE_CALL
    default:
        return VMCALL_SUBFUNC_UNSUPPORTED;
    }
}

bool measure_vm_call(struct vcpu *vcpu)
{
    u64 *gpr = vcpu->vmx.gpr;
    if (!measure_is_on() || gpr[GPR_R10] != MEASURE_VENDOR)
        return false;
    struct tdx_regs regs = {};
    regs.gpr[GPR_R12] = gpr[GPR_R12];
    measure_handler *handler = gpr[GPR_R11] == CALL_begin ? call_begin
                               : gpr[GPR_R11] == CALL_end ? call_end
                                                          : NULL;
    if (!handler)
        return false;
    gpr[GPR_R10] = handler(vcpu, &regs);
    return true;
}

static u64 call_begin(struct vcpu *vcpu, struct tdx_regs *regs)
{
    u64 id = regs->gpr[GPR_R12];
    if (id >= SERIES_IDS || vcpu->series)
        return VMCALL_INVALID_OPERAND;
    return measure_series_open(vcpu, (enum measure_series_id)id) ? VMCALL_INVALID_OPERAND
                                                                 : VMCALL_SUCCESS;
}

static u64 call_end(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)regs;
    if (!vcpu->series)
        return VMCALL_INVALID_OPERAND;
    measure_series_print(vcpu);
    measure_series_free(vcpu);
    return VMCALL_SUCCESS;
}

/* R12 and R13 as frames. False: no such range of private GPAs; *status says why. */
static bool range_of(const struct vm *vm, const struct tdx_regs *regs, gfn_t *start, gfn_t *end,
                     u64 *status)
{
    u64 first = regs->gpr[GPR_R12], len = regs->gpr[GPR_R13], limit = vm->shared_bit.raw;
    bool is_aligned_range = is_aligned(first, PAGE_BYTES) && is_aligned(len, PAGE_BYTES);
    *status = is_aligned_range ? VMCALL_INVALID_OPERAND : VMCALL_ALIGN_ERROR;
    if (!is_aligned_range || len == 0 || first >= limit || len > limit - first)
        return false;
    *start = gpa_to_gfn(gpa(first));
    *end = gpa_to_gfn(gpa(first + len));
    return true;
}

static u64 status_of(enum error e)
{
    return e == OK ? VMCALL_SUCCESS : e == ERR_BUSY ? VMCALL_RETRY : VMCALL_INVALID_OPERAND;
}

static u64 call_discard(struct vcpu *vcpu, struct tdx_regs *regs)
{
    gfn_t start, end, done;
    u64 status;
    if (!range_of(vcpu->vm, regs, &start, &end, &status))
        return status;
    enum error e = memory_discard(vcpu, start, end, &done);
    regs->gpr[GPR_R11] = gfn_to_gpa(done).raw;
    return status_of(e);
}

static u64 call_discard_pages(struct vcpu *vcpu, struct tdx_regs *regs)
{
    gfn_t start, end, done;
    u64 status;
    if (!range_of(vcpu->vm, regs, &start, &end, &status))
        return status;
    enum error e = OK;
    done = start;
    while (done.raw < end.raw && !e)
        e = memory_discard(vcpu, done, gfn(done.raw + 1), &done);
    regs->gpr[GPR_R11] = gfn_to_gpa(done).raw;
    return status_of(e);
}

static u64 call_demote(struct vcpu *vcpu, struct tdx_regs *regs)
{
    gfn_t start, end;
    u64 status;
    if (!range_of(vcpu->vm, regs, &start, &end, &status))
        return status;
    return status_of(memory_demote(vcpu, start, end));
}

static u64 call_promote(struct vcpu *vcpu, struct tdx_regs *regs)
{
    gfn_t start, end;
    u64 status, promoted;
    if (!range_of(vcpu->vm, regs, &start, &end, &status))
        return status;
    enum error e = memory_promote(vcpu, start, end, &promoted);
    regs->gpr[GPR_R11] = promoted;
    return status_of(e);
}

static u64 call_audit(struct vcpu *vcpu, struct tdx_regs *regs)
{
    regs->gpr[GPR_R11] = (u64)vm_audit(vcpu->vm);
    return VMCALL_SUCCESS;
}

static u64 call_map_ahead(struct vcpu *vcpu, struct tdx_regs *regs)
{
    vcpu->vm->memory.ahead = regs->gpr[GPR_R12] != 0;
    return VMCALL_SUCCESS;
}

static u64 call_teardown_pages(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)regs;
    vcpu->vm->teardown_by_page = true;
    return VMCALL_SUCCESS;
}
