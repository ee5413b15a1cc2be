/* SPDX-License-Identifier: MIT */
#include "tdx/module.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/paging.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "tdx/handover.h"
#include "tdx/keys.h"
#include "tdx/module_fields.h"
#include "tdx/packages.h"
#include "tdx/pamt.h"
#include "tdx/platform.h"

#define TDMR_INFOS_PER_PAGE (PAGE_BYTES / TDMR_INFO_ALIGN)
#define TDMR_INFO_PAGES (TDMRS_MAX / TDMR_INFOS_PER_PAGE)
#define WHERE_BYTES 64

static struct tdx_module module;
/* Scratch of the bring-up; the TDMRs are the module's afterwards. */
static struct tdmr_plan plan;

const struct tdx_module *tdx_module(void)
{
    return &module;
}

/* Sets tdx_entry to whoever answers. */
static enum error module_choose(void)
{
    struct private_keyids keyids;
    enum error error = hardware_find(&keyids);
    if (error == ERR_NOT_FOUND) {
        static struct soft_platform platform;
        error = software_describe(&platform);
        if (!error)
            error = soft_install(&platform);
        if (error)
            return error;
        log_line("tdx: the software TDX module takes its place");
        keyids = software_keyids(&platform);
        tdx_entry = soft_seamcall_entry;
        module.software = true;
    }
    module.posted_wants_notification = !module.software;
    module.hkid_first = keyids.first;
    module.hkid_count = keyids.count;
    module.hkid_shift = keyids.shift;
    keys_reset();
    return error;
}

static enum error platform_init(void)
{
    struct tdx_regs regs = {};
    struct tdx_status status = seamcall_patient(TDH_SYS_INIT, &regs);
    return tdx_status_error_final(status, TDH_SYS_INIT, "start");
}

static void processor_init(void *argument)
{
    _Atomic u32 *failures = argument;
    struct tdx_regs regs = {};
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "processor %u", cpu_this()->index);
    struct tdx_status status = seamcall_patient(TDH_SYS_LP_INIT, &regs);
    if (tdx_status_error_final(status, TDH_SYS_LP_INIT, where))
        atomic_fetch_add(failures, 1);
}

static enum error processors_init(void)
{
    _Atomic u32 failures = 0;
    cpu_run_on_all(processor_init, &failures);
    if (failures)
        return ERR_REFUSED;
    log_line("tdx: %u processors in %u packages are initialised", cpu_count(), cpu_package_count());
    return OK;
}

static enum error description_read(void)
{
    enum error error = module_fields_read(&module);
    if (error)
        return error;
    log_line("tdx: module %u.%u.%02u, features 0x%llx, %u private KeyIDs, GPAs of %u bits",
             module.major, module.minor, module.update, (unsigned long long)module.features0,
             module.hkid_count, module.gpa_bits);
    return OK;
}

static enum error memory_plan(void)
{
    struct tdmr_limits limits;
    enum error error = module_limits_read(&module, &limits);
    if (!error)
        error = module_cmrs_read(&plan.convertible);
    if (!error)
        error = tdmr_plan_make(&plan, &limits);
    if (error)
        return error;
    if (module.has_dynamic_pamt)
        error = pamt_prepare(&plan);
    if (error) {
        tdmr_plan_release(&plan);
        return error;
    }
    module.convertible_pages = spans_bytes(&plan.convertible) / PAGE_BYTES;
    module.pamt_pages = plan.pamt_pages;
    log_line("tdx: %u TDMRs; of %llu MiB convertible: %llu given, %llu reserved, %llu left; PAMTs "
             "%llu KiB",
             plan.count, (unsigned long long)(module.convertible_pages * PAGE_BYTES / MIB),
             (unsigned long long)(plan.given_pages * PAGE_BYTES / MIB),
             (unsigned long long)(plan.reserved_pages * PAGE_BYTES / MIB),
             (unsigned long long)(plan.left_pages * PAGE_BYTES / MIB),
             (unsigned long long)(plan.pamt_pages * PAGE_BYTES / KIB));
    if (pamt_is_dynamic())
        log_line("tdx: the PAMT of 4 KiB pages is dynamic: a pair of pages for 2 MiB in use");
    return OK;
}

enum pamt_owner {
    PAMT_OF_VMM,
    PAMT_OF_MODULE,
};

