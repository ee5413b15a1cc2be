; SPDX-License-Identifier: MIT
; Says what it was told, and powers off: the cheapest guest.
%include "guest.inc"

main:
        print "guest: hello"
        mov eax, TDG_VP_INFO
        tdcall
        test rax, rax
        jnz .no_info
        ; RCX bits 5:0 = width of a GPA; the SHARED bit is its highest.
        and ecx, 0x3f
        dec ecx
        mov eax, 1
        shl rax, cl
        cmp rax, rdi
        jne .other_bit
        pass
.no_info:
        fail "TDG.VP.INFO is refused"
.other_bit:
        fail "TDG.VP.INFO names another SHARED bit than the VMM"
