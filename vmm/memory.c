/* SPDX-License-Identifier: MIT */
#include "vmm/memory.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/vmx.h"
#include "vmm/layout.h"
#include "vmm/run.h"
#include "vmm/vm.h"

/* Conversions and large faults look for waiting interrupts after so many pages. */
#define CONVERSION_STEP_PAGES 512
#define FAULT_STEP_PAGES 64
#define FAULT_AHEAD_PAGES 32
/* Nothing is set aside for a discard: its steps are only for the interrupts' sake. */
#define DISCARD_STEP_PAGES (64 * MIB / PAGE_BYTES)

#define BLOCK_PAGES level_pages(LEVEL_2M)

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
        memset(phys_to_virt(hpa(memory->shared_map.raw + i * PAGE_BYTES)), 0, PAGE_BYTES);
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

static void mark_shared(struct guest_memory *memory, gfn_t frame)
{
    *map_byte(memory, frame) |= (u8)(1u << (frame.raw % 8));
    memory->shared_now++;
    if (memory->shared_now > memory->shared_most)
        memory->shared_most = memory->shared_now;
}

static void mark_private(struct guest_memory *memory, gfn_t frame)
{
    *map_byte(memory, frame) &= (u8) ~(1u << (frame.raw % 8));
    memory->shared_now--;
}