static void pamts_move(enum pamt_owner owner)
{
    for (u32 i = 0; i < plan.count; i++) {
        for (u64 k = 0; k < plan.pamts[i].pages; k++) {
            hpa_t page = hpa(plan.pamts[i].first.raw + k * PAGE_BYTES);
            /* Their cache lines are written back with all others, before KEY.CONFIG. */
            if (owner == PAMT_OF_MODULE)
                paging_hide_page(page, LEVEL_4K);
            else
                paging_show_page(page, LEVEL_4K);
        }
    }
}

/*
 * Writes the TDMR_INFOs and the array of their addresses: `pages` is the array's page, then
 * those of the infos.
 */
static void infos_write(hpa_t pages)
{
    u64 *addresses = phys_to_virt(pages);
    for (u32 i = 0; i < plan.count; i++) {
        hpa_t page = hpa(pages.raw + (1 + i / TDMR_INFOS_PER_PAGE) * PAGE_BYTES);
        u64 offset = i % TDMR_INFOS_PER_PAGE * TDMR_INFO_ALIGN;
        memcpy((u8 *)phys_to_virt(page) + offset, &plan.tdmrs[i], sizeof plan.tdmrs[i]);
        addresses[i] = page.raw + offset;
    }
}

/* SYS.CONFIG. From its success on the PAMTs are the module's; until then they are ours. */
static enum error memory_configure(void)
{
    hpa_t pages;
    enum error error = pages_allocate(PAGE_VMM, 1 + TDMR_INFO_PAGES, 1, &pages);
    if (error)
        return error;
    infos_write(pages);
    pamts_move(PAMT_OF_MODULE);

    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = pages.raw;
    regs.gpr[GPR_RDX] = plan.count;
    regs.gpr[GPR_R8] = module.hkid_first;
    if (pamt_is_dynamic())
        regs.gpr[GPR_R8] |= TDX_CONFIG_DYNAMIC_PAMT;
    struct tdx_status status = seamcall_patient(TDH_SYS_CONFIG, &regs);
    error = tdx_status_error_final(status, TDH_SYS_CONFIG, "the TDMRs");
    pages_free(pages, 1 + TDMR_INFO_PAGES);
    if (error)
        pamts_move(PAMT_OF_VMM);
    return error;
}

static void processor_write_back(void *argument)
{
    (void)argument;
    caches_write_back();
}

static enum error key_configure(void)
{
    u32 done;
    /* Lines of the PAMTs under our own KeyID must not reach memory after the module's. */
    cpu_run_on_all(processor_write_back, NULL);
    return packages_call(TDH_SYS_KEY_CONFIG, 0, "the global key", &done);
}

static enum error tdmr_init(const struct tdmr_info *tdmr)
{
    u64 end = tdmr->base + tdmr->size;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "the TDMR at 0x%llx", (unsigned long long)tdmr->base);
    /* One call does 4 MiB or more of it: this many are enough for any size. */
    for (u64 calls = 0; calls <= tdmr->size / MIB; calls++) {
        struct tdx_regs regs = {};
        regs.gpr[GPR_RCX] = tdmr->base;
        struct tdx_status status = seamcall_patient(TDH_SYS_TDMR_INIT, &regs);
        enum error error = tdx_status_error_final(status, TDH_SYS_TDMR_INIT, where);
        if (error)
            return error;
        if (regs.gpr[GPR_RDX] >= end || tdx_status_code(status) == TDX_TDMR_ALREADY_INITIALIZED)
            return OK;
    }
    log_line("tdx: TDH.SYS.TDMR.INIT makes no progress at %s", where);
    return ERR_REFUSED;
}

static enum error memory_init(void)
{
    for (u32 i = 0; i < plan.count; i++) {
        enum error error = tdmr_init(&plan.tdmrs[i]);
        if (error)
            return error;
    }
    log_line("tdx: the module is up");
    return OK;
}

enum error tdx_module_start(void)
{
    /* In this order; what a failing stage leaves is undone by the stage itself, but for PAMTs. */
    static enum error (*const before_memory[])(void) = {
        module_choose, platform_init, processors_init, description_read, memory_plan,
    };
    memset(&module, 0, sizeof module);
    pamt_forget();
    for (u32 i = 0; i < ARRAY_LENGTH(before_memory); i++) {
        enum error error = before_memory[i]();
        if (error)
            return error;
    }
    enum error error = memory_configure();
    if (error) {
        pamt_release();
        tdmr_plan_release(&plan);
        return error;
    }
    /* Whatever fails from here on, the module may use the PAMTs: they are not ours again. */
    error = key_configure();
    if (!error)
        error = memory_init();
    if (error)
        pamt_release();
    return error;
}
