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

enum error memory_init(struct guest_memory *memory, u64 bytes)
{
    *memory = (struct guest_memory){
        .frames = bytes / PAGE_BYTES,
        .lock = SHARED_LOCK_INIT(RANK_VM, "guest memory"),
        .shared_map = HPA_NONE,
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

static void note_private_pages(struct vm *vm)
{
    u64 now = vm->td.mirror.stats.leaves;
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
            !hpa_is_none(mirror_lookup(&vm->td.mirror, frame)))
            continue;
        if (mirror_map(&vm->td.mirror, &vcpu->caches, frame))
            return;
        vm->memory.faulted++;
    }
}

enum error memory_fault(struct vcpu *vcpu, gfn_t frame, enum fault_kind kind)
{
    struct vm *vm = vcpu->vm;
    u64 block = align_down(frame.raw, level_pages(LEVEL_2M));
    u64 block_end = block + level_pages(LEVEL_2M);
    u64 ahead = frame.raw + FAULT_AHEAD_PAGES;
    lock_share(&vm->memory.lock);
    enum error e = ERR_RANGE;
    if (frame_may_be_private(&vm->memory, frame))
        e = mirror_map(&vm->td.mirror, &vcpu->caches, frame);
    if (!e) {
        vm->memory.faulted++;
        if (kind == FAULT_ACCEPT_2M)
            map_ahead(vcpu, block, block_end);
        else if (kind == FAULT_ACCEPT_4K)
            map_ahead(vcpu, frame.raw + 1, ahead < block_end ? ahead : block_end);
        note_private_pages(vm);
    }
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

/*
 * One run of private frames. The pages are set aside before the first change. Should a table page
 * be missing in the middle, the frames behind are private and absent: the guest is told where.
 */
static enum error share_run(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    struct page_list zeros;
    *done = start;
    enum error e = list_open_filled(&zeros, end.raw - start.raw);
    if (e)
        return e;
    gfn_t removed = start;
    e = mirror_remove_range(&vm->td.mirror, start, end, &removed);
    if (!e)
        removed = end;
    for (; done->raw < removed.raw; done->raw++) {
        enum error mapped = vcpu_caches_fill(&vcpu->caches);
        if (!mapped)
            mapped = ept_map(&vm->direct, &vcpu->caches, shared_alias(vm, *done), LEVEL_4K,
                             zeros.pages[zeros.count - 1], EPT_READ | EPT_WRITE);
        if (mapped) {
            e = mapped;
            break;
        }
        zeros.count--;
        mark_shared(&vm->memory, *done);
    }
    list_close(&zeros);
    return e;
}

/*
 * One run of shared frames: unmapped first, freed only when no processor can still reach them. The
 * lock is not held for the flush: a vCPU that waits for the lock could not answer it.
 */
static enum error unshare_run(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
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
        enum level found;
        if (!memory_frame_is_shared(&vm->memory, *done))
            continue;
        e = ept_unmap(&vm->direct, &vcpu->caches, shared_alias(vm, *done), LEVEL_4K, &page, &found);
        if (e)
            break;
        list_push(&unmapped, page);
        mark_private(&vm->memory, *done);
    }
    lock_unexclude(&vm->memory.lock);
    hpa_t tables = ept_retired(&vm->direct);
    if (unmapped.count || !hpa_is_none(tables))
        vm_flush_shared(vcpu);
    ept_free_tables(&vm->direct, tables);
    list_close(&unmapped);
    return e;
}

/* Converts the private runs of a step. */
static enum error share_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct guest_memory *memory = &vcpu->vm->memory;
    enum error e = OK;
    lock_exclude(&memory->lock);
    *done = start;
    while (done->raw < end.raw && !e) {
        if (memory_frame_is_shared(memory, *done)) {
            done->raw++;
            continue;
        }
        gfn_t run_end = gfn(done->raw + 1);
        while (run_end.raw < end.raw && !memory_frame_is_shared(memory, run_end))
            run_end.raw++;
        e = share_run(vcpu, *done, run_end, done);
    }
    lock_unexclude(&memory->lock);
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
    return convert(vcpu, start, end, unshare_run, done);
}
