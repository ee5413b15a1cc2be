/* SPDX-License-Identifier: MIT */
#include "boot/cpu.h"

#include "boot/apic.h"
#include "boot/arena.h"
#include "boot/assert.h"
#include "boot/descriptors.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/paging.h"
#include "boot/processors.h"
#include "boot/string.h"
#include "boot/time.h"
#include "boot/x86.h"

#define START_TIMEOUT_US 200000

/* boot/trampoline.asm; `parameters` there. */
struct trampoline_parameters {
    u64 cr3, stack, index, entry;
    u32 to_32_offset;
    u16 to_32_selector, reserved_0;
    u32 to_64_offset;
    u16 to_64_selector, reserved_1;
};
extern u8 trampoline_start[], trampoline_end[], trampoline_gdt_base[];
extern struct trampoline_parameters trampoline_parameters;

static struct cpu cpus[CPU_MAX];
static u8 *ist_stacks[CPU_MAX];
static u32 count = 1;
static u32 packages = 1;
static bool (*_Atomic idle_work)(void);

struct cpu *cpu_at(u32 index)
{
    return &cpus[index];
}
u32 cpu_count(void)
{
    return count;
}
u32 cpu_package_count(void)
{
    return packages;
}

/* What every processor sets for itself, whoever started it. */
static void cpu_setup(u32 index)
{
    cpus[index].self = &cpus[index];
    cpus[index].index = index;
    descriptors_load(index, ist_stacks[index]);
    cr4_write(cr4_read() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_MCE |
              (cpuid(1, 0).ecx & (1u << 26) ? CR4_OSXSAVE : 0));
    apic_enable();
}

bool cpu_call_is_waiting(void)
{
    return atomic_load_explicit(&cpu_this()->call, memory_order_acquire) != NULL;
}

void cpu_serve_call(void)
{
    struct cpu *cpu = cpu_this();
    struct cpu_call *call = atomic_load_explicit(&cpu->call, memory_order_acquire);
    if (!call)
        return;
    call->call(call->argument);
    /* Once nothing is left of it, the call is gone from its caller's stack. */
    u32 caller = call->caller;
    atomic_store_explicit(&cpu->call, NULL, memory_order_release);
    atomic_fetch_sub(&call->left, 1);
    cpu_kick(caller);
}

void cpu_set_work(bool (*work)(void))
{
    atomic_store(&idle_work, work);
    for (u32 i = 0; i < count; i++)
        if (i != cpu_this()->index)
            cpu_kick(i);
}

__attribute__((noreturn)) static void cpu_idle(void)
{
    for (;;) {
        interrupts_disable();
        cpu_serve_call();
        bool (*work)(void) = atomic_load(&idle_work);
        if (!(work && work()) && !cpu_call_is_waiting())
            interrupts_wait();
    }
}

/* First C code of a started processor; its index came through the trampoline. */
static void cpu_entry(u64 index)
{
    cpu_setup((u32)index);
    atomic_store(&cpus[index].online, true);
    cpu_idle();
}

static struct trampoline_parameters *trampoline_at(u8 *page)
{
    return (void *)(page + ((u8 *)&trampoline_parameters - trampoline_start));
}

/* The code runs at the page's own address: what it holds as offsets becomes addresses. */
static void trampoline_place(u8 *page)
{
    u32 base = (u32)(u64)page;
    memcpy(page, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    *(u32 *)(page + (trampoline_gdt_base - trampoline_start)) += base;
    trampoline_at(page)->to_32_offset += base;
    trampoline_at(page)->to_64_offset += base;
}

static void cpu_start(u32 index, u8 *page)
{
    struct trampoline_parameters *p = trampoline_at(page);
    p->cr3 = paging_vmm_root().raw;
    p->stack = (u64)arena_pages(CPU_STACK_PAGES) + CPU_STACK_PAGES * PAGE_BYTES;
    p->index = index;
    p->entry = (u64)cpu_entry;
    ist_stacks[index] = arena_pages(CPU_IST_PAGES);
    cpus[index].vmxon_region = hpa((u64)arena_pages(1));

    apic_send_init(cpus[index].apic_id);
    time_wait_us(10000);
    for (u32 tries = 0; tries < 2 && !cpus[index].online; tries++) {
        apic_send_startup(cpus[index].apic_id, (u8)((u64)page >> PAGE_SHIFT));
        time_wait_us(200);
    }
    for (u64 waited = 0; !atomic_load(&cpus[index].online); waited += 100) {
        if (waited > START_TIMEOUT_US)
            panic("cpu %u (APIC id %u) does not start", index, cpus[index].apic_id);
        time_wait_us(100);
    }
}

/* Numbers the packages densely, in the order in which they appear. */
static u32 package_number(u32 firmware_package)
{
    static u32 seen[CPU_MAX];
    static u32 seen_count;
    for (u32 i = 0; i < seen_count; i++)
        if (seen[i] == firmware_package)
            return i;
    seen[seen_count] = firmware_package;
    return seen_count++;
}

u64 cpu_pages_needed(u32 processors)
{
    return (u64)processors * (CPU_STACK_PAGES + CPU_IST_PAGES + 1);
}

void cpu_init_first(void)
{
    ist_stacks[0] = arena_pages(CPU_IST_PAGES);
    cpus[0].vmxon_region = hpa((u64)arena_pages(1));
    cpu_setup(0);
    cpus[0].apic_id = apic_id();
    cpus[0].online = true;
}

void cpu_start_others(const struct processor *processors, u32 processor_count, u8 *page)
{
    trampoline_place(page);
    for (u32 i = 0; i < processor_count; i++) {
        u32 package = package_number(processors[i].package);
        packages = package + 1 > packages ? package + 1 : packages;
        if (processors[i].apic_id == cpus[0].apic_id) {
            cpus[0].package = package;
            continue;
        }
        cpus[count].apic_id = processors[i].apic_id;
        cpus[count].package = package;
        /* apic_send's callers look at the count: it grows before the start. */
        u32 index = count++;
        cpu_start(index, page);
    }
}

/* A processor has room for one call: another caller's goes first. */
static void call_hand_over(struct cpu *cpu, struct cpu_call *call)
{
    struct cpu_call *none = NULL;
    while (!atomic_compare_exchange_weak(&cpu->call, &none, call)) {
        none = NULL;
        cpu_serve_call(); /* that caller may be waiting for us */
        cpu_relax();
    }
    cpu_kick(cpu->index);
}

static void call_wait(struct cpu_call *call)
{
    u64 flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    interrupts_disable();
    while (atomic_load(&call->left)) {
        cpu_serve_call();
        if (atomic_load(&call->left) && !cpu_call_is_waiting())
            interrupts_wait();
    }
    if (flags & RFLAGS_IF)
        interrupts_enable();
}

void cpu_run_on(u32 index, void (*call)(void *), void *argument)
{
    ASSERT(index < count);
    if (index == cpu_this()->index) {
        call(argument);
        return;
    }
    struct cpu_call one = {call, argument, cpu_this()->index, 1};
    call_hand_over(&cpus[index], &one);
    call_wait(&one);
}

void cpu_run_on_all(void (*call)(void *), void *argument)
{
    u32 mine = cpu_this()->index;
    struct cpu_call all = {call, argument, mine, count - 1};
    for (u32 i = 0; i < count; i++)
        if (i != mine)
            call_hand_over(&cpus[i], &all);
    call(argument);
    call_wait(&all);
}

void cpu_kick(u32 index)
{
    apic_send(cpus[index].apic_id, VECTOR_KICK);
}
