/* SPDX-License-Identifier: MIT */
#include "vmm/memory.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/vmx.h"
#include "vmm/layout.h"
#include "vmm/run.h"
#include "vmm/vm.h"

/* Large faults look for waiting interrupts after so many pages. */
#define FAULT_STEP_PAGES 64
#define FAULT_AHEAD_PAGES 32
#define AHEAD_TRIES 100 /* of a map that is busy */

enum error memory_init(struct guest_memory *memory, u64 bytes)
{
    *memory = (struct guest_memory){
        .frames = bytes / PAGE_BYTES,
        .lock = SHARED_LOCK_INIT(RANK_VM, "guest memory"),
        .shared_map = HPA_NONE,
        .ahead = true,
    };
    u64 pages = align_up(memory->frames / 8 + 1, PAGE_BYTES) / PAGE_BYTES;
    enum error e = pages_allocate(PAGE_VMM, pages, 1, &memory->shared_map);
    if (e)
        return e;
    memory->shared_map_pages = pages;
    for (u64 i = 0; i < pages; i++)
        page_zero(hpa(memory->shared_map.raw + i * PAGE_BYTES), LEVEL_4K);
    return OK;
}

void memory_destroy(struct guest_memory *memory)
{
    if (memory->shared_map_pages)
        pages_free(memory->shared_map, memory->shared_map_pages);
    memory->shared_map_pages = 0;
    memory->shared_map = HPA_NONE;
}

bool memory_frame_is_ram(const struct guest_memory *memory, gfn_t frame)
{
    return frame.raw < memory->frames;
}

static u8 *map_byte(const struct guest_memory *memory, gfn_t frame)
{
    return phys_to_virt(hpa(memory->shared_map.raw + frame.raw / 8));
}

bool memory_frame_is_shared(const struct guest_memory *memory, gfn_t frame)
{
    if (!memory_frame_is_ram(memory, frame))
        return false;
    return *map_byte(memory, frame) & 1u << (frame.raw % 8);
}

/* Whole bytes at once where the run has them. */
static void frames_mark(struct guest_memory *memory, gfn_t start, u64 frames, bool shared)
{
    u64 at = start.raw, end = start.raw + frames;
    while (at < end) {
        u8 *byte = map_byte(memory, gfn(at));
        if (at % 8 == 0 && end - at >= 8) {
            *byte = shared ? 0xff : 0;
            at += 8;
            continue;
        }
        u8 bit = (u8)(1u << (at % 8));
        *byte = shared ? *byte | bit : *byte & (u8)~bit;
        at++;
    }
}

void memory_mark_shared(struct guest_memory *memory, gfn_t start, u64 frames)
{
    frames_mark(memory, start, frames, true);
    memory->shared_now += frames;
    if (memory->shared_now > memory->shared_most)
        memory->shared_most = memory->shared_now;
}

void memory_mark_private(struct guest_memory *memory, gfn_t start, u64 frames)
{
    frames_mark(memory, start, frames, false);
    memory->shared_now -= frames;
}

static inline bool frame_may_be_private(const struct guest_memory *memory, gfn_t frame)
{
    if (memory_frame_is_ram(memory, frame) && !memory_frame_is_shared(memory, frame))
        return true;
    return frame.raw >= LAYOUT_FIRMWARE / PAGE_BYTES &&
           frame.raw < LAYOUT_FIRMWARE_END / PAGE_BYTES;
}

/* The whole block of 2 MiB. */
static bool block_may_be_private(const struct guest_memory *memory, gfn_t block)
{
    if (block.raw + BLOCK_PAGES > memory->frames)
        return false;
    for (u64 i = 0; i < BLOCK_PAGES; i += 8)
        if (*map_byte(memory, gfn(block.raw + i)))
            return false;
    return true;
}

static gfn_t block_of(gfn_t frame)
{
    return gfn(align_down(frame.raw, BLOCK_PAGES));
}

void memory_note_private(struct vm *vm)
{
    u64 now = mirror_private_pages(&vm->td.mirror);
    if (now > vm->memory.private_most)
        vm->memory.private_most = now;
}

/*
 * Maps what is absent of [start, end); a frame that fails here will fault itself. But a call that
 * was busy is not just left: the module keeps the entry for us, and its guest would wait in vain.
 */
