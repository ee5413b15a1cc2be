; SPDX-License-Identifier: MIT
; An instruction on a device that no VMM need understand: MOVS to the I/O APIC.
%include "vm.inc"

IOAPIC equ 0xfec00000

main:
        print "guest: copying to a device"
        lea rsi, [rel main]
        mov edi, IOAPIC
        movsd
        fail "it was let through"
