; SPDX-License-Identifier: MIT
; Touches a private page that it has not accepted: the VM must end, not be given zeros.
%include "guest.inc"

TOUCHED equ 0x1000000                   ; 16 MiB: memory, but none of the initial one

main:
        print "guest: touching a page that is not accepted"
        mov rax, [abs TOUCHED]
        fail "the page could be read"
