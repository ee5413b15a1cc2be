/* SPDX-License-Identifier: MIT */
/* MapGPA both ways, and the removal of private memory: whole ranges, step by step. */
#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/phys.h"
#include "boot/vmx.h"
#include "vmm/memory.h"
#include "vmm/run.h"
#include "vmm/vm.h"

/* Between two steps waiting interrupts are looked for. */
#define CONVERSION_STEP_PAGES 512
/* Nothing is set aside for a discard: its steps are only for the interrupts' sake. */
#define DISCARD_STEP_PAGES (64 * MIB / PAGE_BYTES)

/*
 * Shared pages on their way in or out: one of 2 MiB, or some of 4 KiB. The list is a page of the
 * VMM's own: a page that a guest may still reach is no place for a link.
 */
struct page_list {
    hpa_t *pages; /* room for CONVERSION_STEP_PAGES */
    u32 count;
    hpa_t large; /* HPA_NONE: none */
};
_Static_assert(CONVERSION_STEP_PAGES * sizeof(hpa_t) <= PAGE_BYTES, "a list is a page");

static enum error list_open(struct page_list *list)
{
    hpa_t page;
    enum error e = page_allocate(PAGE_VMM, &page);
    *list = (struct page_list){.pages = e ? NULL : phys_to_virt(page), .large = HPA_NONE};
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
    if (list->count)
        pages_free_some(list->pages, list->count);
    if (!hpa_is_none(list->large))
        page_free_level(list->large, LEVEL_2M);
    page_free(virt_to_phys(list->pages));
}

static bool list_fill_large(struct page_list *list)
{
    if (page_allocate_level(PAGE_SHARED, LEVEL_2M, &list->large))
        return false;
    page_zero(list->large, LEVEL_2M);
    return true;
}

static enum error list_fill(struct page_list *list, u64 count)
{
    while (list->count < count) {
        hpa_t page;
        enum error e = page_allocate_zeroed(PAGE_SHARED, &page);
        if (e)
            return e;
        list_push(list, page);
    }
    return OK;
}

