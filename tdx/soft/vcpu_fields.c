/* SPDX-License-Identifier: MIT */
/* Metadata of a vCPU: values of VMCS and TDVPS fields, and what may be written into them. */
#include "boot/msr.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/soft/metadata.h"
#include "tdx/soft/processor.h"
#include "tdx/soft/run.h"
#include "tdx/soft/vcpu.h"
#include "tdx/soft/vmcs_init.h"

#define VECTOR_LIMIT 256
#define DESCRIPTOR_ALIGN 64
#define PAGE_QUADWORDS (PAGE_BYTES / sizeof(u64))

#define MD_VP_PML_ADDRESS 0x002400030000200eull
#define MD_VP_PROC_CONTROLS2 0x002400020000401eull

/*
 * The controls of Intel's module, which its VMM reads: this one has others, as it does in software
 * what it cannot expect of a processor. Bits that depend on the TD come on top.
 */
#define PROC_INITIAL 0x91220088u
#define PROC2_INITIAL 0x133cb3fau
#define PROC3_INITIAL 0x80u
#define PROC3_GPAW (1u << 5)
#define EXIT_INITIAL 0x1f3c8204u
#define EXIT_PERF_GLOBAL (1u << 12 | 1u << 30)
#define ENTRY_INITIAL 0x003ec004u
#define ENTRY_PERF_GLOBAL (1u << 13)
#define ENTRY_PKRS (1u << 22)
#define DEBUGCTL_UNCORE_PMI (1ull << 13)

#define CR3_RESERVED 0xfe7ull /* but PWT and PCD */
#define CR3_LAM (3ull << 61)
#define CPUID_FEATURES 7
#define CPUID_7_1_EAX_LAM (1u << 26)

/* Of XBUFF, quadwords: the header, which the module alone writes, and the one with MXCSR. */
#define XBUFF_HEADER 64
#define XBUFF_HEADER_END 72
#define XBUFF_MXCSR 3
#define MXCSR_RESERVED 0xffff0000ull

enum last_td_exit {
    LAST_TD_EXIT_ASYNC = 0,
    LAST_TD_EXIT_VMCALL = 2,
};

