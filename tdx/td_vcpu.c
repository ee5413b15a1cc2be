/* SPDX-License-Identifier: MIT */
#include "tdx/td.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/handover.h"
#include "tdx/td_parts.h"

#define WHERE_BYTES 64
#define DESCRIPTOR_BYTES 64
_Static_assert(TD_VCPUS_MAX *DESCRIPTOR_BYTES <= PAGE_BYTES, "one page of descriptors");

/* Spins between two kicks of a vCPU that does not leave: a kick may get lost in an emulator. */
#define KICK_SPINS 100000

/* A field of the vCPU; only `mask` of it is written. */
struct field {
    u64 id, value, mask;
};

static enum error field_write(struct td_vcpu *vcpu, const struct field *field)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = vcpu->tdvpr.raw;
    regs.gpr[GPR_RDX] = field->id;
    regs.gpr[GPR_R8] = field->value;
    regs.gpr[GPR_R9] = field->mask;
    struct tdx_status status = seamcall_patient(TDH_VP_WR, &regs);
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "vCPU %u, field 0x%016llx", vcpu->index,
                  (unsigned long long)field->id);
    return tdx_status_error_final(status, TDH_VP_WR, where);
}

/* Bits of the descriptor's fifth quadword. */
#define POSTED_OUTSTANDING (1ull << 0)
#define POSTED_VECTOR_SHIFT 16
#define POSTED_DESTINATION_SHIFT 32

struct posted_descriptor {
    _Atomic u64 requests[4]; /* a bit per vector */
    _Atomic u64 control;
    u64 reserved[3];
};
_Static_assert(sizeof(struct posted_descriptor) == DESCRIPTOR_BYTES, "by architecture");

static struct posted_descriptor *descriptor_of(const struct td_vcpu *vcpu)
{
    hpa_t page = hpa(align_down(vcpu->descriptor.raw, PAGE_BYTES));
    return (void *)((u8 *)phys_to_virt(page) + (vcpu->descriptor.raw & PAGE_MASK));
}

static void vcpu_reset(struct td *td, struct td_vcpu *vcpu)
{
    memset(vcpu, 0, sizeof *vcpu);
    vcpu->td = td;
    vcpu->index = td->vcpu_count;
    vcpu->tdvpr = HPA_NONE;
    for (u32 i = 0; i < TDVPS_PAGES_MAX; i++)
        vcpu->tdcx[i] = HPA_NONE;
    vcpu->cpu = -1;
    vcpu->wants_notification = tdx_module()->posted_wants_notification;
    vcpu->descriptor = hpa(td->descriptors.raw + vcpu->index * DESCRIPTOR_BYTES);
}

static enum error pages_give(struct td *td, struct td_vcpu *vcpu)
{
    enum error error = control_page_create(TDH_VP_CREATE, td->tdr.raw, "a new TDVPR", &vcpu->tdvpr);
    while (!error && vcpu->tdcx_count + 1 < tdx_module()->tdvps_pages) {
        error = control_page_create(TDH_VP_ADDCX, vcpu->tdvpr.raw, "a TDVPS page",
                                    &vcpu->tdcx[vcpu->tdcx_count]);
        if (!error)
            vcpu->tdcx_count++;
    }
    return error;
}

static enum error vcpu_init(struct td_vcpu *vcpu, u64 initial_rcx)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = vcpu->tdvpr.raw;
    regs.gpr[GPR_RDX] = initial_rcx;
    /* Version 1 tells the APIC id, which the guest's CPUID then shows. */
    u8 version = tdx_module()->features0 & TDX_FEATURE_TOPOLOGY_ENUM ? 1 : 0;
    if (version == 1)
        regs.gpr[GPR_R8] = vcpu->index;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "vCPU %u", vcpu->index);
    struct tdx_status status = seamcall_patient_version(TDH_VP_INIT, version, &regs);
    enum error error = tdx_status_error_final(status, TDH_VP_INIT, where);
    if (!error)
        vcpu->cpu = (i32)cpu_this()->index;
    return error;
}

/* The vector and the address come first: the module refuses the control bit without them. */
static enum error fields_write(struct td_vcpu *vcpu, hpa_t shared_ept_root)
{
    const struct field fields[] = {
        {MD_VP_SHARED_EPTP, shared_ept_root.raw, ~0ull},
        {MD_VP_POSTED_INTR_NV, VECTOR_POSTED, 0xffff},
        {MD_VP_POSTED_INTR_DESC, vcpu->descriptor.raw, ~0ull},
        {MD_VP_PIN_CONTROLS, MD_VP_PIN_POSTED_INTERRUPTS, MD_VP_PIN_POSTED_INTERRUPTS},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(fields); i++) {
        enum error error = field_write(vcpu, &fields[i]);
        if (error)
            return error;
    }
    return OK;
}

enum error td_vcpu_create(struct td *td, struct td_vcpu *vcpu, u64 initial_rcx,
                          hpa_t shared_ept_root)
{
    if (td->vcpu_count == TD_VCPUS_MAX || td->finalized)
        return ERR_STATE;
    vcpu_reset(td, vcpu);
    td->vcpus[td->vcpu_count++] = vcpu;
    atomic_store(&descriptor_of(vcpu)->control, (u64)VECTOR_POSTED << POSTED_VECTOR_SHIFT);

    enum error error = pages_give(td, vcpu);
    if (!error)
        error = vcpu_init(vcpu, initial_rcx);
    if (!error)
        error = fields_write(vcpu, shared_ept_root);
    /* Let go of this processor: whoever runs the vCPU first need not ask us for it. */
    if (!error)
        error = td_vcpu_flush(vcpu);
    return error;
}

