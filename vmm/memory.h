/* SPDX-License-Identifier: MIT */
/*
 * A guest's memory: which of its frames exist, and whether each is private or shared.
 *
 * Private frames are mapped by faults, after the guest's build. A frame is converted by MapGPA
 * alone. While one is converted no fault is resolved, so that a frame's private and shared pages
 * are never both mapped.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include "boot/error.h"
#include "boot/lock.h"
#include "boot/types.h"

struct vcpu;
struct vm;

/* A block is what one page of 2 MiB can map. */
#define BLOCK_PAGES level_pages(LEVEL_2M)

struct guest_memory {
    u64 frames;              /* RAM is [0, frames) */
    struct shared_lock lock; /* RANK_VM: faults share, conversions exclude */
    hpa_t shared_map;        /* a bit a frame: shared now */
    u64 shared_map_pages;
    u64 shared_now, shared_most; /* pages */
    _Atomic u64 faulted;         /* private pages mapped by faults */
    _Atomic u64 private_most;
    _Atomic u64 large_wanted, large_mapped; /* pages of 2 MiB that the guest accepted; of those, in
                                               one piece */
    bool ahead;                             /* an ACCEPT fault maps the next few pages too */
    bool scans;                             /* promote in the background */
    gfn_t scan_next;                        /* vCPU 0's */
};

enum error memory_init(struct guest_memory *memory, u64 bytes);
void memory_destroy(struct guest_memory *memory);

bool memory_frame_is_ram(const struct guest_memory *memory, gfn_t frame);
bool memory_frame_is_shared(const struct guest_memory *memory, gfn_t frame);

/* Under the lock, excluding. */
void memory_mark_shared(struct guest_memory *memory, gfn_t start, u64 frames);
void memory_mark_private(struct guest_memory *memory, gfn_t start, u64 frames);
/* Before private memory goes: how much there was at most. */
void memory_note_private(struct vm *vm);

/* What the guest did at the frame; it says which others it is about to need. */
enum fault_kind {
    FAULT_ACCESS,    /* touched it: it alone */
    FAULT_ACCEPT_4K, /* accepts it: the next few too, which will be accepted likewise */
    FAULT_ACCEPT_2M, /* accepts its whole block of 2 MiB */
};

/*
 * Resolves a private EPT violation at `frame`: with one page of 2 MiB if the guest accepts so
 * much, the whole block is private RAM and such a page is free; else in pages of 4 KiB, of which
 * those beyond the first are a convenience that gives way to interrupts.
 * ERR_BUSY: let the guest fault again. ERR_RANGE: no such private memory. ERR_NO_MEMORY,
 * ERR_REFUSED.
 */
enum error memory_fault(struct vcpu *vcpu, gfn_t frame, enum fault_kind kind);

/*
 * Converts the RAM in [start, end) to shared, zeroed, or to private, absent. Frames that are no
 * RAM, and those that are converted already, are passed over. *done is the first frame that was
 * not reached: `end` on OK; ERR_BUSY: an interrupt waits, go on at *done later; ERR_NO_MEMORY,
 * ERR_REFUSED.
 */
enum error memory_make_shared(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done);
enum error memory_make_private(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done);

/*
 * Takes the private memory in [start, end) away, whatever is in it; the frames stay private, and
 * a fault brings new pages, which the guest has to accept. *done and errors as above.
 */
enum error memory_discard(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done);

/* The sizes of private pages in the blocks of 2 MiB that the range touches; see mm/mirror.h. */
enum error memory_demote(struct vcpu *vcpu, gfn_t start, gfn_t end);
enum error memory_promote(struct vcpu *vcpu, gfn_t start, gfn_t end, u64 *promoted);

/* The same of one block, if there is something to do. ERR_STATE: nothing was done. */
enum error memory_promote_block(struct vcpu *vcpu, gfn_t block);

/* Looks at one more block, and promotes it if that is possible. For vCPU 0, when time is left. */
void memory_scan(struct vcpu *vcpu);

#endif
