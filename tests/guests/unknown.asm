; SPDX-License-Identifier: MIT
; A TDVMCALL that no VMM knows: refused by status, and the guest goes on.
%include "guest.inc"

main:
        mov r11d, 0x1ffff
        mov r12d, 1
        mov r13d, 2
        mov r14d, 3
        mov r15d, 4
        call vmcall
        test rax, rax
        jnz .module
        mov rax, VMCALL_SUBFUNC_UNSUPPORTED
        cmp r10, rax
        jne .status
        print "guest: refused as unsupported"
        pass
.module:
        fail "the module refuses TDG.VP.VMCALL itself"
.status:
        fail "the VMM's status is not SUBFUNC_UNSUPPORTED"