struct flush {
    struct td_vcpu *vcpu;
    enum error error;
};

static void flush_here(void *argument)
{
    struct flush *flush = argument;
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = flush->vcpu->tdvpr.raw;
    struct tdx_status status = seamcall_patient(TDH_VP_FLUSH, &regs);
    flush->error = OK;
    /* An entry that failed early did not associate it. */
    if (tdx_status_code(status) == TDX_VCPU_NOT_ASSOCIATED)
        return;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "vCPU %u", flush->vcpu->index);
    flush->error = tdx_status_error_final(status, TDH_VP_FLUSH, where);
}

enum error td_vcpu_flush(struct td_vcpu *vcpu)
{
    struct flush flush = {vcpu, OK};
    i32 cpu = vcpu->cpu;
    if (cpu < 0)
        return OK;
    cpu_run_on((u32)cpu, flush_here, &flush);
    if (!flush.error)
        vcpu->cpu = -1;
    return flush.error;
}

static void vcpu_wait_out(const struct td_vcpu *vcpu, u64 exits)
{
    for (u32 spins = 1; atomic_load(&vcpu->in_guest) && atomic_load(&vcpu->exits) == exits;
         spins++) {
        if (spins % KICK_SPINS == 0)
            cpu_kick((u32)vcpu->cpu);
        cpu_relax();
    }
}

void td_vcpus_kick(struct td *td)
{
    u64 exits[TD_VCPUS_MAX];
    /* All at once, and only then wait. */
    for (u32 i = 0; i < td->vcpu_count; i++) {
        struct td_vcpu *vcpu = td->vcpus[i];
        exits[i] = atomic_load(&vcpu->exits);
        if (atomic_load(&vcpu->in_guest))
            cpu_kick((u32)vcpu->cpu);
    }
    for (u32 i = 0; i < td->vcpu_count; i++)
        vcpu_wait_out(td->vcpus[i], exits[i]);
}

void td_vcpu_post(struct td_vcpu *vcpu, u8 vector)
{
    struct posted_descriptor *descriptor = descriptor_of(vcpu);
    atomic_fetch_or(&descriptor->requests[vector / 64], 1ull << vector % 64);
    u64 control = atomic_fetch_or(&descriptor->control, POSTED_OUTSTANDING);
    /* Either we see it in the guest, or its entry sees the outstanding bit. */
    if (!(control & POSTED_OUTSTANDING) && atomic_load(&vcpu->in_guest))
        apic_send(cpu_at((u32)vcpu->cpu)->apic_id, VECTOR_POSTED);
}

bool td_vcpu_interrupt_is_pending(struct td_vcpu *vcpu)
{
    struct posted_descriptor *descriptor = descriptor_of(vcpu);
    for (u32 i = 0; i < ARRAY_LENGTH(descriptor->requests); i++)
        if (atomic_load(&descriptor->requests[i]))
            return true;
    /* Elsewhere the module would refuse; and one that never ran has taken nothing in yet. */
    if (vcpu->cpu != (i32)cpu_this()->index)
        return false;
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = vcpu->tdvpr.raw;
    regs.gpr[GPR_RDX] = MD_VP_STATE_DETAILS;
    struct tdx_status status = seamcall_patient(TDH_VP_RD, &regs);
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "vCPU %u", vcpu->index);
    /* Nobody knows: better a guest that wakes for nothing than one that sleeps for good. */
    if (tdx_status_error_final(status, TDH_VP_RD, where))
        return true;
    return (regs.gpr[GPR_R8] & MD_VP_STATE_DETAILS_INTERRUPT) != 0;
}

/* Notifications of the vCPU go to this processor from now on. */
static void descriptor_aim(struct td_vcpu *vcpu)
{
    struct posted_descriptor *descriptor = descriptor_of(vcpu);
    u64 destination = (u64)cpu_this()->apic_id << POSTED_DESTINATION_SHIFT;
    u64 old = atomic_load(&descriptor->control), new;
    do
        new = (old & ((1ull << POSTED_DESTINATION_SHIFT) - 1)) | destination;
    while (old != new && !atomic_compare_exchange_weak(&descriptor->control, &old, new));
}

enum error td_vcpu_move(struct td_vcpu *vcpu)
{
    i32 here = (i32)cpu_this()->index;
    enum error error = td_vcpu_flush(vcpu);
    if (error)
        return error;
    vcpu->cpu = here;
    descriptor_aim(vcpu);
    return OK;
}

enum error td_vcpu_pend_nmi(struct td_vcpu *vcpu)
{
    enum error error = OK;
    if (vcpu->cpu != (i32)cpu_this()->index)
        error = td_vcpu_move(vcpu);
    return error ? error : field_write(vcpu, &(struct field){MD_VP_PEND_NMI, 1, 0xff});
}

void td_vcpu_notify_self(struct td_vcpu *vcpu)
{
    if (atomic_load(&descriptor_of(vcpu)->control) & POSTED_OUTSTANDING)
        apic_send(cpu_this()->apic_id, VECTOR_POSTED);
}
