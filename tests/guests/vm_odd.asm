; SPDX-License-Identifier: MIT
; What a VM must not do, one thing a guest: its memory in MiB, less 32, says which.
%include "vm.inc"

FIRST_MIB equ 32
CR4_VMXE  equ 13
CR0_NW    equ 29
UNKNOWN_MSR equ 0x12345
HOLE      equ 0xd0000000

main:
        shr rsi, 20
        sub esi, FIRST_MIB
        print "guest: something odd"
        lea rbx, [rel table]
        movsxd rax, [rbx + rsi * 4]
        add rax, rbx
        jmp rax

table:
        dd halt - table
        dd hypercall - table
        dd vmx_on - table
        dd no_write_through - table
        dd unknown_msr - table
        dd single_step - table
        dd handler_nowhere - table

halt:
        hlt
        jmp survived
hypercall:
        vmcall
        jmp survived
vmx_on:
        mov rax, cr4
        bts rax, CR4_VMXE
        mov cr4, rax
        jmp survived
no_write_through:
        mov rax, cr0
        bts rax, CR0_NW                 ; without CD
        mov cr0, rax
        jmp survived
unknown_msr:
        mov ecx, UNKNOWN_MSR
        rdmsr
        jmp survived
single_step:
        pushfq
        or qword [rsp], 1 << 8          ; TF
        popfq
        nop
        jmp survived
handler_nowhere:
        lidt [rel .table]
        ud2
.table: dw 0xfff
        dq HOLE
survived:
        fail "it was let through"
