/* SPDX-License-Identifier: MIT */
#include "vmm/vm.h"

#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/pamt.h"
#include "vmm/cpuid.h"
#include "vmm/guest_image.h"
#include "vmm/measure.h"
#include "vmm/monitor.h"
#include "vmm/run.h"
#include "vmm/schedule.h"
#include "vmm/vmx_interrupt.h"
#include "vmm/vmx_vm.h"

enum end_sort { CLEAN, CRASH };

static const struct {
    enum end_sort sort;
    const char *text;
} ends[VM_ENDS] = {
    [VM_RUNS] = {CRASH, "runs"},
#define VM_END(name, sort_, text_) [VM_END_##name] = {sort_, text_},
#include "vmm/vm_ends.def"
#undef VM_END
};

const char *vm_end_text(enum vm_end end)
{
    return end < VM_ENDS ? ends[end].text : "?";
}
bool vm_end_is_clean(enum vm_end end)
{
    return end < VM_ENDS && ends[end].sort == CLEAN;
}

#define VCPU_PAGES (align_up(sizeof(struct vcpu), PAGE_BYTES) / PAGE_BYTES)
#define GUEST_PAGES_PAGES (sizeof(struct guest_pages) / PAGE_BYTES)

/* A line, and the error: for what is wrong with the configuration. */
#define REFUSE(config, error, format, ...) \
    (log_line("guest %s: " format, (config)->name, __VA_ARGS__), error)

static enum error check_config(const struct guest_config *config)
{
    u64 bytes = config->memory_bytes;
    if (!is_aligned(bytes, PAGE_BYTES) || bytes < LAYOUT_MEMORY_MIN || bytes > LAYOUT_MEMORY_MAX)
        return REFUSE(config, ERR_RANGE,
                      "memory of %llu KiB is not between %llu MiB and %llu MiB in whole pages",
                      (unsigned long long)(bytes / KIB),
                      (unsigned long long)(LAYOUT_MEMORY_MIN / MIB),
                      (unsigned long long)(LAYOUT_MEMORY_MAX / MIB));
    if (config->vcpus == 0 || config->vcpus > TD_VCPUS_MAX)
        return REFUSE(config, ERR_UNSUPPORTED, "%u vCPUs are not between 1 and %u", config->vcpus,
                      TD_VCPUS_MAX);
    for (u32 i = 0; i < config->processor_count; i++)
        if (config->processors[i] >= cpu_count())
            return REFUSE(config, ERR_RANGE, "processor %u, but the machine has %u",
                          config->processors[i], cpu_count());
    /* Its pages, and as many table pages as they need in mirror, external and direct tables. */
    struct pages_stats stats;
    pages_statistics(&stats);
    u64 needed = bytes / PAGE_BYTES + 4 * (bytes / (2 * MIB)) + 64;
    if (needed > stats.pages[PAGE_FREE])
        return REFUSE(config, ERR_NO_MEMORY,
                      "memory of %llu MiB, but the machine has only %llu MiB left",
                      (unsigned long long)(bytes / MIB),
                      (unsigned long long)(stats.pages[PAGE_FREE] * PAGE_BYTES / MIB));
    return OK;
}

static enum error create_td(struct vm *vm)
{
    const struct tdx_module *module = tdx_module();
    const struct td_options options = {
        .max_vcpus = vm->config->vcpus,
        /* A pending page is the VMM's business, not a #VE: Linux demands it. */
        .attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE,
        .tsc_hz = cpuid_tsc_hz(),
        .cpuid = cpuid_configure,
    };
    vm->shared_bit = gpa(1ull << (module->gpa_bits - 1));
    enum error e = memory_init(&vm->memory, vm->config->memory_bytes);
    vm->memory.scans = vm->config->promote;
    if (!e)
        e = ept_init(&vm->direct, module->gpa_bits, vmx_ept_features() & EPT_FEATURE_2M);
    if (e)
        return e;
    vm->has_direct = true;
    e = td_create(&vm->td, &options);
    vm->has_td = !e;
    return e;
}

/* On the processors that tain.cfg names, in turn, or where there are the fewest. */
static u32 vcpu_place(const struct guest_config *config, u32 index)
{
    if (config->processor_count)
        return config->processors[index % config->processor_count];
    return schedule_place(index);
}

/* A vCPU is the module's on the processor that creates it: the one that will run it. */
struct creation {
    struct vm *vm;
    struct vcpu *vcpu;
    enum error result;
};

static void create_vcpu_here(void *argument)
{
    struct creation *creation = argument;
    creation->result =
        td_vcpu_create(&creation->vm->td, &creation->vcpu->td, 0, creation->vm->direct.root);
}

