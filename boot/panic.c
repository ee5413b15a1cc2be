/* SPDX-License-Identifier: MIT */
#include "boot/panic.h"

#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/power.h"
#include "boot/symbols.h"
#include "boot/x86.h"

#define MESSAGE_BYTES 384
#define FRAMES_MAX 24
#define EXIT_STATUS_PANIC 70

/* Index + 1 of the processor that panics. */
static _Atomic u32 panicking;

const char *symbol_find(u64 address, u64 *offset_bytes)
{
    u64 offset = address - (u64)ImageBase;
    u32 low = 0, high = symbol_count;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        if (symbol_table[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || low == symbol_count)
        return NULL;
    *offset_bytes = offset - symbol_table[low - 1].offset;
    return symbol_names + symbol_table[low - 1].name;
}

static void print_address(u64 address)
{
    u64 offset = 0;
    const char *name = symbol_find(address, &offset);
    if (name)
        log_line("  0x%llx %s+0x%llx", (unsigned long long)address, name,
                 (unsigned long long)offset);
    else
        log_line("  0x%llx", (unsigned long long)address);
}

static void print_backtrace(u64 rip, const u64 *rbp)
{
    log_line("backtrace (image at 0x%llx):", (unsigned long long)(u64)ImageBase);
    if (rip)
        print_address(rip);
    for (u32 i = 0; i < FRAMES_MAX && (u64)rbp >= PAGE_BYTES && is_aligned((u64)rbp, 8); i++) {
        const u64 *next = (const u64 *)rbp[0];
        if (!rbp[1])
            break;
        print_address(rbp[1]);
        if (next <= rbp)
            break;
        rbp = next;
    }
}

static void print_registers(const struct exception_frame *f)
{
#define P(a, b, c) (unsigned long long)(a), (unsigned long long)(b), (unsigned long long)(c)
    log_line("rip %016llx rsp %016llx rflags %08llx", P(f->rip, f->rsp, f->rflags));
    log_line("rax %016llx rbx %016llx rcx %016llx", P(f->rax, f->rbx, f->rcx));
    log_line("rdx %016llx rsi %016llx rdi %016llx", P(f->rdx, f->rsi, f->rdi));
    log_line("rbp %016llx r8  %016llx r9  %016llx", P(f->rbp, f->r8, f->r9));
    log_line("r10 %016llx r11 %016llx r12 %016llx", P(f->r10, f->r11, f->r12));
    log_line("r13 %016llx r14 %016llx r15 %016llx", P(f->r13, f->r14, f->r15));
    log_line("cr0 %016llx cr2 %016llx cr3 %016llx", P(cr0_read(), cr2_read(), cr3_read()));
    log_line("cr4 %016llx cs  %04llx ss  %04llx", P(cr4_read(), f->cs, f->ss));
#undef P
}

void panic_stop_if_wanted(void)
{
    u32 who = atomic_load(&panicking);
    if (who && who != cpu_this()->index + 1)
        for (;;)
            __asm__ volatile("cli; hlt");
}

/* Takes the machine for the report and says the reason. */
static void report_start(const char *format, va_list arguments)
{
    char message[MESSAGE_BYTES];
    interrupts_disable();
    u32 none = 0;
    if (!atomic_compare_exchange_strong(&panicking, &none, cpu_this()->index + 1)) {
        panic_stop_if_wanted();
        /* A fault inside our own report. */
        power_off(EXIT_STATUS_PANIC);
    }
    log_break_lock();
    apic_send_nmi_to_others();
    format_string_v(message, sizeof message, format, arguments);
    log_line("PANIC on cpu %u: %s", cpu_this()->index, message);
}

void panic_with(const struct exception_frame *frame, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_start(format, arguments);
    va_end(arguments);
    print_registers(frame);
    print_backtrace(frame->rip, (const u64 *)frame->rbp);
    power_off(EXIT_STATUS_PANIC);
}

void panic(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report_start(format, arguments);
    va_end(arguments);
    print_backtrace(0, __builtin_frame_address(0));
    power_off(EXIT_STATUS_PANIC);
}
