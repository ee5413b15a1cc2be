; SPDX-License-Identifier: MIT
; A VM that waits for an interrupt, which no device here sends.
%include "vm.inc"

main:
        print "guest: halting with interrupts enabled"
        sti
        hlt
        fail "HLT has ended"
