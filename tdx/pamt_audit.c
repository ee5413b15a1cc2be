/* SPDX-License-Identifier: MIT */
#include "tdx/pamt.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "tdx/seamcall.h"

#define REGION_PAGES 512

/* What the module says of a page: type, owner, size, and the pair in R10 and R11. */
static bool metadata_read(u64 operand, struct tdx_regs *regs)
{
    *regs = (struct tdx_regs){};
    regs->gpr[GPR_RCX] = operand;
    return seamcall_patient(TDH_PHYMEM_PAGE_RDMD, regs).raw == 0;
}

static bool page_is_of_module(hpa_t page)
{
    struct tdx_regs regs;
    if (!metadata_read(page.raw, &regs))
        return false;
    u64 type = regs.gpr[GPR_RCX];
    return type != PT_NDA && type != PT_RSVD && type != PT_PAMT;
}

/* It gave the page back, but we could not use it again: its count stays. */
static bool page_is_leaked(hpa_t page)
{
    const struct machine *m = machine();
    for (u32 i = 0; i < m->range_count; i++) {
        const struct memory_range *range = &m->ranges[i];
        if (range->kind == MEMORY_FREE && page.raw >= range->start && page.raw < range->end)
            return page.raw >= MIB && page_owner(page) == PAGE_LEAKED;
    }
    return false;
}

static u64 pages_of_module(hpa_t start)
{
    u64 sum = 0;
    for (u64 i = 0; i < REGION_PAGES; i++) {
        hpa_t page = hpa(start.raw + i * PAGE_BYTES);
        sum += page_is_of_module(page) || page_is_leaked(page);
    }
    return sum;
}

static enum error region_audit(const struct pamt_region *region, char *message)
{
    unsigned long long at = region->start.raw;
    struct tdx_regs regs;
    /* In no TDMR: nothing, as it should be with us. */
    bool is_known = metadata_read(region->start.raw | LEVEL_2M, &regs);
    bool has_pair = is_known && regs.gpr[GPR_RCX] == PT_PAMT;
    if (has_pair != region->has_pair) {
        format_string(message, AUDIT_MESSAGE_BYTES,
                      "the region at 0x%llx: we count %s PAMT pair, the module has %s", at,
                      region->has_pair ? "a" : "no", has_pair ? "one" : "none");
        return ERR_STATE;
    }
    for (u32 i = 0; has_pair && i < PAMT_PAIR_PAGES; i++) {
        if (hpa_is_none(region->pair[i]) || region->pair[i].raw == regs.gpr[GPR_R10 + i])
            continue;
        format_string(message, AUDIT_MESSAGE_BYTES,
                      "the region at 0x%llx: page %u of its PAMT pair is 0x%llx, the module has "
                      "0x%llx",
                      at, i, (unsigned long long)region->pair[i].raw,
                      (unsigned long long)regs.gpr[GPR_R10 + i]);
        return ERR_STATE;
    }
    u64 pages = has_pair ? pages_of_module(region->start) : 0;
    if (pages == region->pages)
        return OK;
    format_string(message, AUDIT_MESSAGE_BYTES,
                  "the region at 0x%llx: we count %llu pages of 4 KiB, the module has %llu", at,
                  (unsigned long long)region->pages, (unsigned long long)pages);
    return ERR_STATE;
}

enum error pamt_audit(char message[AUDIT_MESSAGE_BYTES])
{
    struct pamt_region region;
    for (u64 i = 0; pamt_region(i, &region); i++) {
        enum error error = region_audit(&region, message);
        if (error)
            return error;
    }
    return OK;
}
