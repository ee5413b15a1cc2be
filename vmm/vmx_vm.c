/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_vm.h"

#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/vmx.h"
#include "vmm/guest_image.h"
#include "vmm/vm.h"

/* Holds the whole layout; an access beyond it is one to memory that the guest does not have. */
#define VM_GPA_BITS 40

enum error vmx_vm_create(struct vm *vm)
{
    vm->memory.frames = vm->config->memory_bytes / PAGE_BYTES;
    enum error e = ept_init(&vm->direct, VM_GPA_BITS);
    vm->has_direct = !e;
    return e;
}

/* A zeroed page at `frame`; the one place that maps a VM's memory. */
static enum error map_page(struct vcpu *vcpu, gfn_t frame, hpa_t *page)
{
    struct page_cache *cache = &vcpu->caches.shared_pages;
    enum error e = page_cache_fill(cache);
    if (e)
        return e;
    *page = page_cache_take(cache);
    e = ept_map(&vcpu->vm->direct, &vcpu->caches, frame, *page, EPT_RWX);
    if (e)
        page_cache_return(cache, *page);
    return e;
}

static enum error add_page(struct vm *vm, const struct guest_piece *piece, u64 offset)
{
    u64 left = piece->len_bytes - offset;
    hpa_t page;
    enum error e = map_page(vm->vcpus[0], gpa_to_gfn(gpa(piece->start.raw + offset)), &page);
    if (e)
        return e;
    memcpy(phys_to_virt(page), piece->bytes + offset, left < PAGE_BYTES ? left : PAGE_BYTES);
    vm->initial_pages++;
    return OK;
}

enum error vmx_vm_add_image(struct vm *vm, const struct guest_image *image)
{
    for (u32 i = 0; i < image->count; i++) {
        const struct guest_piece *piece = &image->pieces[i];
        for (u64 offset = 0; offset < piece->len_bytes; offset += PAGE_BYTES) {
            enum error e = add_page(vm, piece, offset);
            if (!e)
                continue;
            log_line("guest %s: adding %s to the VM failed: %s", vm->config->name, piece->what,
                     error_name(e));
            return e;
        }
    }
    return OK;
}

enum error vmx_memory_fault(struct vcpu *vcpu, gfn_t frame)
{
    struct guest_memory *memory = &vcpu->vm->memory;
    hpa_t page;
    if (frame.raw >= memory->frames)
        return ERR_RANGE;
    enum error e = map_page(vcpu, frame, &page);
    memory->faulted += !e;
    return e;
}

u64 vmx_vm_pages(const struct vm *vm)
{
    return vm->direct.leaves;
}

enum error vmx_vm_audit(struct vm *vm)
{
    return vmx_vm_pages(vm) == vm->initial_pages + vm->memory.faulted ? OK : ERR_STATE;
}
