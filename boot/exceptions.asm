; SPDX-License-Identifier: MIT
;
; Entries of all vectors, and the few instructions that may fault.

bits 64
default rel

extern exception_handle

section .text

; exception_entries: 256 entries of 16 bytes. Entry state: as the processor delivers it.
align 16
global exception_entries:data hidden
exception_entries:
%assign vector 0
%rep 256
    align 16
    %if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    %else
    push 0                      ; where the processor pushes no error code
    %endif
    push vector
    jmp near exception_common
    %assign vector vector + 1
%endrep

; Builds struct exception_frame and calls exception_handle(frame). Everything is restored.
align 16
exception_common:
    cld
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    ; The vector was pushed as a sign-extended byte or dword: it is small, and positive.
    mov rdi, rsp
    mov rbp, rsp
    and rsp, ~15
    call exception_handle
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq

%macro FIXUP 2
    section .fixups
    dd %1 - $
    dd %2 - $
    section .text
%endmacro

; bool rdmsr_try(u32 index, u64 *value)     clobbers rax, rcx, rdx
global rdmsr_try:function hidden
rdmsr_try:
    mov ecx, edi
.at:
    rdmsr
    shl rdx, 32
    or rax, rdx
    mov [rsi], rax
    mov eax, 1
    ret
.fault:
    xor eax, eax
    ret
FIXUP rdmsr_try.at, rdmsr_try.fault

; bool wrmsr_try(u32 index, u64 value)      clobbers rax, rcx, rdx
global wrmsr_try:function hidden
wrmsr_try:
    mov ecx, edi
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
.at:
    wrmsr
    mov eax, 1
    ret
.fault:
    xor eax, eax
    ret
FIXUP wrmsr_try.at, wrmsr_try.fault

; void interrupts_window(void): interrupts are on for one instruction.
global interrupts_window:function hidden
interrupts_window:
    sti
    nop
    cli
    ret

; void nmi_handle(void): as if an NMI arrived now. The IRET of the handler unblocks NMIs.
global nmi_handle:function hidden
nmi_handle:
    int 2
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
