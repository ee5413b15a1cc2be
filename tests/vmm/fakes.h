/* SPDX-License-Identifier: MIT */
/*
 * What vmm/ stands on, in its simplest form that still can be asked afterwards: a page allocator,
 * mirror and direct EPT as arrays by frame, a TD that records what was posted.
 */
#ifndef TESTS_VMM_FAKES_H
#define TESTS_VMM_FAKES_H

#include "vmm/vm.h"

#define FAKE_FRAMES 65536u
#define FAKE_SHARED_BIT (1ull << 39)

struct fakes {
    hpa_t mirror[FAKE_FRAMES]; /* page that a private frame maps to, or HPA_NONE */
    hpa_t direct[FAKE_FRAMES]; /* by frame without the SHARED bit */
    u64 pages_taken;           /* allocated now */
    u64 pages_limit;           /* allocations fail beyond */
    u32 large_maps;            /* tried with a page of 2 MiB */
    enum error large_error;    /* what they answer */
    enum level lookup_level;
    u32 demotions, promotions;
    bool can_promote;
    u64 maps_left;        /* mirror_map and ept_map fail beyond */
    enum error map_error; /* with this */
    u64 removals_left;    /* frames that mirror_remove_range removes before it is refused */
    u64 track_calls;
    u64 flushes;
    bool flushed_before_free; /* no shared page was freed between unmap and flush */
    bool unflushed;
    bool interrupt_pending;
    u64 posts;
    u8 posted_vector;
    u32 posted_vcpu;
    u64 kicks;
    bool vcpu_interrupt_pending;
    struct seamcall_clock clock; /* what a measurement reads */
    enum error audit;
};

extern struct fakes fakes;

/* A VM of `memory_bytes` and `vcpus` vCPUs with nothing mapped. */
struct vm *fake_vm_create(u64 memory_bytes, u32 vcpus);
/* Checks that all pages come back. */
void fake_vm_destroy(struct vm *vm);

/* Keys that the console will read. */
void fake_type(const char *text);

#endif
