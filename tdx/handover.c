/* SPDX-License-Identifier: MIT */
#include "tdx/handover.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/paging.h"
#include "boot/phys.h"
#include "boot/x86.h"
#include "tdx/module.h"
#include "tdx/pamt.h"

#define CACHE_LINE_BYTES 64
#define WHERE_BYTES 64
#define BUSY_TRIES 10000

/* Without a turn: this is most of what a fault costs us. */
static inline void page_flush(const u8 *bytes)
{
#pragma GCC unroll 64
    for (u32 line = 0; line < PAGE_BYTES / CACHE_LINE_BYTES; line++)
        clflush(bytes + line * CACHE_LINE_BYTES);
}

void page_give(hpa_t page, enum level level)
{
    const u8 *bytes = phys_to_virt(page);
    page_flush(bytes);
    for (u64 at = PAGE_BYTES; level != LEVEL_4K && at < level_bytes(level); at += PAGE_BYTES)
        page_flush(bytes + at);
    __asm__ volatile("mfence" ::: "memory");
    paging_hide_page(page, level);
}

void page_regain(hpa_t page, enum level level)
{
    paging_show_page(page, level);
}

void page_keep(hpa_t page, enum level level, struct page_cache *pairs)
{
    page_regain(page, level);
    pamt_unreference(page, level, pairs);
}

/*
 * Some processors poison a line of TD memory that is written in part, and report it at a later
 * read. There a page is made ordinary again by writes of whole lines; elsewhere by any write.
 */
static bool partial_writes_poison(void)
{
    struct cpuid_result version = cpuid(1, 0);
    u32 family = version.eax >> 8 & 0xf;
    u32 model = (version.eax >> 4 & 0xf) | (version.eax >> 12 & 0xf0);
    bool affected = family == 6 && (model == 0x8f || model == 0xcf);
    bool has_movdir64b = cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx & 1u << 28) != 0;
    return affected && has_movdir64b;
}

/* The software module's pages are ordinary memory. */
static bool pages_are_poisoned(void)
{
    return !tdx_module()->software && partial_writes_poison();
}

static void page_clean_if(bool poisoned, hpa_t page, enum level level)
{
    page_regain(page, level);
    for (u64 at = 0; poisoned && at < level_bytes(level); at += PAGE_BYTES)
        page_clear_direct(phys_to_virt(hpa(page.raw + at)));
}

void page_clean(hpa_t page, enum level level)
{
    page_clean_if(pages_are_poisoned(), page, level);
}

void pages_take_back(hpa_t first, enum level level, u32 count)
{
    bool poisoned = pages_are_poisoned();
    /* Often there is nothing to do for any of them. */
    if (!poisoned && !paging_is_strict() && !pamt_is_dynamic())
        return;
    for (u32 i = 0; i < count; i++) {
        hpa_t page = hpa(first.raw + i * level_bytes(level));
        page_clean_if(poisoned, page, level);
        pamt_unreference(page, level, NULL);
    }
}

/*
 * A leaf that takes an address in RCX and no more, for pages in a row; the one that is busy
 * patiently. On an error `each` stands at the page that it is about.
 */
static enum error pages_call(struct tdx_each *each, const char *what)
{
    enum tdh_leaf leaf = (enum tdh_leaf)each->leaf;
    while (each->left) {
        struct tdx_status status = seamcall_each(each);
        if (each->left == 0)
            break;
        if (tdx_status_is_busy(status)) {
            struct tdx_regs regs = {.gpr[GPR_RCX] = each->operand};
            status = seamcall_patient(leaf, &regs);
        }
        char where[WHERE_BYTES];
        format_string(where, sizeof where, "%s, HPA 0x%llx", what,
                      (unsigned long long)each->operand);
        enum error error = tdx_status_error_final(status, leaf, where);
        if (error)
            return error;
        each->operand += each->step;
        each->left--;
    }
    return OK;
}

enum error pages_write_back(hpa_t first, u64 count, u16 hkid, const char *what, u64 *done)
{
    struct tdx_each each = {
        .leaf = TDH_PHYMEM_PAGE_WBINVD,
        .operand = first.raw | (u64)hkid << tdx_module()->hkid_shift,
        .step = PAGE_BYTES,
        .left = count,
    };
    enum error error = pages_call(&each, what);
    *done = count - each.left;
    return error;
}

enum error pages_reclaim(hpa_t first, enum level level, u32 count, const char *what, u32 *done)
{
    struct tdx_each each = {
        .leaf = TDH_PHYMEM_PAGE_RECLAIM,
        .operand = first.raw,
        .step = level_bytes(level),
        .left = count,
    };
    enum error error = pages_call(&each, what);
    *done = count - (u32)each.left;
    return error;
}

/* For the places where nobody else can wait: who is at a region's edge comes to an end. */
static enum error page_hand_over_patient(hpa_t page)
{
    enum error error = ERR_BUSY;
    for (u32 tries = 0; error == ERR_BUSY && tries < BUSY_TRIES; tries++) {
        error = page_hand_over(page, LEVEL_4K, NULL);
        if (error == ERR_BUSY)
            cpu_relax();
    }
    return error;
}

enum error control_page_create(enum tdh_leaf leaf, u64 rdx, const char *where, hpa_t *page)
{
    enum error error = page_allocate(PAGE_TD_CONTROL, page);
    if (error)
        return error;
    error = page_hand_over_patient(*page);
    if (error) {
        page_free(*page);
        *page = HPA_NONE;
        return error;
    }
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = page->raw;
    regs.gpr[GPR_RDX] = rdx;
    error = tdx_status_error_final(seamcall_patient(leaf, &regs), leaf, where);
    if (error) {
        page_keep(*page, LEVEL_4K, NULL);
        page_free(*page);
        *page = HPA_NONE;
    }
    return error;
}

void page_leak(hpa_t page, const char *what)
{
    log_line("tdx: page 0x%llx (%s) is leaked: the module did not give it back",
             (unsigned long long)page.raw, what);
    page_set_owner(page, PAGE_LEAKED);
}

enum error control_page_reclaim(hpa_t page, const char *what)
{
    enum error error = page_reclaim(page, what);
    if (error) {
        page_leak(page, what);
        return error;
    }
    page_take_back(page, LEVEL_4K);
    page_free(page);
    return OK;
}
