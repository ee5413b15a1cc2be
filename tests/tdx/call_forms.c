/* SPDX-License-Identifier: MIT */
/* The short forms of tdx_call, made of whatever tdx_call a test has. */
#include "tdx/seamcall.h"

bool tdx_call_short(struct tdx_short *few)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RAX] = few->rax;
    regs.gpr[GPR_RCX] = few->rcx;
    regs.gpr[GPR_RDX] = few->rdx;
    regs.gpr[GPR_R8] = few->r8;
    bool carry = tdx_call(&regs);
    few->rax = regs.gpr[GPR_RAX];
    few->rcx = regs.gpr[GPR_RCX];
    few->rdx = regs.gpr[GPR_RDX];
    few->r8 = regs.gpr[GPR_R8];
    return carry;
}

bool tdx_call_each(struct tdx_each *each)
{
    bool carry = false;
    do {
        struct tdx_short few = {.rax = each->leaf, .rcx = each->operand, .rdx = each->rdx};
        carry = tdx_call_short(&few);
        each->status = few.rax;
        if (carry || few.rax)
            break;
        each->operand += each->step;
    } while (--each->left);
    return carry;
}

void tdx_entry_idle(void) {}
