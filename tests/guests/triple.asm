; SPDX-License-Identifier: MIT
; A fault with no table to look a handler up in.
%include "guest.inc"

main:
        print "guest: triple fault"
        lidt [rel nothing]
        ud2
        fail "UD2 did not fault"
nothing:
        dw 0
        dq 0
