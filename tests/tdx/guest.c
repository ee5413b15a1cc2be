/* SPDX-License-Identifier: MIT */
#include "tests/tdx/guest.h"

#include "boot/x86.h"
#include "tdx/soft/seam.h"
#include "tdx/soft/td.h"
#include "tests/host/machine.h"

#define TIMER_VECTOR 0x20
#define TDCALL_BYTES 4

bool guest_translate(u64 eptp, u64 address, struct translation *translation)
{
    u64 entry = eptp;
    for (u32 level = (eptp >> 3) & 7;; level--) {
        _Atomic u64 *table = host_memory_at(entry & TDX_ADDRESS_MASK);
        entry = table[address >> (PAGE_SHIFT + TABLE_SHIFT * level) & (TABLE_ENTRIES - 1)];
        if ((entry & EPT_RWX) != EPT_RWX)
            return false;
        if (level != LEVEL_4K && !(entry & EPT_LARGE))
            continue;
        u64 inside = level_bytes((enum level)level) - 1;
        translation->page = (entry & TDX_ADDRESS_MASK & ~inside) | (address & inside & ~PAGE_MASK);
        translation->level = (enum level)level;
        return true;
    }
}

void guest_accept_begin(struct tdvps *vcpu, struct guest_exit *exit, gfn_t frame, enum level level)
{
    vcpu->gpr[GPR_RAX] = TDG_MEM_PAGE_ACCEPT;
    vcpu->gpr[GPR_RCX] = gfn_to_gpa(frame).raw | level;
    *exit = (struct guest_exit){.reason = EXIT_TDCALL};
}

void guest_gets_on(void)
{
    seam_vmcs_write(VMCS_GUEST_RIP, seam_vmcs_read(VMCS_GUEST_RIP) + TDCALL_BYTES);
}

void guest_interrupted(struct guest_exit *exit)
{
    *exit = (struct guest_exit){
        .reason = EXIT_EXTERNAL_INTERRUPT,
        .interruption = INTR_VALID | INTR_TYPE_EXTERNAL | TIMER_VECTOR,
    };
}

/* The one TDCALL of guest_accept. */
static struct {
    gfn_t frame;
    enum level level;
    bool is_made, is_answered;
    u64 status;
} accepting;

static void accept_play(struct tdvps *vcpu, struct guest_exit *exit)
{
    if (!accepting.is_made) {
        accepting.is_made = true;
        guest_accept_begin(vcpu, exit, accepting.frame, accepting.level);
        return;
    }
    accepting.is_answered = true;
    accepting.status = vcpu->gpr[GPR_RAX];
    guest_interrupted(exit);
}

/* Elsewhere in its code, the guest is interrupted. */
static void interrupt_play(struct tdvps *vcpu, struct guest_exit *exit)
{
    (void)vcpu;
    guest_gets_on();
    guest_interrupted(exit);
}

bool guest_accept(struct td_vcpu *vcpu, gfn_t frame, enum level level, u64 *status,
                  struct td_exit *exit)
{
    accepting.frame = frame;
    accepting.level = level;
    accepting.is_made = accepting.is_answered = false;
    soft_module_guest = accept_play;
    td_vcpu_enter(vcpu, exit);
    soft_module_guest = interrupt_play;
    /* Many faults at one instruction would be an attack: this one the guest gives up. */
    if (!accepting.is_answered) {
        struct td_exit ignored;
        td_vcpu_enter(vcpu, &ignored);
    }
    soft_module_guest = NULL;
    *status = accepting.status;
    return accepting.is_answered;
}
