/* SPDX-License-Identifier: MIT */
/* The TD boot shim (vmm/shim.asm): its image, and the table it takes its orders from. */
#ifndef VMM_SHIM_H
#define VMM_SHIM_H

#include "boot/types.h"

/* The shim accepts [0, memory_bytes) before it enters the kernel. */
#define SHIM_ACCEPT_MEMORY (1u << 0)
/* Of a VM, which has no shim: vCPU 0 starts as multiboot says, with RDI's value in EBX. */
#define SHIM_MULTIBOOT (1u << 1)

/* At LAYOUT_SHIM_PARAMETERS; vmm/shim.asm names the same offsets. */
struct shim_parameters {
    u64 page_tables;  /* CR3: an identity map of 4 GiB */
    u64 memory_bytes; /* RAM is [0, memory_bytes) */
    u64 flags;        /* SHIM_* */
    u64 entry;        /* where vCPU 0 goes, in 64-bit mode */
    u64 rsi, rdi, rsp;
    u64 mailbox; /* where the other vCPUs wait */
};
_Static_assert(sizeof(struct shim_parameters) == 64, "vmm/shim.asm");
_Static_assert(offsetof(struct shim_parameters, entry) == 24, "vmm/shim.asm");
_Static_assert(offsetof(struct shim_parameters, mailbox) == 56, "vmm/shim.asm");

/* One page, its reset vector at the end (vmm/shim_image.asm). */
extern const u8 shim_image[PAGE_BYTES];

#endif