static enum error create_vcpus(struct vm *vm)
{
    for (u32 i = 0; i < vm->config->vcpus; i++) {
        hpa_t pages;
        enum error e = pages_allocate(PAGE_VMM, VCPU_PAGES, 1, &pages);
        if (e)
            return e;
        struct vcpu *vcpu = phys_to_virt(pages);
        memset(vcpu, 0, sizeof *vcpu);
        vcpu->vm = vm;
        vcpu->index = i;
        vcpu->cpu = vcpu_place(vm->config, i);
        vcpu->vmx.vmcs = HPA_NONE;
        vcpu_caches_init(&vcpu->caches, pamt_is_dynamic() ? METADATA_PAGES_MINIMUM : 0);
        lapic_init(&vcpu->lapic, i);
        vm->vcpus[i] = vcpu;
        vm->vcpu_count = i + 1;
        if (!vm_is_td(vm))
            continue;
        struct creation creation = {.vm = vm, .vcpu = vcpu};
        cpu_run_on(vcpu->cpu, create_vcpu_here, &creation);
        if (creation.result)
            return creation.result;
    }
    return OK;
}

/* One page of a piece; `spare` is a page to complete a last one that is shorter. */
static enum error add_page(struct vm *vm, const struct guest_piece *piece, u64 offset, u8 *spare)
{
    const u8 *content = piece->bytes + offset;
    u64 left = piece->len_bytes - offset;
    if (left < PAGE_BYTES) {
        memset(spare, 0, PAGE_BYTES);
        memcpy(spare, content, left);
        content = spare;
    }
    vm->initial_pages++;
    return td_add_page(&vm->td, &vm->vcpus[0]->caches, gpa(piece->start.raw + offset), content);
}

static enum error add_image(struct vm *vm, const struct guest_image *image)
{
    hpa_t page;
    enum error e = page_allocate(PAGE_VMM, &page);
    if (e)
        return e;
    for (u32 i = 0; i < image->count && !e; i++) {
        const struct guest_piece *piece = &image->pieces[i];
        for (u64 offset = 0; offset < piece->len_bytes && !e; offset += PAGE_BYTES) {
            e = add_page(vm, piece, offset, phys_to_virt(page));
            monitor_breathe();
        }
        if (e)
            log_line("guest %s: adding %s to the TD failed: %s", vm->config->name, piece->what,
                     error_name(e));
    }
    page_free(page);
    return e;
}

static enum error build_td(struct vm *vm, const struct guest_image *image)
{
    enum error e = create_td(vm);
    if (!e)
        e = create_vcpus(vm);
    if (!e)
        e = add_image(vm, image);
    if (!e)
        e = td_finalize(&vm->td);
    if (!e)
        e = td_measurement(&vm->td, vm->mrtd);
    return e;
}

static enum error build_vm(struct vm *vm, const struct guest_image *image)
{
    enum error e = vmx_vm_create(vm);
    if (!e)
        e = create_vcpus(vm);
    if (!e)
        e = vmx_vm_add_image(vm, image);
    for (u32 i = 0; i < vm->vcpu_count && !e; i++)
        e = vmx_vcpu_create(vm->vcpus[i], &image->pages->shim);
    return e;
}

/* Reads the files first: nothing is created for a kernel that is none. */
static enum error build(struct vm *vm, struct guest_pages *pages)
{
    struct guest_image image = {.config = vm->config, .pages = pages};
    gpa_t shared_bit = vm_is_td(vm) ? gpa(1ull << (tdx_module()->gpa_bits - 1)) : gpa(0);
    enum error e = guest_image_build(&image, shared_bit);
    if (e)
        return e;
    u64 start_tsc = tsc_read();
    log_line("guest %s: %llu MiB of memory, %u vCPU%s, building from %llu KiB", vm->config->name,
             (unsigned long long)(vm->config->memory_bytes / MIB), vm->config->vcpus,
             vm->config->vcpus == 1 ? "" : "s",
             (unsigned long long)(guest_image_bytes(&image) / KIB));
    e = vm_is_td(vm) ? build_td(vm, &image) : build_vm(vm, &image);
    if (!e)
        log_line("guest %s: built, %llu pages %s, %llu ticks", vm->config->name,
                 (unsigned long long)vm->initial_pages, vm_is_td(vm) ? "measured" : "copied",
                 (unsigned long long)(tsc_read() - start_tsc));
    return e;
}

enum error vm_create(struct vm *vm, const struct guest_config *config)
{
    *vm = (struct vm){.config = config, .lock = LOCK_INIT(RANK_VM, "vm")};
    vm->memory.shared_map = HPA_NONE;
    uart_init(&vm->uart, guest_console_output, vm);
    ioapic_init(&vm->ioapic);
    hpa_t pages;
    enum error e = check_config(config);
    if (!e)
        e = pages_allocate(PAGE_VMM, GUEST_PAGES_PAGES, 1, &pages);
    if (!e) {
        memset(phys_to_virt(pages), 0, sizeof(struct guest_pages));
        e = build(vm, phys_to_virt(pages));
        pages_free(pages, GUEST_PAGES_PAGES);
    }
    if (!e)
        return OK;
    enum error destroyed = vm_destroy(vm);
    if (destroyed)
        log_line("guest %s: not all was given back: %s", config->name, error_name(destroyed));
    log_line("tain: guest %s was not built: %s", config->name, error_name(e));
    return e;
}

