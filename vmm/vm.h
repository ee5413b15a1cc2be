/* SPDX-License-Identifier: MIT */
/* One guest: its TD or VM, memory, devices, and the loop of each vCPU. */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "mm/ept.h"
#include "tdx/td.h"
#include "vmm/console.h"
#include "vmm/fw_cfg.h"
#include "vmm/ioapic.h"
#include "vmm/lapic.h"
#include "vmm/memory.h"
#include "vmm/uart.h"
#include "vmm/vmx_vcpu.h"

enum vm_end {
    VM_RUNS,
#define VM_END(name, sort, text) VM_END_##name,
#include "vmm/vm_ends.def"
#undef VM_END
    VM_ENDS,
};

/* Rows of the TDVMCALL table, for counting. */
enum vmcall_row {
#define VMCALL(handler, number, name) VMCALL_##handler,
#include "vmm/vmcalls.def"
#undef VMCALL
    VMCALL_unknown,
    VMCALL_ROWS,
};

/* A vCPU; its own processor alone touches what is not atomic. */
struct vcpu {
    struct td_vcpu td;   /* of a TD alone */
    struct vmx_vcpu vmx; /* of a VM alone */
    struct vm *vm;
    u32 index; /* also its APIC id, and the processor it runs on */
    struct vcpu_caches caches;
    struct lapic lapic;
    u64 deadline_guest, deadline_host; /* lapic.deadline, and when that is here */
    u64 timer_tsc;                     /* what the processor's timer is armed for; 0: not */
    /*
     * Until then, with the guest's timer as it is, time asks for nothing; 0: look again. Others
     * write it where they change vm->poll_tsc.
     */
    _Atomic u64 due_tsc;
    u64 armed_count_end; /* lapic.count_end_tsc of that */
    enum vcpu_wish {
        VCPU_RUN,
        VCPU_HALT,                    /* until an interrupt */
        VCPU_HALT_INTERRUPTS_BLOCKED, /* for good */
    } wish;
    _Atomic bool halted, running;
    _Atomic bool flush_wanted; /* translations of shared memory are stale */
    u64 exits[TD_EXIT_KINDS];
    u64 vmcalls[VMCALL_ROWS];
    u64 msrs_refused;
    struct measure_series *series; /* open on this vCPU; null: none */
};

struct vm {
    const struct guest_config *config;
    gpa_t shared_bit;
    struct td td;      /* of a TD alone */
    struct ept direct; /* a TD's shared GPAs, SHARED bit included; all of a VM's */
    struct guest_memory memory;
    struct vcpu *vcpus[TD_VCPUS_MAX];
    u32 vcpu_count;
    _Atomic enum vm_end end;
    _Atomic u32 blocked_vcpus; /* halted for good */
    bool has_td, has_direct;
    bool teardown_by_page; /* for comparison alone */

    struct lock lock; /* RANK_VM; guards the rest */
    struct uart uart;
    struct ioapic ioapic;
    struct fw_cfg fw_cfg;
    struct guest_console console;
    u64 poll_tsc; /* when the console is looked at next; vCPU 0 does it */

    u64 start_tsc, end_tsc;
    u64 initial_pages;
    u8 mrtd[TD_MEASUREMENT_BYTES];
};

/*
 * Builds the TD or VM of `config`: image, memory, vCPUs, a TD's measurement. On error, which is
 * logged in one line, nothing is left behind.
 */
enum error vm_create(struct vm *vm, const struct guest_config *config);
/* Runs every vCPU until the guest ends; the result is never VM_RUNS. */
enum vm_end vm_run(struct vm *vm);
/*
 * Gives everything back. ERR_REFUSED: the module kept pages; they are leaked and counted.
 * Statistics in `vm` stay readable.
 */
enum error vm_destroy(struct vm *vm);

/*
 * While the guest runs, compares a TD's mirror and external table, or counts a VM's pages, and says
 * what was found in one line.
 * ERR_STATE: they differ.
 */
enum error vm_audit(struct vm *vm);

/* The first end counts; every vCPU leaves the guest. The caller has logged the particulars. */
void vm_end(struct vm *vm, enum vm_end end);
static inline bool vm_is_td(const struct vm *vm)
{
    return vm->config->kind == GUEST_TD;
}
static inline bool vm_has_ended(const struct vm *vm)
{
    return vm->end != VM_RUNS;
}
const char *vm_end_text(enum vm_end end);
bool vm_end_is_clean(enum vm_end end);

/* Sends an interrupt to the vCPUs it is for; `sender` is an APIC id or INTERRUPT_BROADCAST. */
void vm_deliver(struct vm *vm, const struct interrupt *interrupt, u32 sender);
void vcpu_post(struct vcpu *vcpu, u8 vector);
/* The UART's line as the I/O APIC sees it; called, with the lock, after any change. */
void vm_update_uart_line(struct vm *vm);

#endif
