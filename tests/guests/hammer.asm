; SPDX-License-Identifier: MIT
; All vCPUs work in the same few regions of 2 MiB, each in a random order of its own. First they
; touch fresh regions together: each page may be accepted once. Then rounds: a vCPU takes one half
; of a region, or both, and checks, writes, converts, discards, demotes or promotes there. A half
; has one owner at a time, a region may have two. What one owner wrote the next one checks.
%include "measure.inc"

MEASURE_AUDIT equ 7

AREA        equ 0x1000000               ; 16 MiB
REGIONS     equ 6
HALF_BYTES  equ BLOCK_BYTES / 2
HALF_PAGES  equ HALF_BYTES / PAGE_BYTES
HALVES      equ 2 * REGIONS
AREA_PAGES  equ HALVES * HALF_PAGES
ALIAS       equ 0x8000000000            ; AREA's shared alias: PML4 entry 1
ALIAS_DELTA equ ALIAS - AREA
ROUNDS      equ 64                      ; of all vCPUs together
VCPUS_MAX   equ 8
STACK_BYTES equ 0x400

STATUS_RETRY  equ 1
OPERAND_BUSY  equ 0x80000200            ; upper halves of statuses
ALREADY_ACCEPTED equ 0x00000b0a
SIZE_MISMATCH equ 0xc0000b0b
BUSY_MASK     equ 0xefffffff            ; without the host's priority

PTE_TABLE equ 0x23                      ; present, writable, accessed
PTE_LARGE equ 0xe3                      ; and dirty, 2 MiB

; One vCPU's own, at RBP.
struc own
.random:   resq 1
.barriers: resq 1
.half:     resq 1                       ; the owned halves: [half, half_end)
.half_end: resq 1
endstruc

%macro count 1-2 1
        lock add qword [rel %1], %2
%endmacro

; fail_at TEXT: RBX = the address.
%macro fail_at 1
        lea rdi, [rel %%text]
        jmp fail_with_address
%%text: db "guest: FAIL: ", %1, " at ", 0
%endmacro

; print_count TEXT, counter
%macro print_count 2
        lea rbx, [rel %%text]
        call print_text
        mov rax, [rel %2]
        mov r8d, 10
        call print_number
        print ""
        jmp %%end
%%text: db "guest: ", %1, ": ", 0
%%end:
%endmacro

; RDI = start and R9 = end of halves [%1, %2).
%macro range_of 2
        imul rdi, %1, HALF_BYTES
        add rdi, AREA
        imul r9, %2, HALF_BYTES
        add r9, AREA
%endmacro

main:
        mov [rel shared_bit], rdi
        mov eax, TDG_VP_INFO
        tdcall
        mov r8d, r8d
        mov [rel vcpus], r8
        call map_alias
        call wake_others
        xor esi, esi
start_vcpu:                             ; ESI = the vCPU's index, from here to the end
        imul eax, esi, STACK_BYTES
        lea rsp, [rel stacks + STACK_BYTES]
        add rsp, rax
        imul eax, esi, own_size
        lea rbp, [rel owns]
        add rbp, rax
        lea eax, [rsi + 1]
        mov rcx, 0x9e3779b97f4a7c15
        imul rax, rcx
        mov [rbp + own.random], rax
        call touch_all
        call audit
        call barrier
        test esi, esi
        jnz .rounds
        call sizes_round
.rounds:
        mov eax, ROUNDS
        xor edx, edx
        div dword [rel vcpus]
        mov r12d, eax
.next:  push r12
        call one_round
        pop r12
        dec r12d
        jnz .next
        test esi, esi
        jnz .done
        call audit                      ; the others may still be at work
.done:  call barrier
        test esi, esi
        jz finish
.wait:  pause
        jmp .wait

; All that is written is checked and all that is fresh accepted: so much is there at the end.
finish: mov qword [rbp + own.half], 0
        mov qword [rbp + own.half_end], HALVES
        call prepare
        call audit
        print_count "vCPUs", vcpus
        print_count "pages accepted", accepted
        print_count "regions accepted at once", accepted_large
        print_count "accepts lost", accepts_lost
        print_count "accepts busy", accepts_busy
        print_count "MapGPA calls", map_calls
        print_count "conversions", conversions
        print_count "discards", discards
        print_count "halves contended", contended
        print_count "bytes verified", verified
        pass

%include "hammer.inc"
%include "hammer_memory.inc"