static const struct metadata_field fields[] = {
#define MEMBER_NONE(name, unused) .source = FROM_NONE
#define MEMBER_KEPT(name, initial) METADATA_MEMBER(FROM_TDVPS, tdvps, kept.name[0])
#define MEMBER_VMCS(name, unused) .source = FROM_VMCS
#define MEMBER_TDVPS(name, member) METADATA_MEMBER(FROM_TDVPS, tdvps, member)
#define MEMBER_TDVPS_FIRST(name, member) METADATA_MEMBER(FROM_TDVPS_FIRST, tdvps, member)
#define MEMBER_TDVPS_PAGE(name, page) .source = FROM_TDVPS_PAGE, .offset = (page)
#define MEMBER_PIN_CONTROLS(name, unused) .source = FROM_PIN_CONTROLS
#define MEMBER_STATE_DETAILS(name, unused) .source = FROM_STATE_DETAILS
#define MEMBER_LAST_TD_EXIT(name, unused) .source = FROM_LAST_TD_EXIT
#define VP_FIELD(name, id, rows, fields_, elements, access, source_, argument) \
    METADATA_ROW(id, rows, fields_, elements, access, MEMBER_##source_(name, argument))
#include "tdx/soft/metadata.def"
#undef VP_FIELD
};
const struct metadata_table vcpu_fields = {fields, ARRAY_LENGTH(fields)};

static u64 proc_controls_initial(const struct tdcs *tdcs)
{
    u32 perfmon = tdcs->attributes & TD_ATTRIBUTE_PERFMON ? 0 : PROC_RDPMC;
    return PROC_INITIAL | PROC_MWAIT | PROC_MONITOR | perfmon;
}

static u64 exit_controls_initial(const struct tdcs *tdcs)
{
    bool counts = tdcs->attributes & (TD_ATTRIBUTE_PERFMON | TD_ATTRIBUTE_DEBUG);
    return EXIT_INITIAL | (counts ? EXIT_PERF_GLOBAL : 0);
}

static u64 entry_controls_initial(const struct tdcs *tdcs)
{
    bool counts = tdcs->attributes & (TD_ATTRIBUTE_PERFMON | TD_ATTRIBUTE_DEBUG);
    bool has_keys = tdcs->attributes & (TD_ATTRIBUTE_PKS | TD_ATTRIBUTE_DEBUG);
    return ENTRY_INITIAL | (counts ? ENTRY_PERF_GLOBAL : 0) | (has_keys ? ENTRY_PKRS : 0);
}

/* Elements that the TD itself (the first one) and its L2 VMs have. */
#define VM_NONE (element <= tdcs->num_l2_vms ? ~0ull : 0)
#define VM_SHADOW(encoding, other) \
    (!element ? seam_vmcs_read(encoding) : element <= tdcs->num_l2_vms ? (other) : 0)

void vcpu_fields_init(struct tdvps *vcpu, const struct tdr *tdr, const struct tdcs *tdcs)
{
#define INIT_KEPT(name, initial)                                              \
    for (u32 element = 0; element < ARRAY_LENGTH(vcpu->kept.name); element++) \
        vcpu->kept.name[element] = (initial);
#define INIT_NONE(name, unused)
#define INIT_VMCS(name, unused)
#define INIT_TDVPS(name, unused)
#define INIT_TDVPS_FIRST(name, unused)
#define INIT_TDVPS_PAGE(name, unused)
#define INIT_PIN_CONTROLS(name, unused)
#define INIT_STATE_DETAILS(name, unused)
#define INIT_LAST_TD_EXIT(name, unused)
#define VP_FIELD(name, id, rows, fields_, elements, access, source, argument) \
    INIT_##source(name, argument)
#include "tdx/soft/metadata.def"
#undef VP_FIELD
}

/* What the module uses for itself is not the VMM's business. */
static u64 pin_controls(const struct tdvps *vcpu)
{
    u64 hardware = seam_vmcs_read(VMCS_PIN_CONTROLS) & ~(u64)PIN_PREEMPTION_TIMER;
    return hardware | (vcpu->posted_enabled ? PIN_POSTED_INTERRUPTS : 0);
}

static u32 place_encoding(const struct metadata_place *place)
{
    return (u32)(metadata_place_id(place) & METADATA_CODE_MASK);
}

/* An element of the quadwords that begin with a page of the TDVPS. */
static u64 *page_element(const struct tdvps *vcpu, const struct metadata_place *place)
{
    u64 page = vcpu->pages[place->field->offset + place->element / PAGE_QUADWORDS];
    return (u64 *)seam_page(page) + place->element % PAGE_QUADWORDS;
}

u64 vcpu_field_value(const struct metadata_context *context, const struct metadata_place *place)
{
    const struct tdvps *vcpu = context->vcpu;

    switch ((enum metadata_source)place->field->source) {
    case FROM_VMCS:
        return seam_vmcs_read(place_encoding(place));
    case FROM_TDVPS:
        return metadata_member_read(vcpu, place);
    case FROM_TDVPS_FIRST:
        return place->element ? 0 : metadata_member_read(vcpu, place);
    case FROM_TDVPS_PAGE:
        return *page_element(vcpu, place);
    case FROM_PIN_CONTROLS:
        return place->element ? 0 : pin_controls(vcpu);
    case FROM_STATE_DETAILS:
        return interrupts_is_deliverable(vcpu) ? MD_VP_STATE_DETAILS_INTERRUPT : 0;
    case FROM_LAST_TD_EXIT:
        return vcpu->last_exit_was_vmcall ? LAST_TD_EXIT_VMCALL : LAST_TD_EXIT_ASYNC;
    default:
        return 0;
    }
}

bool vcpu_field_is_address(const struct metadata_place *place)
{
    u64 id = metadata_place_id(place);
    return id == MD_VP_POSTED_INTR_DESC || id == MD_VP_SHARED_EPTP || id == MD_VP_PML_ADDRESS;
}

static u64 invalid(void)
{
    return completion(TDX_METADATA_FIELD_VALUE_NOT_VALID, 0);
}

static u64 pin_controls_write(struct tdvps *vcpu, u64 value)
{
    bool enable = value & PIN_POSTED_INTERRUPTS;

    if (enable && vcpu->posted_vector == VCPU_NO_VECTOR)
        return completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_NV);
    if (enable && vcpu->posted_descriptor == VCPU_POINTER_NONE)
        return completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_DESC_ADDR);
    vcpu->posted_enabled = enable;
    return 0;
}

