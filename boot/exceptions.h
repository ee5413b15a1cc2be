/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts of the machine.
 *
 * An instruction that may fault names its fixup: a pair of 32-bit offsets, each relative to its
 * own place, in section .fixups (faulting instruction, where to go on). The handler then goes on
 * there with the vector in RAX. NASM: see rdmsr_try in boot/exceptions.asm.
 */
#ifndef BOOT_EXCEPTIONS_H
#define BOOT_EXCEPTIONS_H

#include "boot/types.h"

/* What boot/exceptions.asm leaves on the stack. */
struct exception_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error_code;
    u64 rip, cs, rflags, rsp, ss;
};

#endif
