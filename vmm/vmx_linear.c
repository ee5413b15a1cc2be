/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_linear.h"

#include "vmm/guest_walk.h"
#include "vmm/vm.h"
#include "vmm/vmx_vm.h"

static bool read_memory(void *context, gpa_t address, void *bytes, u32 len_bytes)
{
    return vmx_memory_read(context, address, bytes, len_bytes);
}

static struct guest_paging paging_now(void)
{
    return (struct guest_paging){
        .cr0 = vmx_field(VMCS_GUEST_CR0),
        .cr3 = vmx_field(VMCS_GUEST_CR3),
        .cr4 = vmx_field(VMCS_GUEST_CR4),
        .efer = vmx_field(VMCS_GUEST_EFER),
    };
}

/* What of the bytes is in the page of the first. */
static u32 part_of(u64 linear, u32 len_bytes)
{
    u32 left = (u32)(PAGE_BYTES - (linear & PAGE_MASK));
    return len_bytes < left ? len_bytes : left;
}

u32 vmx_linear_read(struct vcpu *vcpu, u64 linear, void *bytes, u32 len_bytes)
{
    const struct guest_paging paging = paging_now();
    u32 done = 0;
    while (done < len_bytes) {
        gpa_t address;
        u32 part = part_of(linear + done, len_bytes - done);
        if (!guest_walk(&paging, linear + done, read_memory, vcpu->vm, &address) ||
            !vmx_memory_read(vcpu->vm, address, (u8 *)bytes + done, part))
            break;
        done += part;
    }
    return done;
}

u32 vmx_linear_write(struct vcpu *vcpu, u64 linear, const void *bytes, u32 len_bytes)
{
    const struct guest_paging paging = paging_now();
    u32 done = 0;
    while (done < len_bytes) {
        gpa_t address;
        u32 part = part_of(linear + done, len_bytes - done);
        if (!guest_walk(&paging, linear + done, read_memory, vcpu->vm, &address) ||
            !vmx_memory_write(vcpu, address, (const u8 *)bytes + done, part))
            break;
        done += part;
    }
    return done;
}