/* A control register as the guest would write it: the module's bits have to be what it sees. */
static u64 control_register_write(u32 encoding, u32 mask_field, u32 shadow_field, u64 value)
{
    u64 owned = seam_vmcs_read(mask_field);

    if ((value ^ seam_vmcs_read(shadow_field)) & owned)
        return invalid();
    seam_vmcs_write(encoding, (seam_vmcs_read(encoding) & owned) | (value & ~owned));
    return 0;
}

static bool cr3_is_valid(const struct tdcs *tdcs, u64 value)
{
    if (processor_cpuid(CPUID_FEATURES, 1).eax & CPUID_7_1_EAX_LAM)
        value &= ~CR3_LAM;
    return !(value & CR3_RESERVED) && !(value >> (tdcs->gpa_bits - 1));
}

static u64 vmcs_write(const struct metadata_context *context, u32 encoding, u64 value)
{
    switch (encoding) {
    case VMCS_GUEST_CR0:
        return control_register_write(encoding, VMCS_CR0_MASK, VMCS_CR0_SHADOW, value);
    case VMCS_GUEST_CR4:
        return control_register_write(encoding, VMCS_CR4_MASK, VMCS_CR4_SHADOW, value);
    case VMCS_GUEST_CR3:
        if (!cr3_is_valid(context->td->tdcs, value))
            return invalid();
        break;
    case VMCS_GUEST_DEBUGCTL:
        value &= ~DEBUGCTL_UNCORE_PMI; /* the VMM's own, which is never set here */
        break;
    default:
        break;
    }
    seam_vmcs_write(encoding, value);
    return 0;
}

/* Bits that change have to be what the processor allows, and PML needs a log. */
static bool proc_controls2_are_valid(const struct tdvps *vcpu, u64 value, u64 changed)
{
    u64 capability = processor_msr_read(MSR_VMX_PROCBASED_CTLS2);
    u64 must = capability & 0xffffffff, may = capability >> 32;

    if (changed & ((~value & must) | (value & ~may)))
        return false;
    return !(value & PROC2_PML) || !(vcpu->kept.PML_ADDRESS[0] >> 63);
}

/* Fields whose values not all are taken. */
static u64 value_check(const struct metadata_context *context, const struct metadata_place *place,
                       u64 value, u64 changed)
{
    const struct tdvps *vcpu = context->vcpu;
    u64 id = metadata_place_id(place);
    bool is_valid = true;

    if (id == MD_VP_POSTED_INTR_NV)
        is_valid = value < VECTOR_LIMIT;
    else if (id == MD_VP_PROC_CONTROLS2)
        is_valid = proc_controls2_are_valid(vcpu, value, changed);
    else if (vcpu_field_is_address(place))
        is_valid = !operand_shared(
            value, id == MD_VP_POSTED_INTR_DESC ? DESCRIPTOR_ALIGN : PAGE_BYTES, OPERAND_R8);
    return is_valid ? 0 : invalid();
}

static u64 xbuff_write(const struct tdvps *vcpu, const struct metadata_place *place, u64 value)
{
    if (place->element >= XBUFF_HEADER && place->element < XBUFF_HEADER_END)
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    if (place->element == XBUFF_MXCSR && value & MXCSR_RESERVED)
        return invalid(); /* XRSTOR, which the module executes, would fault */
    *page_element(vcpu, place) = value;
    return 0;
}

u64 vcpu_field_write(const struct metadata_context *context, const struct metadata_place *place,
                     u64 value, u64 mask)
{
    struct tdvps *vcpu = context->vcpu;

    u64 status = value_check(context, place, value, mask);
    if (status)
        return status;
    switch ((enum metadata_source)place->field->source) {
    case FROM_VMCS:
        return vmcs_write(context, place_encoding(place), value);
    case FROM_TDVPS_PAGE:
        return xbuff_write(vcpu, place, value);
    case FROM_PIN_CONTROLS:
        return pin_controls_write(vcpu, value);
    case FROM_TDVPS:
        metadata_member_write(vcpu, place, value);
        if (metadata_place_id(place) == MD_VP_SHARED_EPTP)
            vcpu->kept.SHADOW_SHARED_EPTP[0] = value;
        return 0;
    default:
        return completion(TDX_METADATA_FIELD_NOT_WRITABLE, 0);
    }
}
