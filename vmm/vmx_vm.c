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
    enum error e = ept_init(&vm->direct, VM_GPA_BITS, vmx_ept_features());
    vm->has_direct = !e;
    return e;
}

/* A zeroed page at `frame`; the one place that maps a VM's memory. */
static enum error map_page(struct vcpu *vcpu, gfn_t frame, enum level level, hpa_t *page)
{
    struct page_cache *cache =
        level == LEVEL_4K ? &vcpu->caches.shared_pages : &vcpu->caches.shared_large;
    enum error e = page_cache_fill(cache);
    if (e)
        return e;
    *page = page_cache_take(cache);
    e = ept_map(&vcpu->vm->direct, &vcpu->caches, frame, level, *page, EPT_RWX);
    if (e)
        page_cache_return(cache, *page);
    return e;
}

static enum error add_page(struct vm *vm, const struct guest_piece *piece, u64 offset)
{
    u64 left = piece->len_bytes - offset;
    hpa_t page;
    enum error e =
        map_page(vm->vcpus[0], gpa_to_gfn(gpa(piece->start.raw + offset)), LEVEL_4K, &page);
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
    struct vm *vm = vcpu->vm;
    gfn_t block = gfn(align_down(frame.raw, level_pages(LEVEL_2M)));
    hpa_t page;
    if (frame.raw >= vm->memory.frames)
        return ERR_RANGE;
    /* Whole, and untouched as the first table on the way to it shows. */
    enum level absent;
    if ((vm->direct.features & EPT_FEATURE_2M) &&
        block.raw + level_pages(LEVEL_2M) <= vm->memory.frames &&
        hpa_is_none(ept_lookup(&vm->direct, frame, &absent)) && absent >= LEVEL_2M &&
        map_page(vcpu, block, LEVEL_2M, &page) == OK) {
        vm->memory.faulted += level_pages(LEVEL_2M);
        return OK;
    }
    enum error e = map_page(vcpu, frame, LEVEL_4K, &page);
    vm->memory.faulted += !e;
    /* Another vCPU was there first: the access will succeed now. */
    return e == ERR_EXISTS && vm->vcpu_count > 1 ? OK : e;
}

bool vmx_memory_read(struct vm *vm, gpa_t address, void *bytes, u32 len_bytes)
{
    u8 *out = bytes;
    while (len_bytes) {
        u64 offset = address.raw & PAGE_MASK;
        u32 part = len_bytes < PAGE_BYTES - offset ? len_bytes : (u32)(PAGE_BYTES - offset);
        hpa_t page = ept_lookup(&vm->direct, gpa_to_gfn(address), NULL);
        if (!hpa_is_none(page))
            memcpy(out, (const u8 *)phys_to_virt(page) + offset, part);
        else if (gpa_to_gfn(address).raw < vm->memory.frames)
            memset(out, 0, part); /* not touched yet */
        else
            return false;
        address.raw += part;
        out += part;
        len_bytes -= part;
    }
    return true;
}

static hpa_t page_for_write(struct vcpu *vcpu, gfn_t frame)
{
    hpa_t page = ept_lookup(&vcpu->vm->direct, frame, NULL);
    if (hpa_is_none(page) && vmx_memory_fault(vcpu, frame) == OK)
        page = ept_lookup(&vcpu->vm->direct, frame, NULL);
    return page;
}

bool vmx_memory_write(struct vcpu *vcpu, gpa_t address, const void *bytes, u32 len_bytes)
{
    const u8 *in = bytes;
    while (len_bytes) {
        u64 offset = address.raw & PAGE_MASK;
        u32 part = len_bytes < PAGE_BYTES - offset ? len_bytes : (u32)(PAGE_BYTES - offset);
        hpa_t page = page_for_write(vcpu, gpa_to_gfn(address));
        if (hpa_is_none(page))
            return false;
        memcpy((u8 *)phys_to_virt(page) + offset, in, part);
        address.raw += part;
        in += part;
        len_bytes -= part;
    }
    return true;
}

u64 vmx_vm_pages(const struct vm *vm)
{
    u64 sum = 0;
    for (enum level level = LEVEL_4K; level < EPT_LEAF_LEVELS; level++)
        sum += vm->direct.leaves[level] * level_pages(level);
    return sum;
}

enum error vmx_vm_audit(struct vm *vm)
{
    return vmx_vm_pages(vm) == vm->initial_pages + vm->memory.faulted ? OK : ERR_STATE;
}
