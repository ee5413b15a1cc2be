; SPDX-License-Identifier: MIT
; Leaves as much memory behind as measure.asm does, and wants it removed page by page.
%include "measure.inc"

AREA       equ 0x4000000                ; 64 MiB, for as much
AREA_BYTES equ 0x4000000

main:
        mov r11d, MEASURE_TEARDOWN_PAGES
        call measure_call
        mov ebx, AREA
        mov edx, AREA + AREA_BYTES
        call accept_pages
        pass
