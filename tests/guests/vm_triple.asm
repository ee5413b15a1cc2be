; SPDX-License-Identifier: MIT
; A VM's fault with no table to look a handler up in.
%include "vm.inc"

main:
        print "guest: triple fault"
        ud2
        fail "UD2 did not fault"