static void map_ahead(struct vcpu *vcpu, u64 start, u64 end)
{
    struct vm *vm = vcpu->vm;
    for (u64 i = start; i < end; i++) {
        gfn_t frame = gfn(i);
        if ((i - start) % FAULT_STEP_PAGES == FAULT_STEP_PAGES - 1 && apic_interrupt_is_pending())
            return;
        if (!frame_may_be_private(&vm->memory, frame) ||
            !hpa_is_none(mirror_lookup(&vm->td.mirror, frame, NULL)))
            continue;
        enum error e = ERR_BUSY;
        for (u32 tries = 0; e == ERR_BUSY && tries < AHEAD_TRIES; tries++)
            e = mirror_map(&vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
        if (e)
            return;
        vm->memory.faulted++;
    }
}

/* One page of 2 MiB for the whole block. Any error but ERR_BUSY: small ones may do. */
static enum error map_block(struct vcpu *vcpu, gfn_t block)
{
    struct vm *vm = vcpu->vm;
    if (!block_may_be_private(&vm->memory, block))
        return ERR_RANGE;
    enum error e = mirror_map(&vm->td.mirror, &vcpu->caches, block, LEVEL_2M);
    if (!e)
        vm->memory.faulted += BLOCK_PAGES;
    return e;
}

/* A guest that accepts a small page of a large one that is pending would fault for ever. */
__attribute__((noinline)) static enum error split_pending(struct vcpu *vcpu, gfn_t frame)
{
    struct mirror *mirror = &vcpu->vm->td.mirror;
    enum level level;
    if (hpa_is_none(mirror_lookup(mirror, frame, &level)) || level == LEVEL_4K)
        return OK;
    return mirror_demote(mirror, &vcpu->caches, frame, LEVEL_4K);
}

static inline enum error map_small(struct vm *vm, struct vcpu *vcpu, gfn_t frame,
                                   enum fault_kind kind)
{
    u32 cached = vcpu->caches.private_pages.count;
    enum error e = mirror_map(&vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
    /* A page that is gone from the cache is mapped: nothing large was in the way. */
    if (e || kind != FAULT_ACCEPT_4K || vcpu->caches.private_pages.count + 1 == cached)
        return e;
    return split_pending(vcpu, frame);
}

static inline enum error fault_small(struct vm *vm, struct vcpu *vcpu, gfn_t frame,
                                     enum fault_kind kind)
{
    enum error e = map_small(vm, vcpu, frame, kind);
    if (e)
        return e;
    vm->memory.faulted++;
    if (kind == FAULT_ACCEPT_4K && vm->memory.ahead) {
        u64 ahead = frame.raw + FAULT_AHEAD_PAGES;
        u64 block_end = block_of(frame).raw + BLOCK_PAGES;
        map_ahead(vcpu, frame.raw + 1, ahead < block_end ? ahead : block_end);
    }
    return OK;
}

__attribute__((noinline)) static enum error fault_large(struct vcpu *vcpu, gfn_t frame)
{
    gfn_t block = block_of(frame);
    enum error e = map_block(vcpu, block);
    vcpu->vm->memory.large_wanted += e != ERR_BUSY;
    vcpu->vm->memory.large_mapped += e == OK;
    if (e == OK || e == ERR_BUSY)
        return e;
    e = fault_small(vcpu->vm, vcpu, frame, FAULT_ACCEPT_2M);
    if (!e)
        map_ahead(vcpu, block.raw, block.raw + BLOCK_PAGES);
    return e;
}

enum error memory_fault(struct vcpu *vcpu, gfn_t frame, enum fault_kind kind)
{
    struct vm *vm = vcpu->vm;
    enum error e = ERR_RANGE;
    lock_share(&vm->memory.lock);
    if (frame_may_be_private(&vm->memory, frame))
        e = kind == FAULT_ACCEPT_2M ? fault_large(vcpu, frame) : fault_small(vm, vcpu, frame, kind);
    if (!e)
        memory_note_private(vm);
    lock_unshare(&vm->memory.lock);
    return e;
}

enum error memory_demote(struct vcpu *vcpu, gfn_t start, gfn_t end)
{
    enum error e = OK;
    for (gfn_t frame = start; frame.raw < end.raw && !e;
         frame = gfn(block_of(frame).raw + BLOCK_PAGES))
        e = mirror_demote(&vcpu->vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
    return e;
}

/* The question shares the lock; only the change excludes. */
enum error memory_promote_block(struct vcpu *vcpu, gfn_t block)
{
    struct mirror *mirror = &vcpu->vm->td.mirror;
    if (!mirror_can_promote(mirror, block, LEVEL_2M))
        return ERR_STATE;
    return mirror_promote(mirror, block, LEVEL_2M);
}

enum error memory_promote(struct vcpu *vcpu, gfn_t start, gfn_t end, u64 *promoted)
{
    *promoted = 0;
    for (gfn_t block = block_of(start); block.raw < end.raw; block.raw += BLOCK_PAGES) {
        enum error e = memory_promote_block(vcpu, block);
        if (e && e != ERR_STATE)
            return e;
        *promoted += e == OK;
    }
    return OK;
}

void memory_scan(struct vcpu *vcpu)
{
    struct guest_memory *memory = &vcpu->vm->memory;
    gfn_t block = memory->scan_next;
    if (!memory->scans)
        return;
    memory->scan_next =
        block.raw + BLOCK_PAGES < memory->frames ? gfn(block.raw + BLOCK_PAGES) : gfn(0);
    (void)memory_promote_block(vcpu, block);
}
