; SPDX-License-Identifier: MIT
;
; Into an ordinary VM and back. Vector registers, CR2 and DR0 to DR3 are not touched.

bits 64
default rel

VMCS_HOST_RSP equ 0x6c14
ENTER_TSC  equ 16 * 8           ; in struct vmx_vcpu
RETURN_TSC equ 17 * 8

; The guest's registers but RSP, RAX and RDI, from or to struct vmx_vcpu at RDI.
%macro each_register 1
    %1 rcx, 1
    %1 rdx, 2
    %1 rbx, 3
    %1 rbp, 5
    %1 rsi, 6
    %1 r8, 8
    %1 r9, 9
    %1 r10, 10
    %1 r11, 11
    %1 r12, 12
    %1 r13, 13
    %1 r14, 14
    %1 r15, 15
%endmacro
%macro load 2
    mov %1, [rdi + %2 * 8]
%endmacro
%macro save 2
    mov [rdi + %2 * 8], %1
%endmacro

; The C convention, interrupts disabled: keeps what C wants kept, and RDI on top of the stack.
%macro begin_entry 0
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, VMCS_HOST_RSP
    vmwrite rax, rsp
    jbe failed                  ; carry or zero
%endmacro

; The TSC to struct vmx_vcpu at RDI. Clobbers RAX and RDX.
%macro save_tsc 1
    rdtsc
    mov [rdi + %1], eax
    mov [rdi + %1 + 4], edx
%endmacro

section .text

; bool vmx_enter(u64 gpr[16], bool launched)
align 16
global vmx_enter:function hidden
vmx_enter:
    begin_entry
    test sil, sil               ; the loads below leave the flags alone
    each_register load
    mov rax, [rdi]
    mov rdi, [rdi + 7 * 8]
    jnz .resume
    vmlaunch
    jmp failed
.resume:
    vmresume
failed:
    xor eax, eax
    jmp return_to_caller

; bool vmx_enter_measured(u64 gpr[16])
align 16
global vmx_enter_measured:function hidden
vmx_enter_measured:
    begin_entry
    each_register load
    save_tsc ENTER_TSC
    mov rax, [rdi]
    mov rdx, [rdi + 2 * 8]
    mov rdi, [rdi + 7 * 8]
    vmresume
    jmp failed

; HOST_RIP. RSP is as vmx_enter left it, interrupts are disabled, the direction flag is clear.
align 16
global vmx_exit:function hidden
vmx_exit:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi], rax
    each_register save
saved:
    pop qword [rdi + 7 * 8]
    mov eax, 1

return_to_caller:
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

; HOST_RIP of vmx_enter_measured. (Four instructions of each way are not within the two times, but
; four are of taking them.)
align 16
global vmx_exit_measured:function hidden
vmx_exit_measured:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi], rax
    mov [rdi + 2 * 8], rdx
    save_tsc RETURN_TSC
    mov rdx, [rdi + 2 * 8]
    each_register save
    jmp saved

section .note.GNU-stack noalloc noexec nowrite progbits