static bool frame_may_be_private(const struct guest_memory *memory, gfn_t frame)
{
    if (frame.raw >= LAYOUT_FIRMWARE / PAGE_BYTES && frame.raw < LAYOUT_FIRMWARE_END / PAGE_BYTES)
        return true;
    return memory_frame_is_ram(memory, frame) && !memory_frame_is_shared(memory, frame);
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

static void note_private_pages(struct vm *vm)
{
    u64 now = mirror_private_pages(&vm->td.mirror);
    if (now > vm->memory.private_most)
        vm->memory.private_most = now;
}

/* Maps what is absent of [start, end); a frame that fails here will fault itself. */
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
        if (mirror_map(&vm->td.mirror, &vcpu->caches, frame, LEVEL_4K))
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
static enum error map_small(struct vcpu *vcpu, gfn_t frame, enum fault_kind kind)
{
    struct vm *vm = vcpu->vm;
    enum level level;
    u32 cached = vcpu->caches.private_pages.count;
    enum error e = mirror_map(&vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
    /* A page that is gone from the cache is mapped: nothing large was in the way. */
    if (e || kind != FAULT_ACCEPT_4K || vcpu->caches.private_pages.count + 1 == cached)
        return e;
    if (hpa_is_none(mirror_lookup(&vm->td.mirror, frame, &level)) || level == LEVEL_4K)
        return OK;
    return mirror_demote(&vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
}

enum error memory_fault(struct vcpu *vcpu, gfn_t frame, enum fault_kind kind)
{
    struct vm *vm = vcpu->vm;
    u64 block = block_of(frame).raw;
    u64 block_end = block + BLOCK_PAGES;
    u64 ahead = frame.raw + FAULT_AHEAD_PAGES;
    lock_share(&vm->memory.lock);
    enum error e = frame_may_be_private(&vm->memory, frame) ? OK : ERR_RANGE;
    bool mapped = false;
    if (!e && kind == FAULT_ACCEPT_2M) {
        enum error large = map_block(vcpu, gfn(block));
        mapped = large == OK;
        if (large == ERR_BUSY)
            e = ERR_BUSY;
    }
    if (!e && !mapped) {
        e = map_small(vcpu, frame, kind);
        vm->memory.faulted += e == OK;
        if (!e && kind == FAULT_ACCEPT_2M)
            map_ahead(vcpu, block, block_end);
        else if (!e && kind == FAULT_ACCEPT_4K && vm->memory.ahead)
            map_ahead(vcpu, frame.raw + 1, ahead < block_end ? ahead : block_end);
    }
    if (!e)
        note_private_pages(vm);
    lock_unshare(&vm->memory.lock);
    return e;
}

/*
 * Shared pages on their way in or out. The list is a page of the VMM's own: a page that a guest
 * may still reach is no place for a link.
 */
struct page_list {
    hpa_t *pages; /* room for CONVERSION_STEP_PAGES */
    u32 count;
};
_Static_assert(CONVERSION_STEP_PAGES * sizeof(hpa_t) <= PAGE_BYTES, "a list is a page");

static enum error list_open(struct page_list *list)
{
    hpa_t page;
    enum error e = page_allocate(PAGE_VMM, &page);
    *list = (struct page_list){.pages = e ? NULL : phys_to_virt(page)};
    return e;
}

static void list_push(struct page_list *list, hpa_t page)
{
    ASSERT(list->count < CONVERSION_STEP_PAGES);
    list->pages[list->count++] = page;
}

/* Frees the list, and every page that is still in it. */
static void list_close(struct page_list *list)
{
    while (list->count)
        page_free(list->pages[--list->count]);
    page_free(virt_to_phys(list->pages));
}

/* A list of `count` pages of zeros. */
static enum error list_open_filled(struct page_list *list, u64 count)
{
    enum error e = list_open(list);
    if (e)
        return e;
    while (list->count < count) {
        hpa_t page;
        e = page_allocate_zeroed(PAGE_SHARED, &page);
        if (e) {
            list_close(list);
            return e;
        }
        list_push(list, page);
    }
    return OK;
}

static gfn_t shared_alias(const struct vm *vm, gfn_t frame)
{
    return gfn(frame.raw | vm->shared_bit.raw >> PAGE_SHIFT);
}

static u64 private_frames(const struct guest_memory *memory, gfn_t start, gfn_t end)
{
    u64 count = 0;
    for (gfn_t frame = start; frame.raw < end.raw; frame.raw++)
        count += !memory_frame_is_shared(memory, frame);
    return count;
}

/* Pages of zeros for the frames of [*done, end) that are not shared yet. */
static enum error shared_map(struct vcpu *vcpu, struct page_list *zeros, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    for (; done->raw < end.raw; done->raw++) {
        if (memory_frame_is_shared(&vm->memory, *done))
            continue;
        enum error e = vcpu_caches_fill(&vcpu->caches);
        if (!e)
            e = ept_map(&vm->direct, &vcpu->caches, shared_alias(vm, *done),
                        zeros->pages[zeros->count - 1], EPT_READ | EPT_WRITE);
        if (e)
            return e;
        zeros->count--;
        mark_shared(&vm->memory, *done);
    }
    return OK;
}

/*
 * One step of private frames, with one removal for all. The pages are set aside before the first
 * change. Should a table page be missing in the middle, the frames behind are private and absent:
 * the guest is told where.
 */
static enum error share_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    struct page_list zeros;
    *done = start;
    lock_exclude(&vm->memory.lock);
    u64 count = private_frames(&vm->memory, start, end);
    enum error e = count ? list_open_filled(&zeros, count) : OK;
    if (count && !e) {
        gfn_t removed = start;
        e = mirror_remove_range(&vm->td.mirror, &vcpu->caches, start, end, &removed);
        enum error mapped = shared_map(vcpu, &zeros, e ? removed : end, done);
        if (mapped)
            e = mapped;
        list_close(&zeros);
    }
    if (!e)
        *done = end;
    lock_unexclude(&vm->memory.lock);
    return e;
}

/*
 * A guest takes a block that was emptied in whole pages of 2 MiB again, if no table is left in
 * their place. What refuses, stays: it costs speed alone.
 */
static void block_tidy(struct vcpu *vcpu, gfn_t start, gfn_t end)
{
    struct mirror *mirror = &vcpu->vm->td.mirror;
    gfn_t block = gfn(align_up(start.raw, BLOCK_PAGES));
    for (; block.raw + BLOCK_PAGES <= end.raw; block.raw += BLOCK_PAGES)
        if (mirror_can_promote(mirror, block, LEVEL_2M))
            (void)mirror_promote(mirror, block, LEVEL_2M);
}

/*
 * One step of shared frames: unmapped first, freed only when no processor can still reach them. The
 * lock is not held for the flush: a vCPU that waits for the lock could not answer it.
 */
static enum error unshare_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    struct page_list unmapped;
    *done = start;
    enum error e = list_open(&unmapped);
    if (e)
        return e;
    lock_exclude(&vm->memory.lock);
    for (; done->raw < end.raw; done->raw++) {
        hpa_t page;
        if (!memory_frame_is_shared(&vm->memory, *done))
            continue;
        e = ept_unmap(&vm->direct, shared_alias(vm, *done), &page);
        if (e)
            break;
        list_push(&unmapped, page);
        mark_private(&vm->memory, *done);
    }
    lock_unexclude(&vm->memory.lock);
    if (unmapped.count)
        vm_flush_shared(vcpu);
    list_close(&unmapped);
    if (!e)
        block_tidy(vcpu, start, end);
    return e;
}

typedef enum error conversion_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done);

