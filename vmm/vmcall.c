/* SPDX-License-Identifier: MIT */
#include "vmm/vmcall.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "vmm/cpuid.h"
#include "vmm/layout.h"
#include "vmm/measure.h"
#include "vmm/mmio.h"
#include "vmm/msrs.h"
#include "vmm/ports.h"
#include "vmm/vm.h"

#define INFO_SETUP_EVENT_NOTIFY (1ull << 1)
#define FATAL_TEXT_IN_PAGE (1ull << 63)
#define FATAL_TEXT_BYTES 64
#define EVENT_VECTOR_MIN 32
#define EVENT_VECTOR_MAX 255
#define DIRECTION_IN 0
#define DIRECTION_OUT 1

/* Returns what R10 says; the output registers are set in `regs`. */
typedef u64 vmcall_handler(struct vcpu *vcpu, struct tdx_regs *regs);

#define VMCALL(handler, number, name) static vmcall_handler vmcall_##handler;
#include "vmm/vmcalls.def"
#undef VMCALL

static const struct {
    vmcall_handler *handler;
    const char *name;
} rows[] = {
#define VMCALL(handler, number, name) {vmcall_##handler, name},
#include "vmm/vmcalls.def"
#undef VMCALL
};
_Static_assert(ARRAY_LENGTH(rows) == VMCALL_unknown, "one row a subfunction");

const char *vmcall_name(u32 row)
{
    return row < ARRAY_LENGTH(rows) ? rows[row].name : "unknown";
}

static u32 row_of(u64 number)
{
    switch (number) {
#define VMCALL(handler, number_, name) \
    case number_:                      \
        return VMCALL_##handler;
#include "vmm/vmcalls.def"
#undef VMCALL
    default:
        return VMCALL_unknown;
    }
}

void vmcall_handle(struct vcpu *vcpu)
{
    struct tdx_regs *regs = &vcpu->td.regs;
    if (regs->gpr[GPR_R10] == MEASURE_VENDOR && measure_is_on()) {
        regs->gpr[GPR_R10] = measure_vmcall(vcpu, regs);
        return;
    }
    /* R10 other than 0 is a call in some vendor's own numbering. */
    u32 row = regs->gpr[GPR_R10] == 0 ? row_of(regs->gpr[GPR_R11]) : VMCALL_unknown;
    vcpu->vmcalls[row]++;
    regs->gpr[GPR_R10] =
        row == VMCALL_unknown ? VMCALL_SUBFUNC_UNSUPPORTED : rows[row].handler(vcpu, regs);
}

static u64 vmcall_get_info(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)vcpu;
    u64 leaf = regs->gpr[GPR_R12];
    if (leaf > 1)
        return VMCALL_INVALID_OPERAND;
    regs->gpr[GPR_R11] = leaf == 1 ? INFO_SETUP_EVENT_NOTIFY : 0;
    regs->gpr[GPR_R12] = 0;
    regs->gpr[GPR_R13] = 0;
    regs->gpr[GPR_R14] = 0;
    return VMCALL_SUCCESS;
}

/*
 * The SHARED bit of the start says what the range shall become. Frames that are no RAM have no
 * state to change: firmware maps the whole MMIO hole as shared, and may.
 */
static u64 vmcall_map_gpa(struct vcpu *vcpu, struct tdx_regs *regs)
{
    struct vm *vm = vcpu->vm;
    u64 shared_bit = vm->shared_bit.raw;
    u64 wanted = regs->gpr[GPR_R12] & shared_bit;
    u64 start = regs->gpr[GPR_R12] & ~shared_bit, len = regs->gpr[GPR_R13];
    regs->gpr[GPR_R11] = regs->gpr[GPR_R12];
    if (!is_aligned(start, PAGE_BYTES) || !is_aligned(len, PAGE_BYTES))
        return VMCALL_ALIGN_ERROR;
    if (len == 0 || start >= shared_bit || len > shared_bit - start)
        return VMCALL_INVALID_OPERAND;

    gfn_t done, first = gpa_to_gfn(gpa(start)), end = gpa_to_gfn(gpa(start + len));
    enum error e = wanted ? memory_make_shared(vcpu, first, end, &done)
                          : memory_make_private(vcpu, first, end, &done);
    if (e)
        regs->gpr[GPR_R11] = gfn_to_gpa(done).raw | wanted;
    if (e == ERR_BUSY)
        return VMCALL_RETRY;
    if (e)
        log_line("guest %s: MapGPA of %#llx, %#llx bytes, stopped at %#llx: %s", vm->config->name,
                 (unsigned long long)(start | wanted), (unsigned long long)len,
                 (unsigned long long)regs->gpr[GPR_R11], error_name(e));
    return e ? VMCALL_INVALID_OPERAND : VMCALL_SUCCESS;
}

static u64 vmcall_get_quote(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)vcpu;
    (void)regs;
    return VMCALL_SUBFUNC_UNSUPPORTED;
}

/* Keeps what a terminal shows as it is; everything else, and what a guest might forge, is a dot. */
static void make_printable(char *text, size_t len_bytes)
{
    size_t i = 0;
    for (; i < len_bytes && text[i]; i++) {
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '.';
    }
    text[i] = 0;
}

