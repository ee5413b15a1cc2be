/* SPDX-License-Identifier: MIT */
#include "tests/vmm/fakes.h"

#include <stdlib.h>
#include <string.h>

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/phys.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/monitor.h"
#include "vmm/run.h"

#define HOST_PAGES 32768u

/* A test that links the real one overrides it. */
#define REPLACEABLE __attribute__((weak))

struct fakes fakes;
static u8 page_state[HOST_PAGES]; /* the owner, PAGE_FREE if none */
static const char *typed;
static struct guest_config config;

static u64 page_index(hpa_t page)
{
    return (page.raw - HOST_MEMORY_START) / PAGE_BYTES;
}

enum error pages_allocate(enum page_owner owner, u64 count, u64 align_pages, hpa_t *first)
{
    (void)align_pages;
    if (fakes.pages_taken + count > fakes.pages_limit)
        return ERR_NO_MEMORY;
    for (u64 start = 0; start + count <= HOST_PAGES; start++) {
        u64 free_pages = 0;
        while (free_pages < count && page_state[start + free_pages] == PAGE_FREE)
            free_pages++;
        if (free_pages < count) {
            start += free_pages;
            continue;
        }
        memset(page_state + start, owner, count);
        fakes.pages_taken += count;
        *first = hpa(HOST_MEMORY_START + start * PAGE_BYTES);
        return OK;
    }
    return ERR_NO_MEMORY;
}

enum error page_allocate(enum page_owner owner, hpa_t *page)
{
    enum error e = pages_allocate(owner, 1, 1, page);
    if (!e)
        memset(phys_to_virt(*page), 0xa5, PAGE_BYTES);
    return e;
}

enum error page_allocate_zeroed(enum page_owner owner, hpa_t *page)
{
    enum error e = page_allocate(owner, page);
    if (!e)
        memset(phys_to_virt(*page), 0, PAGE_BYTES);
    return e;
}

void page_free(hpa_t page)
{
    u64 index = page_index(page);
    if (index >= HOST_PAGES || page_state[index] == PAGE_FREE)
        panic("page %#llx is freed, but not taken", (unsigned long long)page.raw);
    if (page_state[index] == PAGE_SHARED && fakes.unflushed)
        fakes.flushed_before_free = false;
    page_state[index] = PAGE_FREE;
    fakes.pages_taken--;
}

void pages_free(hpa_t first, u64 count)
{
    for (u64 i = 0; i < count; i++)
        page_free(hpa(first.raw + i * PAGE_BYTES));
}

void pages_free_some(const hpa_t *pages, u32 count)
{
    for (u32 i = 0; i < count; i++)
        page_free(pages[i]);
}

/* None is whole enough. */
enum error page_allocate_level(enum page_owner owner, enum level level, hpa_t *page)
{
    (void)owner;
    (void)level;
    (void)page;
    return ERR_NO_MEMORY;
}

void page_zero(hpa_t page, enum level level)
{
    memset(phys_to_virt(page), 0, level_bytes(level));
}

void page_free_level(hpa_t page, enum level level)
{
    pages_free(page, level_pages(level));
}

enum error page_cache_fill_now(struct page_cache *cache)
{
    (void)cache;
    return OK;
}

enum error vcpu_caches_fill(struct vcpu_caches *caches)
{
    (void)caches;
    return OK;
}

static enum error map_in(hpa_t *table, gfn_t frame, hpa_t page)
{
    assert_true(frame.raw < FAKE_FRAMES);
    assert_true(hpa_is_none(table[frame.raw]));
    if (fakes.maps_left == 0)
        return fakes.map_error;
    fakes.maps_left--;
    table[frame.raw] = page;
    return OK;
}

enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                      enum level level)
{
    hpa_t page;
    (void)caches;
    if (level == LEVEL_2M) {
        fakes.large_maps++;
        return fakes.large_error;
    }
    if (frame.raw >= FAKE_FRAMES) {
        mirror->stats.leaves[LEVEL_4K]++; /* the firmware window */
        return OK;
    }
    if (!hpa_is_none(fakes.mirror[frame.raw]))
        return OK;
    /* A frame is never private and shared at once. */
    assert_true(hpa_is_none(fakes.direct[frame.raw]));
    enum error e = page_allocate(PAGE_PRIVATE, &page);
    if (e)
        return e;
    e = map_in(fakes.mirror, frame, page);
    if (e)
        page_free(page);
    else
        mirror->stats.leaves[LEVEL_4K]++;
    return e;
}

