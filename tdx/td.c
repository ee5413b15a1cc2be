/* SPDX-License-Identifier: MIT */
#include "tdx/td.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "tdx/handover.h"
#include "tdx/keys.h"
#include "tdx/operands.h"
#include "tdx/packages.h"
#include "tdx/td_params.h"
#include "tdx/td_parts.h"

#define WHERE_BYTES 64
#define BUSY_TRIES 10000

static void td_reset(struct td *td)
{
    memset(td, 0, sizeof *td);
    td->tdr = HPA_NONE;
    td->descriptors = HPA_NONE;
    td->source = HPA_NONE;
    for (u32 i = 0; i < TDCS_PAGES_MAX; i++)
        td->tdcs[i] = HPA_NONE;
    td->track_lock = LOCK_INIT(RANK_TD, "TLB tracking");
}

static enum error memory_allocate(struct td *td)
{
    enum error error = page_allocate_zeroed(PAGE_SHARED, &td->descriptors);
    if (!error)
        error = page_allocate(PAGE_VMM, &td->source);
    if (!error)
        error = mirror_init(&td->mirror, tdx_module()->gpa_bits - 1, &td_mirror_ops, td);
    if (!error)
        td->has_mirror = true;
    return error;
}

static enum error tdr_create(struct td *td)
{
    enum error error = tdx_key_allocate(&td->hkid);
    if (error)
        return error;
    key_table_lock();
    error = control_page_create(TDH_MNG_CREATE, td->hkid, "a new TDR", &td->tdr);
    key_table_unlock();
    if (error)
        tdx_key_free(td->hkid);
    else
        td->hkid_assigned = true;
    return error;
}

static enum error keys_configure(struct td *td)
{
    key_table_lock();
    enum error error =
        packages_call(TDH_MNG_KEY_CONFIG, td->tdr.raw, "a TD's key", &td->packages_configured);
    key_table_unlock();
    return error;
}

static enum error tdcs_add(struct td *td)
{
    while (td->tdcs_count < tdx_module()->tdcs_pages) {
        enum error error = control_page_create(TDH_MNG_ADDCX, td->tdr.raw, "a TDCS page",
                                               &td->tdcs[td->tdcs_count]);
        if (error)
            return error;
        td->tdcs_count++;
    }
    return OK;
}

static enum error params_give(struct td *td, hpa_t params)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = td->tdr.raw;
    regs.gpr[GPR_RDX] = params.raw;
    struct tdx_status status = seamcall_patient(TDH_MNG_INIT, &regs);
    char where[WHERE_BYTES] = "TD_PARAMS";
    if (tdx_status_code(status) == TDX_OPERAND_INVALID && (u32)status.raw == OPERAND_CPUID_CONFIG)
        format_string(where, sizeof where, "TD_PARAMS, CPUID leaf 0x%x subleaf 0x%x",
                      (u32)regs.gpr[GPR_RCX], (u32)(regs.gpr[GPR_RCX] >> 32));
    return tdx_status_error_final(status, TDH_MNG_INIT, where);
}

static enum error params_init(struct td *td, const struct td_options *options)
{
    hpa_t page;
    enum error error = page_allocate_zeroed(PAGE_VMM, &page);
    if (error)
        return error;
    error = td_params_fill(phys_to_virt(page), options);
    if (!error)
        error = params_give(td, page);
    page_free(page);
    return error;
}

static enum error field_read(struct td *td, u64 field, u64 *value)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = td->tdr.raw;
    regs.gpr[GPR_RDX] = field;
    struct tdx_status status = seamcall_patient(TDH_MNG_RD, &regs);
    *value = regs.gpr[GPR_R8];
    if (status.raw == 0)
        return OK;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "field 0x%016llx", (unsigned long long)field);
    return tdx_status_error_final(status, TDH_MNG_RD, where);
}

static enum error control_create(struct td *td, const struct td_options *options)
{
    enum error error = tdr_create(td);
    if (!error)
        error = keys_configure(td);
    if (!error)
        error = tdcs_add(td);
    if (!error)
        error = params_init(td, options);
    if (!error)
        error = field_read(td, MD_TD_TSC_OFFSET, &td->tsc_offset);
    if (!error)
        error = field_read(td, MD_TD_TSC_MULTIPLIER, &td->tsc_multiplier);
    return error;
}

