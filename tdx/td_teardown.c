/* SPDX-License-Identifier: MIT */
#include "tdx/td_parts.h"

#include "boot/log.h"
#include "tdx/handover.h"
#include "tdx/keys.h"
#include "tdx/packages.h"

/* Takes each vCPU from its processor. What refuses shows at VPFLUSHDONE. */
static void vcpus_flush(struct td *td)
{
    for (u32 i = 0; i < td->vcpu_count; i++)
        (void)td_vcpu_flush(td->vcpus[i]);
}

static enum error tdr_call(struct td *td, enum tdh_leaf leaf)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = td->tdr.raw;
    return tdx_status_error_final(seamcall_patient(leaf, &regs), leaf, "the TD's end");
}

/* From here on no vCPU runs, and the KeyID is free once no cache holds a line of it. */
static enum error key_release(struct td *td)
{
    u32 done;
    key_table_lock();
    enum error error = tdr_call(td, TDH_MNG_VPFLUSHDONE);
    if (!error)
        error = packages_call(TDH_PHYMEM_CACHE_WB, 0, "the TD's end", &done);
    if (!error)
        error = tdr_call(td, TDH_MNG_KEY_FREEID);
    key_table_unlock();
    if (error) {
        log_line("tdx: KeyID %u stays in use: the module keeps every page of its TD", td->hkid);
        return error;
    }
    td->hkid_assigned = false;
    tdx_key_free(td->hkid);
    return OK;
}

struct teardown {
    struct td *td;
    u32 leaked_pages; /* of the control structures; the mirror counts its own */
};

static void control_page_return(struct teardown *teardown, hpa_t *page, const char *what)
{
    if (hpa_is_none(*page))
        return;
    if (teardown->td->hkid_assigned) {
        page_leak(*page, what);
        teardown->leaked_pages++;
    } else if (control_page_reclaim(*page, what)) {
        teardown->leaked_pages++;
    }
    *page = HPA_NONE;
}

static void vcpus_reclaim(struct teardown *teardown)
{
    struct td *td = teardown->td;
    for (u32 i = 0; i < td->vcpu_count; i++) {
        struct td_vcpu *vcpu = td->vcpus[i];
        for (u32 k = 0; k < vcpu->tdcx_count; k++)
            control_page_return(teardown, &vcpu->tdcx[k], "TDVPS");
        control_page_return(teardown, &vcpu->tdvpr, "TDVPR");
        td->vcpus[i] = NULL;
    }
    td->vcpu_count = 0;
}

/* The last page, and the only one that the caches hold under the module's own key. */
static void tdr_reclaim(struct teardown *teardown)
{
    struct td *td = teardown->td;
    hpa_t page = td->tdr;
    td->tdr = HPA_NONE;
    if (hpa_is_none(page))
        return;
    enum error error = td->hkid_assigned ? ERR_REFUSED : page_reclaim(page, "TDR");
    if (!error)
        error = page_write_back(page, tdx_module()->hkid_first, "the TDR");
    if (error) {
        page_leak(page, "TDR");
        teardown->leaked_pages++;
        return;
    }
    page_take_back(page, LEVEL_4K);
    page_free(page);
}

enum error td_destroy(struct td *td)
{
    struct teardown teardown = {.td = td};
    enum error memory_error = OK;
    vcpus_flush(td);
    enum error key_error = td->hkid_assigned ? key_release(td) : OK;
    if (td->has_mirror)
        memory_error = mirror_destroy(&td->mirror);
    td->has_mirror = false;
    vcpus_reclaim(&teardown);
    for (u32 i = 0; i < td->tdcs_count; i++)
        control_page_return(&teardown, &td->tdcs[i], "TDCS");
    td->tdcs_count = 0;
    tdr_reclaim(&teardown);
    td_source_free(td);
    if (!hpa_is_none(td->descriptors))
        page_free(td->descriptors);
    td->descriptors = HPA_NONE;
    return key_error || memory_error || teardown.leaked_pages > 0 ? ERR_REFUSED : OK;
}