static void fatal_text(struct vm *vm, const struct tdx_regs *regs, char *text)
{
    static const enum gpr order[] = {GPR_R14, GPR_R15, GPR_RBX, GPR_RDI,
                                     GPR_RSI, GPR_R8,  GPR_R9,  GPR_RDX};
    if (regs->gpr[GPR_R12] & FATAL_TEXT_IN_PAGE) {
        gpa_t address = gpa(regs->gpr[GPR_R13]);
        hpa_t page = ept_lookup(&vm->direct, gpa_to_gfn(address), NULL);
        u64 offset = address.raw & PAGE_MASK;
        u64 len = PAGE_BYTES - offset < FATAL_TEXT_BYTES ? PAGE_BYTES - offset : FATAL_TEXT_BYTES;
        if (!hpa_is_none(page))
            memcpy(text, (u8 *)phys_to_virt(page) + offset, len);
    } else {
        for (u32 i = 0; i < ARRAY_LENGTH(order); i++)
            memcpy(text + i * sizeof(u64), &regs->gpr[order[i]], sizeof(u64));
    }
    make_printable(text, FATAL_TEXT_BYTES);
}

static u64 vmcall_report_fatal_error(struct vcpu *vcpu, struct tdx_regs *regs)
{
    char text[FATAL_TEXT_BYTES + 1] = {0};
    fatal_text(vcpu->vm, regs, text);
    log_line("guest %s: vCPU %u reports a fatal error, code %#x: %s", vcpu->vm->config->name,
             vcpu->index, (u32)regs->gpr[GPR_R12], text[0] ? text : "no text");
    vm_end(vcpu->vm, VM_END_FATAL_ERROR);
    return VMCALL_SUCCESS;
}

/* Accepted as GHCI has it; nothing that we offer ever notifies. */
static u64 vmcall_setup_event_notify(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)vcpu;
    u64 vector = regs->gpr[GPR_R12];
    return vector < EVENT_VECTOR_MIN || vector > EVENT_VECTOR_MAX ? VMCALL_INVALID_OPERAND
                                                                  : VMCALL_SUCCESS;
}

static u64 vmcall_cpuid(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)vcpu;
    struct cpuid_values values = cpuid_answer((u32)regs->gpr[GPR_R12], (u32)regs->gpr[GPR_R13]);
    regs->gpr[GPR_R12] = values.eax;
    regs->gpr[GPR_R13] = values.ebx;
    regs->gpr[GPR_R14] = values.ecx;
    regs->gpr[GPR_R15] = values.edx;
    return VMCALL_SUCCESS;
}

static u64 vmcall_hlt(struct vcpu *vcpu, struct tdx_regs *regs)
{
    vcpu->wish = regs->gpr[GPR_R12] ? VCPU_HALT_INTERRUPTS_BLOCKED : VCPU_HALT;
    atomic_store(&cpu_this()->kicked, true); /* its slice is over */
    return VMCALL_SUCCESS;
}

static u64 vmcall_io(struct vcpu *vcpu, struct tdx_regs *regs)
{
    u64 size = regs->gpr[GPR_R12], direction = regs->gpr[GPR_R13], port = regs->gpr[GPR_R14];
    if ((size != 1 && size != 2 && size != 4) || direction > DIRECTION_OUT || port > 0xffff)
        return VMCALL_INVALID_OPERAND;
    if (direction == DIRECTION_IN)
        regs->gpr[GPR_R11] = ports_read(vcpu->vm, (u16)port, (u32)size);
    else
        ports_write(vcpu->vm, (u16)port, (u32)size, (u32)regs->gpr[GPR_R15]);
    return VMCALL_SUCCESS;
}

static u64 vmcall_rdmsr(struct vcpu *vcpu, struct tdx_regs *regs)
{
    u64 value;
    if (msr_read(vcpu, (u32)regs->gpr[GPR_R12], &value))
        return VMCALL_INVALID_OPERAND;
    regs->gpr[GPR_R11] = value;
    return VMCALL_SUCCESS;
}

static u64 vmcall_wrmsr(struct vcpu *vcpu, struct tdx_regs *regs)
{
    enum error e = msr_write(vcpu, (u32)regs->gpr[GPR_R12], regs->gpr[GPR_R13]);
    return e ? VMCALL_INVALID_OPERAND : VMCALL_SUCCESS;
}

static u64 vmcall_mmio(struct vcpu *vcpu, struct tdx_regs *regs)
{
    struct vm *vm = vcpu->vm;
    u64 size = regs->gpr[GPR_R12], direction = regs->gpr[GPR_R13];
    u64 address = regs->gpr[GPR_R14], data = regs->gpr[GPR_R15];
    if ((size != 1 && size != 2 && size != 4 && size != 8) || direction > DIRECTION_OUT)
        return VMCALL_INVALID_OPERAND;
    if (!(address & vm->shared_bit.raw))
        return VMCALL_INVALID_OPERAND;
    address &= ~vm->shared_bit.raw;
    /* RAM that is private now, seen through its shared address, is no device. */
    if (memory_frame_is_ram(&vm->memory, gpa_to_gfn(gpa(address))))
        return VMCALL_INVALID_OPERAND;
    if (direction == DIRECTION_IN)
        regs->gpr[GPR_R11] = mmio_read(vm, gpa(address), (u32)size);
    else
        mmio_write(vm, gpa(address), (u32)size, data);
    return VMCALL_SUCCESS;
}

/* Nothing to do: no device of a guest reads memory behind the caches. */
static u64 vmcall_wbinvd(struct vcpu *vcpu, struct tdx_regs *regs)
{
    (void)vcpu;
    return regs->gpr[GPR_R12] > 1 ? VMCALL_INVALID_OPERAND : VMCALL_SUCCESS;
}