enum error mirror_remove_range(struct mirror *mirror, struct vcpu_caches *caches, gfn_t start,
                               gfn_t end, gfn_t *done)
{
    (void)caches;
    fakes.track_calls++;
    for (*done = start; done->raw < end.raw; done->raw++) {
        if (fakes.removals_left == 0)
            return ERR_REFUSED;
        fakes.removals_left--;
        if (hpa_is_none(fakes.mirror[done->raw]))
            continue;
        page_free(fakes.mirror[done->raw]);
        fakes.mirror[done->raw] = HPA_NONE;
        mirror->stats.leaves[LEVEL_4K]--;
    }
    return OK;
}

enum error mirror_demote(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                         enum level level)
{
    (void)mirror;
    (void)caches;
    (void)frame;
    assert_int_equal(level, LEVEL_4K);
    fakes.demotions++;
    return OK;
}

bool mirror_can_promote(struct mirror *mirror, gfn_t frame, enum level level)
{
    (void)mirror;
    (void)level;
    return fakes.can_promote && frame.raw % level_pages(LEVEL_2M) == 0;
}

enum error mirror_promote(struct mirror *mirror, gfn_t frame, enum level level)
{
    (void)mirror;
    (void)frame;
    (void)level;
    fakes.promotions++;
    return OK;
}

hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame, enum level *level)
{
    (void)mirror;
    if (level)
        *level = fakes.lookup_level;
    return frame.raw < FAKE_FRAMES ? fakes.mirror[frame.raw] : HPA_NONE;
}

static gfn_t without_shared_bit(gfn_t frame)
{
    assert_true(frame.raw & FAKE_SHARED_BIT >> PAGE_SHIFT);
    return gfn(frame.raw & ~(FAKE_SHARED_BIT >> PAGE_SHIFT));
}

enum error ept_map(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                   hpa_t page, u64 permissions)
{
    (void)ept;
    (void)caches;
    assert_int_equal(level, LEVEL_4K);
    assert_int_equal(permissions, 3);
    frame = without_shared_bit(frame);
    assert_true(hpa_is_none(fakes.mirror[frame.raw]));
    for (u32 i = 0; i < PAGE_BYTES; i++)
        assert_int_equal(((u8 *)phys_to_virt(page))[i], 0);
    return map_in(fakes.direct, frame, page);
}

enum error ept_unmap(struct ept *ept, struct vcpu_caches *caches, gfn_t frame, enum level level,
                     hpa_t *page, enum level *found)
{
    (void)ept;
    (void)caches;
    *found = level;
    frame = without_shared_bit(frame);
    *page = fakes.direct[frame.raw];
    if (hpa_is_none(*page))
        return ERR_NOT_FOUND;
    fakes.direct[frame.raw] = HPA_NONE;
    fakes.unflushed = true;
    return OK;
}

hpa_t ept_lookup(struct ept *ept, gfn_t frame, enum level *level)
{
    (void)ept;
    (void)level;
    return fakes.direct[without_shared_bit(frame).raw];
}

hpa_t ept_retired(struct ept *ept)
{
    (void)ept;
    return HPA_NONE;
}

void ept_free_tables(struct ept *ept, hpa_t tables)
{
    (void)ept;
    assert_true(hpa_is_none(tables));
}

REPLACEABLE void vm_flush_shared(struct vcpu *vcpu)
{
    (void)vcpu;
    fakes.flushes++;
    fakes.unflushed = false;
}

bool apic_interrupt_is_pending(void)
{
    return fakes.interrupt_pending;
}

void td_vcpu_post(struct td_vcpu *vcpu, u8 vector)
{
    fakes.posts++;
    fakes.posted_vector = vector;
    fakes.posted_vcpu = CONTAINER_OF(vcpu, struct vcpu, td)->index;
}

