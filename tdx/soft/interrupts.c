/* SPDX-License-Identifier: MIT */
/*
 * Posted interrupts without the processor's help: the descriptor's requests are kept in the vCPU,
 * and go one at a time into the virtual APIC page, from where virtual-interrupt delivery takes
 * them.
 */
#include "boot/x86.h"
#include "tdx/soft/run.h"

#define APIC_PPR 0xa0
#define APIC_IRR 0x200
#define APIC_WORD_STEP 0x10
#define POSTED_WORDS 8
#define POSTED_NONE (~0ull)
#define VECTOR_MIN 16

/* As the VMM sees it: 256 request bits, then the "outstanding notification" bit. */
struct posted_descriptor {
    _Atomic u32 requests[POSTED_WORDS];
    _Atomic u64 control;
};
#define POSTED_OUTSTANDING (1ull << 0)

#define STATUS_RVI_MASK 0xffull

static u32 *apic_word(const struct tdvps *vcpu, u32 offset)
{
    return (u32 *)((u8 *)seam_page(vcpu->pages[TDVPS_PAGE_APIC]) + offset);
}

static struct posted_descriptor *descriptor(const struct tdvps *vcpu)
{
    u64 address = vcpu->posted_descriptor;
    return (void *)((u8 *)seam_page(address & ~PAGE_MASK) + (address & PAGE_MASK));
}

bool interrupts_is_notification(const struct tdvps *vcpu, u8 vector)
{
    return vcpu->posted_enabled && vcpu->posted_vector == vector;
}

void interrupts_take_posted(struct tdvps *vcpu)
{
    if (!vcpu->posted_enabled || vcpu->posted_descriptor == POSTED_NONE)
        return;
    struct posted_descriptor *posted = descriptor(vcpu);
    if (!(atomic_load(&posted->control) & POSTED_OUTSTANDING))
        return;
    /* ON goes first: a request that comes after it was read sets it again. */
    atomic_fetch_and(&posted->control, ~POSTED_OUTSTANDING);

    for (u32 word = 0; word < POSTED_WORDS; word++) {
        u32 requests = atomic_exchange(&posted->requests[word], 0);
        if (requests)
            vcpu->requests[word] |= requests;
    }
}

static u32 *irr_word(const struct tdvps *vcpu, u32 word)
{
    return apic_word(vcpu, APIC_IRR + word * APIC_WORD_STEP);
}

void interrupts_request(struct tdvps *vcpu, u8 vector)
{
    if (vector >= VECTOR_MIN)
        vcpu->requests[vector / 32] |= 1u << vector % 32;
}

u32 interrupts_irr(const struct tdvps *vcpu, u32 word)
{
    return vcpu->requests[word] | *irr_word(vcpu, word);
}

/* The highest vector that is requested; 0: none. */
static u32 highest_request(const struct tdvps *vcpu)
{
    for (u32 word = POSTED_WORDS; word-- > 0;) {
        if (vcpu->requests[word])
            return word * 32 + 31 - (u32)__builtin_clz(vcpu->requests[word]);
    }
    return 0;
}

static bool has_priority(const struct tdvps *vcpu, u32 vector)
{
    return vector >> 4 > (*apic_word(vcpu, APIC_PPR) & 0xff) >> 4;
}

/* The guest takes an interrupt at its entry, if the priority is right. */
static bool entry_is_interruptible(void)
{
    return !event_is_queued() && (seam_vmcs_read(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
           !(seam_vmcs_read(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKED_BY_STI_OR_MOV_SS);
}

static void field_update(u32 field, u64 mask, u64 wanted)
{
    u64 value = seam_vmcs_read(field);
    if ((value & mask) != wanted)
        seam_vmcs_write(field, (value & ~mask) | wanted);
}

static void request_show(struct tdvps *vcpu, u32 vector)
{
    vcpu->requests[vector / 32] &= ~(1u << vector % 32);
    *irr_word(vcpu, vector / 32) |= 1u << vector % 32;
    field_update(VMCS_GUEST_INTR_STATUS, STATUS_RVI_MASK, vector);
}

void interrupts_collect(struct tdvps *vcpu)
{
    u64 status = seam_vmcs_read(VMCS_GUEST_INTR_STATUS);
    if (!(status & STATUS_RVI_MASK))
        return;
    for (u32 word = 0; word < POSTED_WORDS; word++) {
        vcpu->requests[word] |= *irr_word(vcpu, word);
        *irr_word(vcpu, word) = 0;
    }
    seam_vmcs_write(VMCS_GUEST_INTR_STATUS, status & ~STATUS_RVI_MASK);
}

/* Of any vector: only who waits for the end of one in service asks for it. */
static void eoi_exits_set(struct tdvps *vcpu, bool wanted)
{
    if (vcpu->eoi_exits == wanted)
        return;
    vcpu->eoi_exits = wanted;
    for (u32 field = VMCS_EOI_EXIT_BITMAP0; field <= VMCS_EOI_EXIT_BITMAP3; field += 2)
        seam_vmcs_write(field, wanted ? ~0ull : 0);
}

void interrupts_prepare(struct tdvps *vcpu)
{
    u32 highest = highest_request(vcpu);
    bool waits = highest, outranked = waits && !has_priority(vcpu, highest);

    if (waits && !outranked && entry_is_interruptible()) {
        request_show(vcpu, highest);
        waits = false;
    }
    eoi_exits_set(vcpu, outranked);
    field_update(VMCS_PROC_CONTROLS, PROC_INTERRUPT_WINDOW,
                 waits && !outranked ? PROC_INTERRUPT_WINDOW : 0);
}

bool interrupts_is_deliverable(const struct tdvps *vcpu)
{
    return has_priority(vcpu, highest_request(vcpu));
}
