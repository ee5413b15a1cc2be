; SPDX-License-Identifier: MIT
; Shows its TDREPORT, extends RTMRs, shows it again: the case computes what has to stand there.
; RTMR 2 is extended by `first`, then by `second`; RTMR 3 by `second`; 0 and 1 stay.
%include "guest.inc"

TDG_MR_RTMR_EXTEND equ 2
TDG_MR_REPORT      equ 4

REPORT_BYTES     equ 1024
REPORT_DATA_BYTES equ 64
DIGEST_BYTES     equ 48

; Extends RTMR %1 by the digest at %2, or says so.
%macro extend 2
        lea rcx, [rel %2]
        mov edx, %1
        mov eax, TDG_MR_RTMR_EXTEND
        tdcall
        test rax, rax
        jnz .not_extended
%endmacro

main:
        call show_report
        extend 2, first
        extend 2, second
        extend 3, second
        call show_report
        lea rcx, [rel first]
        mov edx, 4
        mov eax, TDG_MR_RTMR_EXTEND
        tdcall
        test rax, rax
        jz .fifth
        pass
.not_extended:
        fail "TDG.MR.RTMR.EXTEND is refused"
.fifth:
        fail "there is a fifth RTMR"

; Prints "guest: TDREPORT " and the report in hexadecimal.
show_report:
        lea rcx, [rel report]
        lea rdx, [rel report_data]
        xor r8d, r8d
        mov eax, TDG_MR_REPORT
        tdcall
        test rax, rax
        jnz .refused
        lea rbx, [rel title]
        call print_text
        lea rsi, [rel report]
        mov edi, REPORT_BYTES
.next:  movzx eax, byte [rsi]
        mov edx, eax
        shr eax, 4
        and edx, 15
        lea rbx, [rel digits]
        mov al, [rbx + rax]
        mov dl, [rbx + rdx]
        lea rbx, [rel pair]
        mov [rbx], al
        mov [rbx + 1], dl
        call print_text
        inc rsi
        dec edi
        jnz .next
        lea rbx, [rel line_end]
        jmp print_text
.refused:
        fail "TDG.MR.REPORT is refused"

digits: db "0123456789abcdef"
title:  db "guest: TDREPORT ", 0
line_end: db 13, 10, 0
pair:   db 0, 0, 0

        align 64
first:  times DIGEST_BYTES db 0x11
        align 64
second: times DIGEST_BYTES db 0x22
        align REPORT_DATA_BYTES
report_data:
%assign i 0
%rep REPORT_DATA_BYTES
        db i
%assign i i + 1
%endrep
        align REPORT_BYTES
report: times REPORT_BYTES db 0