bool td_vcpu_interrupt_is_pending(struct td_vcpu *vcpu)
{
    (void)vcpu;
    return fakes.vcpu_interrupt_pending;
}

void fake_type(const char *text)
{
    typed = text;
}

int console_read(void)
{
    return typed && *typed ? (u8)*typed++ : -1;
}

REPLACEABLE void vm_end(struct vm *vm, enum vm_end end)
{
    if (vm->end == VM_RUNS)
        vm->end = end;
    cpu_this()->kicked = true;
}

REPLACEABLE void monitor_poll_at(u64 tsc)
{
    (void)tsc;
}

REPLACEABLE const char *vm_end_text(enum vm_end end)
{
    (void)end;
    return "";
}

REPLACEABLE void vcpu_post(struct vcpu *vcpu, u8 vector)
{
    td_vcpu_post(&vcpu->td, vector);
}

REPLACEABLE void vm_deliver(struct vm *vm, const struct interrupt *interrupt, u32 sender)
{
    for (u32 i = 0; i < vm->vcpu_count && interrupt->kind == INTERRUPT_FIXED; i++) {
        if (interrupt_is_for(interrupt, i, sender))
            vcpu_post(vm->vcpus[i], interrupt->vector);
    }
}

REPLACEABLE void vm_update_uart_line(struct vm *vm)
{
    struct interrupt interrupt;
    ioapic_set_line(&vm->ioapic, UART_PIN, uart_interrupt(&vm->uart), &interrupt);
    vm_deliver(vm, &interrupt, INTERRUPT_BROADCAST);
}

struct vm *fake_vm_create(u64 memory_bytes, u32 vcpus)
{
    host_memory_create(HOST_PAGES * PAGE_BYTES);
    host_log_clear();
    memset(page_state, PAGE_FREE, sizeof page_state);
    memset(&fakes, 0, sizeof fakes);
    for (u32 i = 0; i < FAKE_FRAMES; i++)
        fakes.mirror[i] = fakes.direct[i] = HPA_NONE;
    fakes.pages_limit = HOST_PAGES;
    fakes.maps_left = fakes.removals_left = ~0ull;
    fakes.map_error = ERR_NO_MEMORY;
    fakes.large_error = ERR_NO_MEMORY;
    fakes.flushed_before_free = true;
    typed = NULL;
    config = (struct guest_config){.name = "test", .memory_bytes = memory_bytes, .vcpus = vcpus};

    struct vm *vm = calloc(1, sizeof *vm);
    vm->config = &config;
    vm->lock = LOCK_INIT(RANK_VM, "vm");
    vm->shared_bit = gpa(FAKE_SHARED_BIT);
    uart_init(&vm->uart, guest_console_output, vm);
    ioapic_init(&vm->ioapic);
    assert_int_equal(memory_init(&vm->memory, memory_bytes), OK);
    vm->vcpu_count = vcpus;
    guest_console_give(vm);
    host_log_clear();
    for (u32 i = 0; i < vcpus; i++) {
        vm->vcpus[i] = calloc(1, sizeof(struct vcpu));
        vm->vcpus[i]->vm = vm;
        vm->vcpus[i]->index = i;
        lapic_init(&vm->vcpus[i]->lapic, i);
    }
    return vm;
}

void fake_vm_destroy(struct vm *vm)
{
    guest_console_take_back(vm);
    for (u32 i = 0; i < FAKE_FRAMES; i++) {
        assert_true(hpa_is_none(fakes.mirror[i]) || hpa_is_none(fakes.direct[i]));
        if (!hpa_is_none(fakes.mirror[i]))
            page_free(fakes.mirror[i]);
        if (!hpa_is_none(fakes.direct[i]))
            page_free(fakes.direct[i]);
    }
    memory_destroy(&vm->memory);
    assert_int_equal(fakes.pages_taken, 0);
    for (u32 i = 0; i < vm->vcpu_count; i++)
        free(vm->vcpus[i]);
    free(vm);
    host_memory_destroy();
}

const struct seamcall_clock *seamcall_clock(void)
{
    return &fakes.clock;
}

/* Where vmm/vm.c is not linked. */
REPLACEABLE enum error vm_audit(struct vm *vm)
{
    (void)vm;
    return fakes.audit;
}
