/* SPDX-License-Identifier: MIT */
#include "tdx/soft/tdcall.h"

#include <stdatomic.h>

#include "boot/log.h"
#include "boot/string.h"

#define VMCALL_NEVER (1ull << GPR_RAX | 1ull << GPR_RCX | 1ull << GPR_RSP)
#define VMCALL_DEFINED 0xffffffffull
#define CPUIDVE_SUPERVISOR (1ull << 0)
#define CPUIDVE_USER (1ull << 1)
#define INFO_SYS_RD_AVAILABLE 1

static u64 tdg_vp_vmcall(struct tdcall *call)
{
    u64 mask = call->gpr[GPR_RCX];
    u64 refused = VMCALL_NEVER | ~VMCALL_DEFINED;

    if (call->run->tdcs->config_flags & TD_CONFIG_NO_RBP_MOD)
        refused |= 1ull << GPR_RBP;
    if (mask & refused)
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    call->end = TDCALL_EXITED;
    return 0;
}

static u64 tdg_vp_info(struct tdcall *call)
{
    const struct tdcs *tdcs = call->run->tdcs;
    u64 *gpr = call->gpr;

    gpr[GPR_RCX] = tdcs->gpa_bits;
    gpr[GPR_RDX] = tdcs->attributes;
    gpr[GPR_R8] = (u64)tdcs->max_vcpus << 32 | atomic_load(&tdcs->num_vcpus);
    gpr[GPR_R9] = call->run->vcpu->index;
    gpr[GPR_R10] = INFO_SYS_RD_AVAILABLE;
    gpr[GPR_R11] = 0;
    return 0;
}

static u64 tdg_vp_veinfo_get(struct tdcall *call)
{
    struct tdvps *vcpu = call->run->vcpu;
    bool valid = vcpu->ve.valid;
    u64 *gpr = call->gpr;

    if (!valid)
        memset(&vcpu->ve, 0, sizeof vcpu->ve);
    gpr[GPR_RCX] = vcpu->ve.reason;
    gpr[GPR_RDX] = vcpu->ve.qualification;
    gpr[GPR_R8] = vcpu->ve.gla;
    gpr[GPR_R9] = vcpu->ve.gpa;
    gpr[GPR_R10] = vcpu->ve.instruction_length | (u64)vcpu->ve.instruction_info << 32;
    vcpu->ve.valid = 0;
    return valid ? 0 : completion(TDX_NO_VALID_VE_INFO, 0);
}

static u64 tdg_vp_cpuidve_set(struct tdcall *call)
{
    u64 wanted = call->gpr[GPR_RCX];

    if (wanted & ~(CPUIDVE_SUPERVISOR | CPUIDVE_USER))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    call->run->vcpu->cpuid_ve_supervisor = (wanted & CPUIDVE_SUPERVISOR) != 0;
    call->run->vcpu->cpuid_ve_user = (wanted & CPUIDVE_USER) != 0;
    return 0;
}

/* L2 virtual machines are numbered from 1; no virtual APIC page of one can be set. */
#define VM_SHIFT 52
#define VM_MASK (3ull << VM_SHIFT)
#define ENTER_INVEPT_MASK 3ull
#define ENTER_STATE_ALIGN 256

static bool vm_is_there(const struct tdcall *call, u64 operand)
{
    u64 vm = (operand & VM_MASK) >> VM_SHIFT;
    return vm && vm <= call->run->tdcs->num_l2_vms;
}

static u64 tdg_vp_enter(struct tdcall *call)
{
    u64 flags = call->gpr[GPR_RCX], state = call->gpr[GPR_RDX];

    if (!is_aligned(state, ENTER_STATE_ALIGN) || !sept_gpa_is_private(call->run->tdcs, state))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (!vm_is_there(call, flags) || (flags & ~(VM_MASK | ENTER_INVEPT_MASK)))
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    return completion(TDX_OPERAND_INVALID, OPERAND_L2_VAPIC_GPA);
}

/* An L2 VM that exists has never run: there is nothing to invalidate. */
static u64 tdg_vp_invept(struct tdcall *call)
{
    u64 wanted = call->gpr[GPR_RCX], there = (2ull << call->run->tdcs->num_l2_vms) - 2;
    return wanted & ~there ? completion(TDX_OPERAND_INVALID, OPERAND_RCX) : 0;
}

/* Its list of addresses is for L2 VMs alone. */
static u64 tdg_vp_invvpid(struct tdcall *call)
{
    (void)call;
    return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
}