enum error td_create(struct td *td, const struct td_options *options)
{
    td_reset(td);
    enum error error = memory_allocate(td);
    if (!error)
        error = control_create(td, options);
    /* What td_destroy cannot take back it has named; the first error is the caller's. */
    if (error)
        (void)td_destroy(td);
    return error;
}

void td_source_free(struct td *td)
{
    if (!hpa_is_none(td->source))
        page_free(td->source);
    td->source = HPA_NONE;
}

static enum error page_measure(struct td *td, gpa_t address)
{
    for (u64 offset = 0; offset < PAGE_BYTES; offset += TDX_MR_EXTEND_BYTES) {
        struct tdx_regs regs = {};
        regs.gpr[GPR_RCX] = address.raw + offset;
        regs.gpr[GPR_RDX] = td->tdr.raw;
        struct tdx_status status = seamcall_patient(TDH_MR_EXTEND, &regs);
        if (status.raw == 0)
            continue;
        char where[WHERE_BYTES];
        format_string(where, sizeof where, "GPA 0x%llx",
                      (unsigned long long)(address.raw + offset));
        enum error error = tdx_status_error_final(status, TDH_MR_EXTEND, where);
        if (error)
            return error;
    }
    return OK;
}

enum error td_add_page(struct td *td, struct vcpu_caches *caches, gpa_t address,
                       const void *content)
{
    if (td->finalized)
        return ERR_STATE;
    if (!is_aligned(address.raw, PAGE_BYTES))
        return ERR_INVALID;
    /* The module wants a page of its own to read from: content may be anywhere. */
    memcpy(phys_to_virt(td->source), content, PAGE_BYTES);
    enum error error = ERR_BUSY;
    for (u32 tries = 0; error == ERR_BUSY && tries < BUSY_TRIES; tries++)
        error = mirror_add(&td->mirror, caches, gpa_to_gfn(address), td->source);
    if (error == ERR_BUSY)
        log_line("tdx: GPA 0x%llx cannot be added: the module is busy to the end",
                 (unsigned long long)address.raw);
    /*
     * A page that is added but not measured stays in both tables; the TD's measurement is
     * spoiled, and only td_destroy makes sense.
     */
    if (!error)
        error = page_measure(td, address);
    if (!error)
        td->measured_pages++;
    return error;
}

enum error td_finalize(struct td *td)
{
    struct tdx_regs regs = {};
    if (td->finalized)
        return ERR_STATE;
    regs.gpr[GPR_RCX] = td->tdr.raw;
    struct tdx_status status = seamcall_patient(TDH_MR_FINALIZE, &regs);
    enum error error = tdx_status_error_final(status, TDH_MR_FINALIZE, "the build's end");
    if (error)
        return error;
    td->finalized = true;
    td_source_free(td);
    return OK;
}

enum error td_measurement(struct td *td, u8 mrtd[TD_MEASUREMENT_BYTES])
{
    if (!td->finalized)
        return ERR_STATE;
    for (u32 i = 0; i < TD_MEASUREMENT_BYTES / sizeof(u64); i++) {
        u64 word;
        enum error error = field_read(td, MD_TD_MRTD + i, &word);
        if (error)
            return error;
        memcpy(mrtd + i * sizeof word, &word, sizeof word);
    }
    return OK;
}

/* guest = (host * multiplier >> 48) + offset, solved for host and rounded up. */
u64 td_tsc_to_host(const struct td *td, u64 guest_tsc)
{
    u64 ticks = guest_tsc - td->tsc_offset;
    u64 high = ticks >> 16, low = ticks << 48;
    u64 quotient, remainder;
    /* The quotient has no 64 bits: that is later than any clock runs. */
    if (high >= td->tsc_multiplier)
        return ~0ull;
    __asm__("divq %4"
            : "=a"(quotient), "=d"(remainder)
            : "a"(low), "d"(high), "r"(td->tsc_multiplier)
            : "cc");
    return quotient + (remainder != 0);
}