static enum error convert(struct vcpu *vcpu, gfn_t start, gfn_t end, conversion_step *step,
                          gfn_t *done)
{
    gfn_t ram_end = gfn(vcpu->vm->memory.frames);
    if (end.raw < ram_end.raw)
        ram_end = end;
    note_private_pages(vcpu->vm);
    *done = start;
    while (done->raw < ram_end.raw) {
        u64 next = align_down(done->raw, CONVERSION_STEP_PAGES) + CONVERSION_STEP_PAGES;
        enum error e = step(vcpu, *done, gfn(next < ram_end.raw ? next : ram_end.raw), done);
        if (e)
            return e;
        if (done->raw < ram_end.raw && apic_interrupt_is_pending())
            return ERR_BUSY;
    }
    *done = end;
    return OK;
}

enum error memory_make_shared(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    return convert(vcpu, start, end, share_step, done);
}

enum error memory_make_private(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    return convert(vcpu, start, end, unshare_step, done);
}

enum error memory_discard(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    gfn_t ram_end = end.raw < vm->memory.frames ? end : gfn(vm->memory.frames);
    note_private_pages(vm);
    *done = start;
    while (done->raw < ram_end.raw) {
        gfn_t from = *done;
        u64 next = align_down(from.raw, DISCARD_STEP_PAGES) + DISCARD_STEP_PAGES;
        gfn_t to = next < ram_end.raw ? gfn(next) : ram_end;
        lock_exclude(&vm->memory.lock);
        enum error e = mirror_remove_range(&vm->td.mirror, &vcpu->caches, from, to, done);
        lock_unexclude(&vm->memory.lock);
        if (e)
            return e;
        *done = to;
        block_tidy(vcpu, from, to);
        if (done->raw < ram_end.raw && apic_interrupt_is_pending())
            return ERR_BUSY;
    }
    *done = end;
    return OK;
}

enum error memory_demote(struct vcpu *vcpu, gfn_t start, gfn_t end)
{
    enum error e = OK;
    for (gfn_t frame = start; frame.raw < end.raw && !e;
         frame = gfn(block_of(frame).raw + BLOCK_PAGES))
        e = mirror_demote(&vcpu->vm->td.mirror, &vcpu->caches, frame, LEVEL_4K);
    return e;
}

enum error memory_promote(struct vcpu *vcpu, gfn_t start, gfn_t end, u64 *promoted)
{
    struct mirror *mirror = &vcpu->vm->td.mirror;
    *promoted = 0;
    for (gfn_t block = block_of(start); block.raw < end.raw; block.raw += BLOCK_PAGES) {
        if (!mirror_can_promote(mirror, block, LEVEL_2M))
            continue;
        enum error e = mirror_promote(mirror, block, LEVEL_2M);
        if (e && e != ERR_STATE)
            return e;
        *promoted += e == OK;
    }
    return OK;
}

void memory_scan(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    struct mirror *mirror = &vm->td.mirror;
    gfn_t block = vm->memory.scan_next;
    if (!vm->memory.scans)
        return;
    vm->memory.scan_next =
        block.raw + BLOCK_PAGES < vm->memory.frames ? gfn(block.raw + BLOCK_PAGES) : gfn(0);
    if (mirror_can_promote(mirror, block, LEVEL_2M))
        (void)mirror_promote(mirror, block, LEVEL_2M);
}
