; SPDX-License-Identifier: MIT
; A VM that writes where it has no memory.
%include "vm.inc"

main:
        print "guest: writing to no memory"
        mov ebx, 0xc0000000
        mov dword [rbx], 1
        fail "there was memory"
