/* SPDX-License-Identifier: MIT */
/* A TD on the machine of seam_host.h, built by SEAMCALLs alone: for tests of whole leaves. */
#ifndef TESTS_SOFT_TD_MODEL_H
#define TESTS_SOFT_TD_MODEL_H

#include "tdx/soft/soft.h"

#define MODEL_TDR 0x40000000ull
#define MODEL_TDVPR 0x40010000ull /* of the vCPU of LP 0 */
#define MODEL_VCPU_STRIDE 0x10000ull
/* Private GPAs [0, MODEL_MAPPED) are mapped; the table of 4 KiB entries covers 2 MiB. */
#define MODEL_MAPPED 0x8000ull
#define MODEL_SHARED_BIT (1ull << 47)
#define MODEL_FREE_PAGE 0x48000000ull /* and behind it: nobody's, in the TDMR */
#define MODEL_SCRATCH 0x300000ull     /* the VMM's, in no TDMR */

/* What soft_install takes: two LPs in one package. Change it before model_start. */
struct soft_platform model_platform(void);

/* SEAMCALL on the selected LP: RAX; the other registers in *regs, which the call was made with. */
u64 model_call(u64 leaf, struct tdx_regs *regs);
/* The same with operands RCX, RDX, R8 and no interest in the outputs. */
u64 model_call3(u64 leaf, u64 rcx, u64 rdx, u64 r8);

/* Installs the module; its life up to READY; a TD up to FINALIZE. Each asserts success. */
void model_install(const struct soft_platform *platform);
void model_bring_up(void);
void model_td_build(const struct td_params *params);
/* Its parts: the TD without a vCPU, not final; the pages of the vCPU of an LP, not initialized. */
void model_td_create(const struct td_params *params);
void model_vcpu_create(u32 lp);
/* All three, with params that ask for nothing. */
void model_start(void);
struct td_params model_params(void);

/* The host's page behind a private GPA below MODEL_MAPPED. */
void *model_page(u64 address);

/* VP.ENTER of the LP's vCPU: it reaches the guest, or RAX. */
bool model_enter(u64 *status);

/* The guest of the selected LP executes TDCALL with RAX, RCX, RDX, R8. */
struct model_tdcall {
    bool is_in_guest; /* else regs are the VMM's: VP.ENTER returned */
    struct tdx_regs regs;
};
struct model_tdcall model_tdcall(u64 leaf, u64 rcx, u64 rdx, u64 r8);

#endif