/* Versions that a leaf does not have are its own business where it has more than one. */
#define VERSIONS_CHECKED_BY_LEAF ~0u
#define TDG_LEAF_LIMIT 32
static const struct {
    tdcall_handler *handler;
    u32 version_max;
} leaves[TDG_LEAF_LIMIT] = {
    [TDG_VP_VMCALL] = {tdg_vp_vmcall, 0},
    [TDG_VP_INFO] = {tdg_vp_info, 0},
    [TDG_MR_RTMR_EXTEND] = {tdg_mr_rtmr_extend, 0},
    [TDG_VP_VEINFO_GET] = {tdg_vp_veinfo_get, 0},
    [TDG_MR_REPORT] = {tdg_mr_report, 0},
    [TDG_VP_CPUIDVE_SET] = {tdg_vp_cpuidve_set, 0},
    [TDG_MEM_PAGE_ACCEPT] = {tdg_mem_page_accept, 0},
    [TDG_VM_RD] = {tdg_vm_rd, VERSIONS_CHECKED_BY_LEAF},
    [TDG_VM_WR] = {tdg_vm_wr, 0},
    [TDG_VP_RD] = {tdg_vp_rd, 0},
    [TDG_VP_WR] = {tdg_vp_wr, 0},
    [TDG_SYS_RD] = {tdg_sys_rd, 0},
    [TDG_SYS_RDALL] = {tdg_sys_rdall, 0},
    [TDG_MR_VERIFYREPORT] = {tdg_mr_verifyreport, 0},
    [TDG_MEM_PAGE_ATTR_RD] = {tdg_mem_page_attr_rd, 0},
    [TDG_MEM_PAGE_ATTR_WR] = {tdg_mem_page_attr_wr, 0},
    [TDG_VP_ENTER] = {tdg_vp_enter, 0},
    [TDG_VP_INVEPT] = {tdg_vp_invept, 0},
    [TDG_VP_INVVPID] = {tdg_vp_invvpid, 0},
};

/* A guest can ask as often as it likes; the log hears of each leaf once. */
static u64 refuse(u64 leaf)
{
    static _Atomic u64 refused;
    u64 bit = 1ull << (leaf < 64 ? leaf : 63);

    if (!(atomic_fetch_or(&refused, bit) & bit))
        log_line("soft: a guest called TDCALL leaf %lu, which this module does not have", leaf);
    return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
}

static u64 dispatch(struct tdcall *call)
{
    u64 rax = call->gpr[GPR_RAX];
    u64 leaf = rax & TDX_LEAF_MASK;

    call->version = (u32)((rax & TDX_VERSION_MASK) >> TDX_VERSION_SHIFT);
    if (leaf >= TDG_LEAF_LIMIT || !leaves[leaf].handler)
        return refuse(leaf);
    if ((rax & TDX_LEAF_RESERVED) || call->version > leaves[leaf].version_max)
        return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
    return leaves[leaf].handler(call);
}

/*
 * The VMM wants what this guest's call needed: the guest hears "busy" and tries again. A VMM that
 * does not come for it in time hears of that.
 */
static bool gave_way_too_long(struct run *run, const struct leaf *leaf)
{
    struct tdvps *vcpu = run->vcpu;
    u64 ticks = run->tdcs->hp_lock_timeout_us * (platform()->tsc_hz / 1000) / 1000;
    u64 now = seam_tsc();

    if (leaf->gives_way && vcpu->gives_way) {
        vcpu->gives_way = now - vcpu->gives_way_since < ticks;
        return !vcpu->gives_way;
    }
    vcpu->gives_way = leaf->gives_way;
    vcpu->gives_way_since = now;
    return false;
}

enum outcome tdcall_handle(struct run *run)
{
    struct leaf leaf;
    struct tdcall call = {.run = run, .leaf = &leaf, .gpr = run->vcpu->gpr};

    /* The guest's registers are a register image like the VMM's. */
    leaf_begin(&leaf, (struct tdx_regs *)run->vcpu->gpr);
    leaf.is_guests = true;
    u64 status = dispatch(&call);
    leaf_unlock_all(&leaf);
    switch (call.end) {
    case TDCALL_REPEATED:
        return OUTCOME_RESUME;
    case TDCALL_FAULTED:
        return OUTCOME_EXIT;
    case TDCALL_EXITED:
        instruction_skip(TDCALL_BYTES);
        return td_exit_vmcall(run);
    default:
        run->vcpu->gpr[GPR_RAX] = status;
        instruction_skip(TDCALL_BYTES);
        return gave_way_too_long(run, &leaf) ? td_exit_trap(run, TDX_HOST_PRIORITY_BUSY_TIMEOUT)
                                             : OUTCOME_RESUME;
    }
}
