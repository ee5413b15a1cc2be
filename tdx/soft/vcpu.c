/* SPDX-License-Identifier: MIT */
/* TDH.VP.*: a vCPU's life outside TDH.VP.ENTER. */
#include "tdx/soft/vcpu.h"

#include "boot/string.h"
#include "tdx/soft/metadata.h"
#include "tdx/soft/platform_check.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/vmcs_init.h"

#define TDVPS_PAGES_PER_L2_VM 3

#define DR6_RESET 0xffff0ff0ull
#define FMASK_RESET 0x20200ull
#define XCR0_RESET 1ull
#define X2APIC_ID_MASK 0xffffffffull

u32 vcpu_pages(const struct tdcs *tdcs)
{
    return TDVPS_PAGES_BASE + TDVPS_PAGES_PER_L2_VM * tdcs->num_l2_vms;
}

u64 vcpu_associate(struct tdvps *vcpu, struct tdcs *tdcs, enum association *association)
{
    u32 here = seam_lp(), none = VCPU_NO_LP;

    /* Two processors may try at once: one wins. */
    if (__atomic_compare_exchange_n(&vcpu->assoc_lp, &none, here, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        tdcs->num_assoc_vcpus++;
        *association = ASSOCIATION_NEW;
    } else if (none == here) {
        *association = ASSOCIATION_KEPT;
    } else {
        return completion(TDX_VCPU_ASSOCIATED, 0);
    }
    seam_vmcs_load(vcpu);
    return 0;
}

u64 tdh_vp_create(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    struct pamt_entry *entry;
    struct td td;

    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RDX], OPERAND_RDX, LOCK_SHARED, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_SHARED);
    if (!status)
        status = page_lock(leaf, &(struct page_operand){page, OPERAND_RCX, PT_NDA, LOCK_EXCLUSIVE},
                           &entry);
    if (status)
        return status;
    td_take_page(&td, entry, page, PT_TDVPR);
    struct tdvps *vcpu = seam_page(page);
    vcpu->owner_tdr = td.address;
    vcpu->tdvpr = page;
    vcpu->num_pages = 1;
    vcpu->pages[0] = page;
    vcpu->state = VCPU_UNINITIALIZED;
    vcpu->assoc_lp = VCPU_NO_LP;
    return 0;
}

u64 tdh_vp_addcx(struct leaf *leaf)
{
    u64 page = leaf->regs->gpr[GPR_RCX];
    struct pamt_entry *entry;
    struct tdvps *vcpu;
    struct td td;

    u64 status = vcpu_lock(leaf, leaf->regs->gpr[GPR_RDX], OPERAND_RDX, LOCK_EXCLUSIVE, &vcpu, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_SHARED);
    if (status)
        return status;
    if (vcpu->state != VCPU_UNINITIALIZED)
        return completion(TDX_VCPU_STATE_INCORRECT, 0);
    if (vcpu->num_pages >= TDVPS_PAGES_MAX_)
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    status =
        page_lock(leaf, &(struct page_operand){page, OPERAND_RCX, PT_NDA, LOCK_EXCLUSIVE}, &entry);
    if (status)
        return status;
    td_take_page(&td, entry, page, PT_TDCX);
    vcpu->pages[vcpu->num_pages++] = page;
    return 0;
}

/* The registers of a vCPU that has never run; the VMCS has the rest. */
static void registers_init(struct tdvps *vcpu, const struct tdcs *tdcs, u64 initial_rcx)
{
    memset(vcpu->gpr, 0, sizeof vcpu->gpr);
    vcpu->gpr[GPR_RBX] = tdcs->gpa_bits;
    vcpu->gpr[GPR_RCX] = vcpu->gpr[GPR_R8] = initial_rcx;
    vcpu->gpr[GPR_RDX] = processor_cpuid(1, 0).eax;
    vcpu->gpr[GPR_RSI] = vcpu->index;
    vcpu->cr2 = 0;
    memset(vcpu->dr, 0, sizeof vcpu->dr);
    vcpu->dr6 = DR6_RESET;
    vcpu->xcr0 = XCR0_RESET;
    vcpu->msr_fmask = FMASK_RESET;
    processor_state_reset(vcpu);
}

static void virtual_fields_init(struct tdvps *vcpu, const struct tdr *tdr)
{
    vcpu->posted_descriptor = VCPU_POINTER_NONE;
    vcpu->posted_vector = VCPU_NO_VECTOR;
    vcpu->posted_enabled = false;
    vcpu->shared_eptp = tdr->tdcx[TDCS_PAGE_ZERO];
}

static u64 index_take(struct tdvps *vcpu, struct tdcs *tdcs)
{
    u32 index = tdcs->num_vcpus++;
    if (index >= tdcs->max_vcpus) {
        tdcs->num_vcpus--;
        return completion(TDX_MAX_VCPUS_EXCEEDED, 0);
    }
    vcpu->index = index;
    return 0;
}

/* Version 1: the x2APIC id is the VMM's choice, but no other vCPU's. The index is taken. */
static u64 x2apic_id_take(struct tdvps *vcpu, const struct td *td, u64 id)
{
    u32 *ids = seam_page(td->tdr->tdcx[TDCS_PAGE_X2APIC_IDS]);
    u64 status = id & ~X2APIC_ID_MASK ? completion(TDX_OPERAND_INVALID, OPERAND_R8) : 0;
    for (u32 i = 0; !status && i < vcpu->index; i++)
        if (ids[i] == id)
            status = completion(TDX_X2APIC_ID_NOT_UNIQUE, ids[i]);
    if (status) {
        td->tdcs->num_vcpus--;
        return status;
    }
    vcpu->x2apic_id = ids[vcpu->index] = (u32)id;
    return 0;
}