enum error vm_start(struct vm *vm)
{
    vm->start_tsc = tsc_read();
    vm->scan_tsc = vm->start_tsc;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        enum error e = schedule_add(vm->vcpus[i]);
        if (!e)
            continue;
        log_line("guest %s: processor %u has all the vCPUs that it can take", vm->config->name,
                 vm->vcpus[i]->cpu);
        vm_stop(vm);
        return e;
    }
    return OK;
}

void vm_stop(struct vm *vm)
{
    for (u32 i = 0; i < vm->vcpu_count; i++)
        schedule_remove(vm->vcpus[i]);
}

void vm_pause(struct vm *vm)
{
    vm->paused = true;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        schedule_kick(vm->vcpus[i]->cpu);
        while (vm->vcpus[i]->running)
            cpu_serve_call(); /* its processor may be waiting for us */
    }
}

void vm_resume(struct vm *vm)
{
    vm->paused = false;
    for (u32 i = 0; i < vm->vcpu_count; i++)
        schedule_kick(vm->vcpus[i]->cpu);
}

enum error vm_destroy(struct vm *vm)
{
    enum error e = OK;
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        measure_series_free(vm->vcpus[i]);
        vcpu_caches_drain(&vm->vcpus[i]->caches);
    }
    if (vm->has_td)
        e = td_destroy(&vm->td);
    vm->has_td = false;
    if (vm->has_direct)
        ept_destroy(&vm->direct);
    vm->has_direct = false;
    memory_destroy(&vm->memory);
    for (u32 i = 0; i < vm->vcpu_count; i++) {
        vmx_vcpu_destroy(vm->vcpus[i]);
        pages_free(virt_to_phys(vm->vcpus[i]), VCPU_PAGES);
    }
    vm->vcpu_count = 0;
    return e;
}

void vm_end(struct vm *vm, enum vm_end end)
{
    enum vm_end runs = VM_RUNS;
    if (!atomic_compare_exchange_strong(&vm->end, &runs, end))
        return;
    vm->end_tsc = tsc_read();
    for (u32 i = 0; i < vm->vcpu_count; i++)
        schedule_kick(vm->vcpus[i]->cpu);
    schedule_kick(0); /* the monitor's: it takes the guest down */
}

void vcpu_post(struct vcpu *vcpu, u8 vector)
{
    bool must_look = false;
    if (vm_is_td(vcpu->vm))
        td_vcpu_post(&vcpu->td, vector);
    else
        must_look = vmx_post(vcpu, vector) && vcpu->cpu != cpu_this()->index;
    if (must_look || vcpu->halted)
        schedule_kick(vcpu->cpu);
}

/* What is no interrupt of a priority: its own loop looks for it. INIT and start-up are no TD's. */
static void vcpu_signal(struct vcpu *vcpu, const struct interrupt *interrupt)
{
    if (vm_is_td(vcpu->vm))
        vcpu->nmi_wanted |= interrupt->kind == INTERRUPT_NMI;
    else
        vmx_signal(vcpu, interrupt->kind == INTERRUPT_NMI    ? VLAPIC_NMI
                         : interrupt->kind == INTERRUPT_INIT ? VLAPIC_INIT
                                                             : VLAPIC_STARTUP | interrupt->vector);
    schedule_kick(vcpu->cpu);
}

void vm_deliver(struct vm *vm, const struct interrupt *interrupt, u32 sender)
{
    for (u32 i = 0; i < vm->vcpu_count && interrupt->kind != INTERRUPT_NONE; i++) {
        if (!lapic_is_meant(&vm->vcpus[i]->lapic, interrupt, sender))
            continue;
        if (interrupt->kind == INTERRUPT_FIXED)
            vcpu_post(vm->vcpus[i], interrupt->vector);
        else
            vcpu_signal(vm->vcpus[i], interrupt);
    }
}

void vm_update_uart_line(struct vm *vm)
{
    struct interrupt interrupt;
    ioapic_set_line(&vm->ioapic, UART_PIN, uart_interrupt(&vm->uart), &interrupt);
    vm_deliver(vm, &interrupt, INTERRUPT_BROADCAST);
}

static enum error audit_vm(struct vm *vm)
{
    enum error e = vmx_vm_audit(vm);
    log_line("tain: audit of guest %s: %s; pages: %llu", vm->config->name,
             e ? "not all pages are where they were mapped" : "every page is mapped once",
             (unsigned long long)vmx_vm_pages(vm));
    return e;
}

enum error vm_audit(struct vm *vm)
{
    if (!vm_is_td(vm))
        return audit_vm(vm);
    char message[AUDIT_MESSAGE_BYTES];
    const struct mirror_stats *stats = &vm->td.mirror.stats;
    enum error e = mirror_audit(&vm->td.mirror, message);
    log_line(
        "tain: audit of guest %s: %s; pages: %llu accepted, %llu pending, in leaves: %llu of 4 "
        "KiB, %llu of 2 MiB, %llu of 1 GiB",
        vm->config->name, e ? message : "mirror and external table agree",
        (unsigned long long)stats->audited_mapped, (unsigned long long)stats->audited_pending,
        (unsigned long long)stats->leaves[LEVEL_4K], (unsigned long long)stats->leaves[LEVEL_2M],
        (unsigned long long)stats->leaves[LEVEL_1G]);
    return e;
}
