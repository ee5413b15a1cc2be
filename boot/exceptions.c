/* SPDX-License-Identifier: MIT */
#include "boot/exceptions.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/paging.h"
#include "boot/panic.h"
#include "boot/phys.h"
#include "boot/symbols.h"
#include "boot/x86.h"

#define FIRST_INTERRUPT 32
#define PAGE_FAULT_WRITE (1ull << 1)

struct fixup {
    i32 at, go_on;
};
/* Section .fixups (linker.ld). */
extern const struct fixup fixups_start[], fixups_end[];

void exception_handle(struct exception_frame *frame);

static bool fixup_apply(struct exception_frame *frame)
{
    for (const struct fixup *f = fixups_start; f < fixups_end; f++) {
        if ((u64)&f->at + (u64)(i64)f->at != frame->rip)
            continue;
        frame->rip = (u64)&f->go_on + (u64)(i64)f->go_on;
        frame->rax = frame->vector;
        return true;
    }
    return false;
}

void interrupt_handle(u8 vector)
{
    switch (vector) {
    case VECTOR_KICK:
        atomic_store(&cpu_this()->kicked, true);
        break;
    case VECTOR_TIMER:
        cpu_this()->timer_tsc = 0;
        break;
    case VECTOR_POSTED:
        break;
    case VECTOR_SPURIOUS:
        return;
    default:
        log_line("cpu %u: interrupt with vector %#x that nobody asked for", cpu_this()->index,
                 vector);
        break;
    }
    apic_end_of_interrupt();
}

/* The page, whose it is, and who touched it. */
static void hidden_page_fault(const struct exception_frame *frame, hpa_t page, u64 address)
{
    char whose[HIDDEN_PAGE_TEXT_BYTES];
    u64 offset = 0;
    const char *function = symbol_find(frame->rip, &offset);
    hidden_page_describe(page, whose, sizeof whose);
    panic_with(frame,
               "page fault at 0x%llx: %s+0x%llx %s a page that the VMM gave to the TDX module: %s",
               (unsigned long long)address, function ? function : "?", (unsigned long long)offset,
               frame->error_code & PAGE_FAULT_WRITE ? "wrote to" : "read", whose);
}

static void page_fault(struct exception_frame *frame)
{
    u64 address = cr2_read();
    hpa_t page = hpa(align_down(address, PAGE_BYTES));
    if (paging_page_is_hidden(page))
        hidden_page_fault(frame, page, address);
    panic_with(frame, "page fault at 0x%llx, error code 0x%llx", (unsigned long long)address,
               (unsigned long long)frame->error_code);
}

void exception_handle(struct exception_frame *frame)
{
    if (frame->vector == VECTOR_NMI) {
        panic_stop_if_wanted();
        atomic_store(&cpu_this()->kicked, true);
        return;
    }
    if (frame->vector >= FIRST_INTERRUPT) {
        interrupt_handle((u8)frame->vector);
        return;
    }
    if ((frame->vector == VECTOR_GP || frame->vector == VECTOR_UD) && fixup_apply(frame))
        return;
    if (frame->vector == VECTOR_PF)
        page_fault(frame);
    panic_with(frame, "exception %llu, error code 0x%llx", (unsigned long long)frame->vector,
               (unsigned long long)frame->error_code);
}

void interrupts_wait(void)
{
    log_pump();
    /* STI opens the window only after HLT has begun: no wake-up is lost. */
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}
