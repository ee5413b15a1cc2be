/* SPDX-License-Identifier: MIT */
/*
 * Numbers that tdx/soft/entry.asm shares with C. Compiled to assembly text only; each line
 * "->NAME value" of it becomes a line of build/offsets.inc.
 */
#include "tdx/soft/entry.h"
#include "tdx/soft/td.h"

#define OFFSET(name, value) __asm__ volatile("\n->" #name " %c0" ::"i"(value))

void offsets_emit(void);
void offsets_emit(void)
{
    OFFSET(CPU_INDEX, offsetof(struct cpu, index));
    OFFSET(SOFT_STACK_BYTES, SOFT_STACK_BYTES);
    OFFSET(FRAME_BYTES, sizeof(struct soft_frame));
    OFFSET(FRAME_REGS, offsetof(struct soft_frame, regs));
    OFFSET(FRAME_CALLER_RSP, offsetof(struct soft_frame, caller_rsp));
    OFFSET(TDVPS_GPR, offsetof(struct tdvps, gpr));
    OFFSET(OFFSET_RAX, 8 * GPR_RAX);
    OFFSET(OFFSET_RCX, 8 * GPR_RCX);
    OFFSET(OFFSET_RDX, 8 * GPR_RDX);
    OFFSET(OFFSET_RBX, 8 * GPR_RBX);
    OFFSET(OFFSET_RBP, 8 * GPR_RBP);
    OFFSET(OFFSET_RSI, 8 * GPR_RSI);
    OFFSET(OFFSET_RDI, 8 * GPR_RDI);
    OFFSET(OFFSET_R8, 8 * GPR_R8);
    OFFSET(OFFSET_R9, 8 * GPR_R9);
    OFFSET(OFFSET_R10, 8 * GPR_R10);
    OFFSET(OFFSET_R11, 8 * GPR_R11);
    OFFSET(OFFSET_R12, 8 * GPR_R12);
    OFFSET(OFFSET_R13, 8 * GPR_R13);
    OFFSET(OFFSET_R14, 8 * GPR_R14);
    OFFSET(OFFSET_R15, 8 * GPR_R15);
    OFFSET(FIELD_HOST_RSP, VMCS_HOST_RSP);
}
