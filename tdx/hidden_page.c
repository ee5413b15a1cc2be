/* SPDX-License-Identifier: MIT */
/* Whose a page is that we touched though we gave it away: asked of the module itself. */
#include "boot/paging.h"

#include "boot/log.h"
#include "mm/pages.h"
#include "tdx/seamcall.h"

static const char *pamt_type_text(u64 type)
{
    switch (type) {
    case PT_REG:
        return "private memory";
    case PT_TDR:
        return "a TDR";
    case PT_TDCX:
        return "a TDCS or TDVPS page";
    case PT_TDVPR:
        return "a TDVPR";
    case PT_EPT:
        return "a secure EPT table";
    case PT_PAMT:
        return "metadata";
    default:
        return "nothing yet";
    }
}

/* One call, with no patience: whoever else is inside may be stopped by a panic already. */
void hidden_page_describe(hpa_t page, char *text, size_t text_bytes)
{
    const char *ours = page_owner_name(page_owner(page));
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = page.raw;
    struct tdx_status status = seamcall(TDH_PHYMEM_PAGE_RDMD, &regs);
    u64 type = regs.gpr[GPR_RCX], tdr = type == PT_TDR ? page.raw : regs.gpr[GPR_RDX];
    if (status.raw != 0)
        format_string(text, text_bytes, "%s to us; the module does not say what to it (%s)", ours,
                      tdx_status_name(status));
    else if (type == PT_NDA || type == PT_RSVD || type == PT_PAMT)
        format_string(text, text_bytes, "%s to us, %s to the module", ours, pamt_type_text(type));
    else
        format_string(text, text_bytes, "%s to us, %s of TD 0x%llx to the module", ours,
                      pamt_type_text(type), (unsigned long long)tdr);
}
