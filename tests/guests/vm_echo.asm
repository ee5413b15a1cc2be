; SPDX-License-Identifier: MIT
; A VM that puts into brackets what is typed, and never stops by itself.
%include "vm.inc"

LINE_STATUS equ PORT_UART + 5
DATA_READY  equ 1

main:
        print "guest: type"
.wait:  mov edx, LINE_STATUS
        in al, dx
        test al, DATA_READY
        jz .wait
        mov edx, PORT_UART
        in al, dx
        mov [rel .key], al
        lea rbx, [rel .text]
        call print_text
        jmp .wait
.text:  db "["
.key:   db 0, "]", 13, 10, 0