static u64 identity_take(struct leaf *leaf, struct tdvps *vcpu, const struct td *td)
{
    u64 status = index_take(vcpu, td->tdcs);
    if (status)
        return status;
    if (leaf->version)
        return x2apic_id_take(vcpu, td, leaf->regs->gpr[GPR_R8]);
    vcpu->x2apic_id = vcpu->index;
    td->tdcs->topology_is_configured = false;
    return tsc_adjust_check(); /* the index is lost then, as on Intel's */
}

u64 tdh_vp_init(struct leaf *leaf)
{
    const u64 *gpr = leaf->regs->gpr;
    const struct page_operand page = {gpr[GPR_RCX], OPERAND_RCX, PT_TDVPR, LOCK_EXCLUSIVE};
    enum association association;
    struct tdvps *vcpu;
    struct td td;

    /* What is of newer modules looks at the TSC first. */
    u64 status = leaf->version ? tsc_adjust_check() : 0;
    if (!status)
        status =
            vcpu_lock_both(leaf, &page, leaf->version ? LOCK_EXCLUSIVE : LOCK_SHARED, &vcpu, &td);
    if (!status)
        status = td_check_state(leaf, &td, LOCK_SHARED);
    if (status)
        return status;
    if (vcpu->num_pages < vcpu_pages(td.tdcs))
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    if (vcpu->state != VCPU_UNINITIALIZED)
        return completion(TDX_VCPU_STATE_INCORRECT, 0);
    status = identity_take(leaf, vcpu, &td);
    if (status)
        return status;
    vcpu->last_exit_tsc = seam_tsc();
    registers_init(vcpu, td.tdcs, gpr[GPR_RDX]);
    virtual_fields_init(vcpu, td.tdr);
    seam_vmcs_clear(vcpu);
    status = vcpu_associate(vcpu, td.tdcs, &association);
    if (status)
        return status;
    vmcs_init(vcpu, td.tdr, td.tdcs);
    vcpu_fields_init(vcpu, td.tdr, td.tdcs);
    vcpu->state = VCPU_READY;
    return 0;
}

u64 tdh_vp_flush(struct leaf *leaf)
{
    struct tdvps *vcpu;
    struct td td;

    u64 status = vcpu_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_EXCLUSIVE, &vcpu, &td);
    if (status)
        return status;
    if (td.tdr->lifecycle != TD_KEYS_CONFIGURED)
        return completion(TDX_TD_KEYS_NOT_CONFIGURED, 0);
    if (vcpu->num_pages < vcpu_pages(td.tdcs))
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    if (vcpu->assoc_lp != seam_lp())
        return completion(TDX_VCPU_NOT_ASSOCIATED, 0);
    seam_invept(td.tdcs->eptp);
    seam_vmcs_clear(vcpu);
    __atomic_store_n(&vcpu->assoc_lp, VCPU_NO_LP, __ATOMIC_RELEASE);
    td.tdcs->num_assoc_vcpus--;
    return 0;
}

/* What VP.RD and VP.WR have in common: the vCPU, in one of `states`, on this processor. */
static u64 metadata_begin(struct leaf *leaf, u32 states, struct td *td,
                          struct metadata_context *context)
{
    enum association association;
    struct tdvps *vcpu;

    u64 status = vcpu_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_SHARED, &vcpu, td);
    if (!status)
        status = td_check_state(leaf, td, LOCK_SHARED);
    if (status)
        return status;
    if (vcpu->num_pages < vcpu_pages(td->tdcs))
        return completion(TDX_TDCX_NUM_INCORRECT, 0);
    if (!(states >> vcpu->state & 1))
        return completion(TDX_VCPU_STATE_INCORRECT, 0);
    status = vcpu_associate(vcpu, td->tdcs, &association);
    if (status)
        return status;
    bool debug = td->tdcs->attributes & TD_ATTRIBUTE_DEBUG;
    *context = (struct metadata_context){
        .scope = METADATA_VP,
        .reader = debug ? METADATA_HOST_DEBUG : METADATA_HOST,
        .td = td,
        .vcpu = vcpu,
    };
    return 0;
}

u64 tdh_vp_rd(struct leaf *leaf)
{
    u64 *gpr = leaf->regs->gpr;
    u64 field = gpr[GPR_RDX], value = 0, next = ~0ull;
    struct metadata_context context;
    struct td td;

    gpr[GPR_R8] = 0;
    u64 status = metadata_begin(leaf, 1u << VCPU_READY | 1u << VCPU_DISABLED, &td, &context);
    if (!status && leaf->version && metadata_field_is_null(field)) {
        gpr[GPR_RDX] = metadata_first(&context);
        return completion(TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT, 0);
    }
    if (!status)
        status = metadata_read(&context, field, &value, &next);
    bool failed = status & TDX_STATUS_ERROR;
    if (leaf->version)
        gpr[GPR_RDX] = failed ? ~0ull : next;
    gpr[GPR_R8] = failed ? 0 : value;
    return status;
}

u64 tdh_vp_wr(struct leaf *leaf)
{
    u64 *gpr = leaf->regs->gpr;
    u64 value = gpr[GPR_R8], previous = 0;
    struct metadata_context context;
    struct td td;

    gpr[GPR_R8] = 0;
    u64 status = metadata_begin(leaf, 1u << VCPU_READY, &td, &context);
    if (!status)
        status = metadata_write(&context, gpr[GPR_RDX], value, gpr[GPR_R9], &previous);
    if (!(status & TDX_STATUS_ERROR))
        gpr[GPR_R8] = previous;
    return status;
}
