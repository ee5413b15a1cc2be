/* SPDX-License-Identifier: MIT */
/*
 * The machine behind the module in replay: sparse memory, logical processors, and guests that
 * are coroutines. A SEAMCALL that reaches a guest stops there until guest_exit.
 */
#ifndef TESTS_SOFT_SEAM_HOST_H
#define TESTS_SOFT_SEAM_HOST_H

#include "tdx/soft/td.h"

enum call_end {
    CALL_RETURNED, /* regs hold the answer */
    CALL_IN_GUEST,
};

void machine_select_lp(u32 lp);
void machine_set_interrupt(bool is_pending);
bool machine_is_in_guest(void);
/* What the processors' own IA32_MISC_ENABLE, IA32_TSC_ADJUST and TSC read now; 0 at first. */
void machine_set_msrs(u64 misc_enable, u64 tsc_adjust);
void machine_set_tsc(u64 tsc);

/* The guest that an LP is in: its vCPU and TD by their pages. False if it is in none. */
bool machine_guest_of(u32 lp, u64 *tdvpr, u64 *tdr);

/* Memory and module as they are, while there is no vCPU; and back to that, in no guest. Null: to a
 * machine with nothing in its memory, and no module. */
struct machine_image;
struct machine_image *machine_save(void);
void machine_load(const struct machine_image *image);

/* A SEAMCALL on the selected LP. */
enum call_end machine_seamcall(struct tdx_regs *regs);
/* The guest's registers as the driver of the guest sees them. */
struct tdx_regs *machine_guest_registers(void);

struct guest_exit {
    u32 reason;
    u64 qualification, address;
};
/* The guest of the selected LP exits; *regs is the VMM's answer if VP.ENTER returned. */
enum call_end machine_guest_exit(const struct guest_exit *exit, struct tdx_regs *regs);

#endif
