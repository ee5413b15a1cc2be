/* SPDX-License-Identifier: MIT */
#include "tdx/packages.h"

#include "boot/cpu.h"
#include "boot/log.h"

#define TRIES_MAX 10000
#define WHERE_BYTES 64
#define CACHE_WB_RESUME 1

struct package_call {
    enum tdh_leaf leaf;
    u64 rcx;
    struct tdx_status status;
};

static bool should_repeat(const struct package_call *call)
{
    return tdx_status_is_busy(call->status) ||
           tdx_status_code(call->status) == TDX_KEY_GENERATION_FAILED ||
           tdx_status_code(call->status) == TDX_WBCACHE_RESUME_ERROR;
}

static void package_call_run(void *argument)
{
    struct package_call *call = argument;
    u64 rcx = call->rcx;
    for (u32 tries = 0; tries < TRIES_MAX; tries++) {
        struct tdx_regs regs = {};
        regs.gpr[GPR_RCX] = rcx;
        call->status = seamcall(call->leaf, &regs);
        if (!should_repeat(call))
            return;
        /* Nothing to resume: another processor of the package ended, or started anew. */
        if (tdx_status_code(call->status) == TDX_WBCACHE_RESUME_ERROR)
            rcx = call->rcx;
        if (call->leaf == TDH_PHYMEM_CACHE_WB &&
            tdx_status_code(call->status) == TDX_INTERRUPTED_RESUMABLE)
            rcx = CACHE_WB_RESUME;
        cpu_relax();
    }
}

/* Ourselves if we are in it, else one that runs nothing. */
static u32 package_processor(u32 package)
{
    u32 found = cpu_count();
    if (cpu_this()->package == package)
        return cpu_this()->index;
    for (u32 i = 0; i < cpu_count(); i++) {
        if (cpu_at(i)->package != package)
            continue;
        if (!cpu_at(i)->call)
            return i;
        found = i;
    }
    return found;
}

enum error packages_call(enum tdh_leaf leaf, u64 rcx, const char *where, u32 *done)
{
    for (*done = 0; *done < cpu_package_count(); ++*done) {
        struct package_call call = {.leaf = leaf, .rcx = rcx};
        cpu_run_on(package_processor(*done), package_call_run, &call);
        if (call.status.raw == 0)
            continue;
        char text[WHERE_BYTES];
        format_string(text, sizeof text, "%s, package %u", where, *done);
        enum error error = tdx_status_error_final(call.status, leaf, text);
        if (error)
            return error;
    }
    return OK;
}
