/* SPDX-License-Identifier: MIT */
/* The memory of an ordinary VM: everything it has is mapped by its direct EPT. */
#ifndef VMM_VMX_VM_H
#define VMM_VMX_VM_H

#include "boot/error.h"
#include "boot/types.h"

struct guest_image;
struct vcpu;
struct vm;

/* EPT and memory, before the vCPU. */
enum error vmx_vm_create(struct vm *vm);
/* Copies the image into fresh pages. */
enum error vmx_vm_add_image(struct vm *vm, const struct guest_image *image);

/*
 * Maps a zeroed page at `frame` after an EPT violation there. ERR_RANGE: no memory of the guest;
 * ERR_EXISTS: there is one, and the access is still not allowed; ERR_NO_MEMORY.
 */
enum error vmx_memory_fault(struct vcpu *vcpu, gfn_t frame);

/* Reads the guest's memory; false: some of it is none. */
bool vmx_memory_read(struct vm *vm, gpa_t address, void *bytes, u32 len_bytes);

/* Writes it, a page that is not there yet taken first; false: some of it is none. */
bool vmx_memory_write(struct vcpu *vcpu, gpa_t address, const void *bytes, u32 len_bytes);

/* Of 4 KiB, mapped now. */
u64 vmx_vm_pages(const struct vm *vm);
/* ERR_STATE: the EPT does not map as many pages as the guest was given. */
enum error vmx_vm_audit(struct vm *vm);

#endif
