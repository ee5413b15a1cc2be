; SPDX-License-Identifier: MIT
; Sends back each byte that is typed, in brackets; 'q' ends it.
%include "guest.inc"

LSR_DATA_READY equ 1

main:
        print "guest: type"
.poll:  mov r14d, PORT_UART + 5
        call in_byte
        test r11b, LSR_DATA_READY
        jz .poll
        mov r14d, PORT_UART
        call in_byte
        mov [rel answer.key], r11b
        lea rbx, [rel answer]
        call print_text
        cmp byte [rel answer.key], 'q'
        jne .poll
        pass

; R14 = port. Out: R11 = the byte.
in_byte:
        mov r11d, VMCALL_IO
        mov r12d, 1
        xor r13d, r13d
        xor r15d, r15d
        jmp vmcall

answer: db '['
.key:   db 0
        db ']', 13, 10, 0
