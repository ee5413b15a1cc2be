/* SPDX-License-Identifier: MIT */
/*
 * Measuring, where tain.cfg says `test = measure`: a guest opens a series on its vCPU, does one
 * thing many times, and closes it; each exit meanwhile is a sample. Ticks are the TSC's. The
 * module's part is the time inside SEAMCALLs, the VMM's part is the rest.
 *
 * A TD asks by TDVMCALL, an ordinary VM by VMCALL with the same registers: R10 = MEASURE_VENDOR,
 * R11 = a number of vmm/measure_calls.def, the status in R10. Of a VM only `begin` and `end` are
 * known.
 */
#ifndef VMM_MEASURE_H
#define VMM_MEASURE_H

#include "boot/error.h"
#include "boot/types.h"

struct vcpu;
struct vm;
struct tdx_regs;
struct td_exit;

/* What a guest has in R10: not 0, so a numbering of our own (GHCI). */
#define MEASURE_VENDOR 0x6e696174ull
#define TEST_MEASURE "measure"

enum measure_exit {
    MEASURE_CALL,
    MEASURE_FAULT,
    MEASURE_OTHER,
};

enum measure_series_id {
#define SERIES(name, exit, divisor) SERIES_##name,
#include "vmm/series.def"
#undef SERIES
    SERIES_IDS,
};

/* True if `tain.cfg` asks for it: without that the calls are unknown. */
bool measure_is_on(void);
/* Answers a TDVMCALL of ours, as vmcall_handle does. */
u64 measure_vmcall(struct vcpu *vcpu, struct tdx_regs *regs);

/* The same for a VMCALL: false if it is none of those that a VM may make. */
bool measure_vm_call(struct vcpu *vcpu);

/*
 * Of a vCPU whose series is open (vcpu->series), right after each VP.ENTER: ends the sample of the
 * last exit, and begins this one's. `called_tsc` is now: from there on time is the measuring's own.
 */
void measure_td_exit(struct vcpu *vcpu, const struct td_exit *exit, u64 called_tsc);
/*
 * The same for a VM, after vmx_enter_measured: `reason` is the exit's, `called_tsc` is when the
 * caller began what it does for measuring alone.
 */
void measure_vm_exit(struct vcpu *vcpu, u64 reason, u64 called_tsc);

/* A series of this vCPU: it must have none open. ERR_NO_MEMORY. */
enum error measure_series_open(struct vcpu *vcpu, enum measure_series_id id);
void measure_series_print(struct vcpu *vcpu);

/* One line of the table: ticks, and how many samples they are of. */
struct measure_spread {
    unsigned long long min, median, p99;
};
void measure_print(const char *name, struct measure_spread vmm, struct measure_spread module,
                   u32 count);
/* Also for what a guest left open. */
void measure_series_free(struct vcpu *vcpu);

/* vm_destroy, measured: in the order that the guest asked for, per page that it has. */
enum error measure_destroy(struct vm *vm);

#endif