/* Pages of zeros for `count` frames, as one large page if they are a block and one is free. */
static enum error list_open_filled(struct page_list *list, u64 count, bool can_be_large)
{
    enum error e = list_open(list);
    if (e || (can_be_large && count == BLOCK_PAGES && list_fill_large(list)))
        return e;
    e = list_fill(list, count);
    if (e)
        list_close(list);
    return e;
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

/* Gives the frames of [*done, end) that are not shared yet their pages of zeros. */
static enum error shared_map(struct vcpu *vcpu, struct page_list *zeros, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    for (; done->raw < end.raw; done->raw++) {
        if (memory_frame_is_shared(&vm->memory, *done))
            continue;
        enum error e = vcpu_caches_fill(&vcpu->caches);
        if (!e)
            e = ept_map(&vm->direct, &vcpu->caches, shared_alias(vm, *done), LEVEL_4K,
                        zeros->pages[zeros->count - 1], EPT_READ | EPT_WRITE);
        if (e)
            return e;
        zeros->count--;
        memory_mark_shared(&vm->memory, *done, 1);
    }
    return OK;
}

static enum error shared_map_large(struct vcpu *vcpu, struct page_list *zeros, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    enum error e = ept_map(&vm->direct, &vcpu->caches, shared_alias(vm, *done), LEVEL_2M,
                           zeros->large, EPT_READ | EPT_WRITE);
    if (e)
        return e;
    zeros->large = HPA_NONE;
    memory_mark_shared(&vm->memory, *done, BLOCK_PAGES);
    done->raw += BLOCK_PAGES;
    return OK;
}

/* With pages for all that is private in the range. */
static enum error share_frames(struct vcpu *vcpu, struct page_list *zeros, gfn_t end, gfn_t *done)
{
    gfn_t removed = *done;
    enum error e = mirror_remove_range(&vcpu->vm->td.mirror, &vcpu->caches, *done, end, &removed);
    if (!e && !hpa_is_none(zeros->large))
        return shared_map_large(vcpu, zeros, done);
    /* A large page for less than that is none: those frames are absent, and the guest is told. */
    if (!hpa_is_none(zeros->large))
        return e;
    enum error mapped = shared_map(vcpu, zeros, e ? removed : end, done);
    return mapped ? mapped : e;
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
    bool can_be_large = (vm->direct.features & EPT_FEATURE_2M) && start.raw % BLOCK_PAGES == 0;
    *done = start;
    lock_exclude(&vm->memory.lock);
    u64 count = private_frames(&vm->memory, start, end);
    enum error e = count ? vcpu_caches_fill(&vcpu->caches) : OK;
    if (!e && count) {
        e = list_open_filled(&zeros, count, can_be_large);
        if (!e) {
            e = share_frames(vcpu, &zeros, end, done);
            list_close(&zeros);
        }
    }
    if (!e)
        *done = end;
    lock_unexclude(&vm->memory.lock);
    return e;
}

/*
 * A guest takes a block that was emptied in whole pages of 2 MiB again, if no table is left in
 * their place: there hardly is a question whether it can go. What refuses, stays: it costs speed
 * alone.
 */
static void blocks_tidy(struct vcpu *vcpu, gfn_t start, gfn_t end)
{
    gfn_t block = gfn(align_up(start.raw, BLOCK_PAGES));
    for (; block.raw + BLOCK_PAGES <= end.raw; block.raw += BLOCK_PAGES)
        (void)mirror_promote(&vcpu->vm->td.mirror, block, LEVEL_2M);
}

/*
 * One step of shared frames: unmapped first, freed only when no processor can still reach them. The
 * lock is not held for the flush: a vCPU that waits for the lock could not answer it.
 */
static enum error unshare_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    struct page_list unmapped;
    enum level wanted = end.raw - start.raw == BLOCK_PAGES ? LEVEL_2M : LEVEL_4K;
    *done = start;
    enum error e = list_open(&unmapped);
    if (e)
        return e;
    lock_exclude(&vm->memory.lock);
    while (done->raw < end.raw) {
        hpa_t page;
        enum level found;
        if (!memory_frame_is_shared(&vm->memory, *done)) {
            done->raw++;
            continue;
        }
        /* Only a page that is cut needs a table. */
        (void)page_cache_fill(&vcpu->caches.direct_tables);
        e = ept_unmap(&vm->direct, &vcpu->caches, shared_alias(vm, *done), wanted, &page, &found);
        if (e)
            break;
        if (found == LEVEL_2M)
            unmapped.large = page;
        else
            list_push(&unmapped, page);
        memory_mark_private(&vm->memory, *done, level_pages(found));
        done->raw += level_pages(found);
    }
    lock_unexclude(&vm->memory.lock);
    hpa_t tables = ept_retired(&vm->direct);
    if (unmapped.count || !hpa_is_none(unmapped.large) || !hpa_is_none(tables))
        vm_flush_shared(vcpu);
    ept_free_tables(&vm->direct, tables);
    list_close(&unmapped);
    if (!e)
        blocks_tidy(vcpu, start, end);
    return e;
}

static enum error discard_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    struct vm *vm = vcpu->vm;
    lock_exclude(&vm->memory.lock);
    enum error e = mirror_remove_range(&vm->td.mirror, &vcpu->caches, start, end, done);
    lock_unexclude(&vm->memory.lock);
    if (!e)
        blocks_tidy(vcpu, start, end);
    return e;
}

typedef enum error range_step(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done);

/* Steps of `step_pages`, or up to where such a step would begin. */
static enum error range_walk(struct vcpu *vcpu, gfn_t start, gfn_t end, range_step *step,
                             u64 step_pages, gfn_t *done)
{
    gfn_t ram_end = gfn(vcpu->vm->memory.frames);
    if (end.raw < ram_end.raw)
        ram_end = end;
    memory_note_private(vcpu->vm);
    *done = start;
    while (done->raw < ram_end.raw) {
        u64 next = align_down(done->raw, step_pages) + step_pages;
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
    return range_walk(vcpu, start, end, share_step, CONVERSION_STEP_PAGES, done);
}

enum error memory_make_private(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    return range_walk(vcpu, start, end, unshare_step, CONVERSION_STEP_PAGES, done);
}

enum error memory_discard(struct vcpu *vcpu, gfn_t start, gfn_t end, gfn_t *done)
{
    return range_walk(vcpu, start, end, discard_step, DISCARD_STEP_PAGES, done);
}
