/* SPDX-License-Identifier: MIT */
/* Ports of a VM: IN, OUT, and the string instructions, element by element. */
#include "boot/x86.h"
#include "vmm/ports.h"
#include "vmm/vmx_exit.h"
#include "vmm/vmx_linear.h"
#include "vmm/vmx_policy.h"

/* An exit serves so many elements at most: interrupts come in between. */
#define ELEMENTS_MAX 256u
#define ADDRESS_SIZE_SHIFT 7
#define ADDRESS_SIZE_MASK 7u
#define PF_WRITE (1u << 1)
#define PF_USER (1u << 2)
#define PRIVILEGE_SHIFT 5 /* of SS's access rights */
#define PRIVILEGE_USER 3u

/* A register as an address size has it: 16 bits beside the rest, 32 bits zero-extended, 64 bits. */
static u64 address_mask(void)
{
    u32 size = (u32)vmx_field(VMCS_EXIT_INSTRUCTION_INFO) >> ADDRESS_SIZE_SHIFT & ADDRESS_SIZE_MASK;
    return size == 0 ? 0xffff : size == 1 ? 0xffffffff : ~0ull;
}

static void register_set(u64 *reg, u64 value, u64 mask)
{
    *reg = mask == 0xffff ? (*reg & ~mask) | (value & mask) : value & mask;
}

/* The page is not there: the guest's own affair. */
static void inject_page_fault(u64 linear, bool is_write)
{
    bool is_user = (vmx_field(VMCS_GUEST_SS_ACCESS) >> PRIVILEGE_SHIFT & 3) == PRIVILEGE_USER;
    cr2_write(linear);
    vmx_field_set(VMCS_ENTRY_ERROR_CODE, (is_write ? PF_WRITE : 0) | (is_user ? PF_USER : 0));
    vmx_field_set(VMCS_ENTRY_INTR_INFO,
                  INTR_VALID | INTR_HAS_ERROR_CODE | INTR_TYPE_EXCEPTION | VECTOR_PF);
}

static bool element(struct vcpu *vcpu, const struct vmx_io *io, u64 linear)
{
    u32 value = 0, size = io->size_bytes;
    if (!io->in) {
        if (vmx_linear_read(vcpu, linear, &value, size) < size)
            return false;
        ports_write(vcpu->vm, io->port, size, value);
        return true;
    }
    /* What the port gives is not to be lost: first it is known that there is a place for it. */
    if (vmx_linear_read(vcpu, linear, &value, size) < size)
        return false;
    value = ports_read(vcpu->vm, io->port, size);
    return vmx_linear_write(vcpu, linear, &value, size) == size;
}

static void serve_string(struct vcpu *vcpu, const struct vmx_io *io)
{
    u64 *gpr = vcpu->vmx.gpr, mask = address_mask(), linear = vmx_field(VMCS_GUEST_LINEAR_ADDRESS);
    u64 count = io->rep ? gpr[GPR_RCX] & mask : 1, done = 0;
    u64 step = vmx_field(VMCS_GUEST_RFLAGS) & RFLAGS_DF ? -(u64)io->size_bytes : io->size_bytes;
    u64 *pointer = &gpr[io->in ? GPR_RDI : GPR_RSI];
    while (done < count && done < ELEMENTS_MAX && element(vcpu, io, linear + done * step))
        done++;
    register_set(pointer, *pointer + done * step, mask);
    if (io->rep)
        register_set(&gpr[GPR_RCX], count - done, mask);
    if (done == count)
        vmx_skip_instruction();
    else if (done < ELEMENTS_MAX)
        inject_page_fault(linear + done * step, io->in);
}

void vmx_serve_io(struct vcpu *vcpu)
{
    struct vmx_io io = vmx_io_decode(vmx_field(VMCS_EXIT_QUALIFICATION));
    u64 *rax = &vcpu->vmx.gpr[GPR_RAX];
    if (io.string) {
        serve_string(vcpu, &io);
        return;
    }
    if (io.in)
        *rax = vmx_io_merge(*rax, ports_read(vcpu->vm, io.port, io.size_bytes), io.size_bytes);
    else
        ports_write(vcpu->vm, io.port, io.size_bytes, (u32)*rax);
    vmx_skip_instruction();
}
