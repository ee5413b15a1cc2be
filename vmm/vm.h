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
    u32 index; /* also its APIC id */
    u32 cpu;   /* the processor in whose queue it is (vmm/schedule.h) */
    u64 turn;  /* its place in that queue: the least is next */
    u64 ran_ticks;
    struct vcpu_caches caches;
    struct lapic lapic;
    u64 deadline_guest, deadline_host; /* lapic.deadline, and when that is here */
    /* Until then, with the guest's timer as it is, time asks for nothing; 0: look again. */
    _Atomic u64 due_tsc;
    u64 armed_count_end; /* lapic.count_end_tsc of that */
    enum vcpu_wish {
        VCPU_RUN,
        VCPU_HALT,                    /* until an interrupt */
        VCPU_HALT_INTERRUPTS_BLOCKED, /* until an NMI */
    } wish;
    struct vcpu_fault {
        bool waits; /* to be resolved before the next entry */
        gpa_t address;
        u64 qualification;
        enum fault_kind kind;
    } fault;                      /* that met another change */
    _Atomic bool halted, running; /* running: within a slice */
    _Atomic bool nmi_wanted;      /* sent, and not handed to the module yet */
    _Atomic bool flush_wanted;    /* translations of shared memory are stale */
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
    _Atomic u32 blocked_vcpus; /* halted with interrupts blocked */
    _Atomic bool paused;       /* no slice begins, and none goes on */
    bool has_td, has_direct;
    bool teardown_by_page; /* for comparison alone */

    struct lock lock; /* RANK_VM; guards the rest */
    struct uart uart;
    struct ioapic ioapic;
    struct fw_cfg fw_cfg;
    struct guest_console console;

    u64 scan_tsc; /* when vCPU 0 looks for memory that could be promoted */
    u64 start_tsc, end_tsc;
    u64 initial_pages;
    u8 mrtd[TD_MEASUREMENT_BYTES];
};

/*
 * Builds the TD or VM of `config`: image, memory, vCPUs, a TD's measurement. On error, which is
 * logged in one line, nothing is left behind.
 */
enum error vm_create(struct vm *vm, const struct guest_config *config);
/* Puts every vCPU into the queue of a processor. ERR_RANGE: a queue is full; then none is in one.
 */
enum error vm_start(struct vm *vm);
/* Takes them out again, wherever they are: none runs when this returns. */
void vm_stop(struct vm *vm);
/* No vCPU runs between the two; the guest's clock goes on. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
/*
 * Gives everything back, once it is stopped. ERR_REFUSED: the module kept pages; they are leaked
 * and counted. Statistics in `vm` stay readable.
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
