; SPDX-License-Identifier: MIT
; Does each thing that is measured many times, between the begin and the end of its series
; (vmm/series.def), and says how often. Of other exits in between the VMM takes no sample.
%include "measure.inc"

AREA        equ 0x4000000               ; 64 MiB, for twice as much
AREA_BYTES  equ 0x8000000
LEFT_BYTES  equ 0x4000000               ; what is left for the teardown, as in teardown.asm
RANGE_BYTES equ 0x1000000               ; of one discard
CHUNK_BYTES equ 0x20000                 ; that an ACCEPT fault maps ahead
VMCALL_WBINVD equ 54

; series NAME, number
%macro begin 2
        mov r11d, MEASURE_BEGIN
        mov r12d, %2
        call measure_call
%endmacro

; end NAME, n
%macro end 2
        mov r11d, MEASURE_END
        call measure_call
%defstr %%name %1
%defstr %%count %2
        print {"guest: series ", %%name, " n ", %%count}
%endmacro

%macro map_ahead 1
        mov r11d, MEASURE_MAP_AHEAD
        mov r12d, %1
        call measure_call
%endmacro

main:
        mov [rel shared_bit], rdi
        mov ebx, AREA
        mov edx, AREA + BLOCK_BYTES
        call accept_pages               ; warms up
        discard AREA, BLOCK_BYTES

        begin vmcall, 0
        for_each cheapest, 0, 256, PAGE_BYTES
        end vmcall, 256

        call faults
        call sizes
        call discards
        call conversions

        mov ebx, AREA
        mov edx, AREA + LEFT_BYTES
        call accept_pages
        pass

faults:
        map_ahead 0
        begin fault_4k_first, 1
        for_each accept_page, AREA, 64, BLOCK_BYTES
        end fault_4k_first, 64
        begin fault_4k, 2
        for_each accept_page, AREA + PAGE_BYTES, 256, PAGE_BYTES
        end fault_4k, 256
        discard AREA, AREA_BYTES

        map_ahead 1
        for_each accept_page, AREA, 8, BLOCK_BYTES
        begin fault_4k_ahead, 3
        for_each accept_block_rest, AREA, 8, BLOCK_BYTES
        end fault_4k_ahead, 120
        discard AREA, AREA_BYTES

        begin fault_2m, 4
        for_each accept_block, AREA, 32, BLOCK_BYTES
        end fault_2m, 32
        ret

; Of the 32 large pages that `faults` leaves.
sizes:
        begin demote, 9
        for_each demote, AREA, 32, BLOCK_BYTES
        end demote, 32
        begin promote, 10
        for_each promote, AREA, 32, BLOCK_BYTES
        end promote, 32
        discard AREA, AREA_BYTES
        ret

discards:
        begin discard_2m, 11
        for_each discard_blocks, AREA, 4, RANGE_BYTES
        end discard_2m, 4
        begin discard_4k, 12
        for_each discard_small, AREA, 4, RANGE_BYTES
        end discard_4k, 4
        begin discard_by_page, 13
        for_each discard_by_page, AREA, 2, RANGE_BYTES
        end discard_by_page, 2
        discard AREA, AREA_BYTES        ; and the tables, which single pages leave
        ret

conversions:
        mov ebx, AREA
        mov edx, AREA + BLOCK_BYTES
        call accept_pages
        begin share_4k, 5
        for_each share, AREA, 128, PAGE_BYTES
        end share_4k, 128
        begin unshare_4k, 6
        for_each unshare, AREA, 128, PAGE_BYTES
        end unshare_4k, 128
        discard AREA, BLOCK_BYTES

        mov ebx, AREA
        mov edx, AREA + RANGE_BYTES
        call accept_blocks
        begin share_2m, 7
        for_each share, AREA, 8, BLOCK_BYTES
        end share_2m, 8
        begin unshare_2m, 8
        for_each unshare, AREA, 8, BLOCK_BYTES
        end unshare_2m, 8
        ret

; --- What is done many times: R12 = start, R13 = bytes ---------------------------------------

cheapest:
        mov r11d, VMCALL_WBINVD
        xor r12d, r12d
        jmp vmcall

accept_page:
        mov rcx, r12
        accept
        ret

accept_block:
        lea rcx, [r12 + LEVEL_2M]
        accept
        ret

; All but the first pages, which one fault brought.
accept_block_rest:
        push rbx
        lea rdx, [r12 + r13]
        lea rbx, [r12 + CHUNK_BYTES]
        call accept_pages
        pop rbx
        ret

demote:
        mov r11d, MEASURE_DEMOTE
        jmp measure_call

promote:
        mov r11d, MEASURE_PROMOTE
        call measure_call
        cmp r11, 1
        jne .kept
        ret
.kept:
        fail "a block was not promoted"

discard_blocks:
        push rbx
        lea rdx, [r12 + r13]
        mov rbx, r12
        call accept_blocks
        pop rbx
        mov r11d, MEASURE_DISCARD
        jmp measure_call

discard_small:
        push rbx
        lea rdx, [r12 + r13]
        mov rbx, r12
        call accept_pages
        pop rbx
        mov r11d, MEASURE_DISCARD
        jmp measure_call

discard_by_page:
        push rbx
        lea rdx, [r12 + r13]
        mov rbx, r12
        call accept_pages
        pop rbx
        mov r11d, MEASURE_DISCARD_PAGES
        jmp measure_call

share:
        or r12, [rel shared_bit]
unshare:
        call map_gpa
        test r10, r10
        jnz .refused
        ret
.refused:
        fail "MapGPA"

shared_bit:
        dq 0
