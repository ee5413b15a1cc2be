/* SPDX-License-Identifier: MIT */
/* Operands as leaves take them. */
#ifndef TDX_OPERANDS_H
#define TDX_OPERANDS_H

#include "tdx/abi/abi.h"

/* RCX of the memory leaves: a private GPA and the level of its entry. */
static inline u64 operand_entry(gfn_t frame, enum level level)
{
    return gfn_to_gpa(frame).raw | (u64)level;
}

#endif
