; SPDX-License-Identifier: MIT
;
; The software TDX module's doors: from the VMM (a SEAMCALL), to and from the guest, and the
; interrupt window in which a waiting interrupt is acknowledged.

%include "offsets.inc"

bits 64
default rel

extern soft_stacks
extern soft_frame_serve

; Every GPR but RAX, RCX, RDI and RSP, to or from the register array at %2 + %3.
%macro each_middle_register 3
    %1 rdx, %2, %3 + OFFSET_RDX
    %1 rbx, %2, %3 + OFFSET_RBX
    %1 rbp, %2, %3 + OFFSET_RBP
    %1 rsi, %2, %3 + OFFSET_RSI
    %1 r8, %2, %3 + OFFSET_R8
    %1 r9, %2, %3 + OFFSET_R9
    %1 r10, %2, %3 + OFFSET_R10
    %1 r11, %2, %3 + OFFSET_R11
    %1 r12, %2, %3 + OFFSET_R12
    %1 r13, %2, %3 + OFFSET_R13
    %1 r14, %2, %3 + OFFSET_R14
    %1 r15, %2, %3 + OFFSET_R15
%endmacro

%macro save 3
    mov [%2 + %3], %1
%endmacro

%macro load 3
    mov %1, [%2 + %3]
%endmacro

section .text

; void soft_seamcall_entry(void)
; Entry state: reached by CALL from the VMM with the registers of SEAMCALL; interrupts disabled;
; GS at this processor's struct cpu. Uses three words of the caller's stack.
; Exit: registers as the leaf left them; carry clear.
align 16
global soft_seamcall_entry:function hidden
soft_seamcall_entry:
    push rax
    push rcx
    mov eax, [gs:CPU_INDEX]
    inc eax
    imul eax, eax, SOFT_STACK_BYTES
    lea rcx, [soft_stacks]
    lea rax, [rcx + rax - FRAME_BYTES]
    each_middle_register save, rax, FRAME_REGS
    mov [rax + FRAME_REGS + OFFSET_RDI], rdi
    pop qword [rax + FRAME_REGS + OFFSET_RCX]
    pop qword [rax + FRAME_REGS + OFFSET_RAX]
    mov [rax + FRAME_CALLER_RSP], rsp
    mov rsp, rax
    mov rdi, rax
    cld
    call soft_frame_serve
    mov rax, rsp
    mov rsp, [rax + FRAME_CALLER_RSP]
    each_middle_register load, rax, FRAME_REGS
    mov rdi, [rax + FRAME_REGS + OFFSET_RDI]
    mov rcx, [rax + FRAME_REGS + OFFSET_RCX]
    mov rax, [rax + FRAME_REGS + OFFSET_RAX]
    clc
    ret

; enum soft_run_result soft_guest_run(struct tdvps *vcpu, enum soft_run_instruction instruction)
; The C convention; interrupts disabled. The stack pointer below is HOST_RSP.
align 16
global soft_guest_run:function hidden
soft_guest_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, FIELD_HOST_RSP
    vmwrite rax, rsp
    jc .failed
    jz .failed
    test esi, esi               ; the loads below leave the flags alone
    each_middle_register load, rdi, TDVPS_GPR
    mov rax, [rdi + TDVPS_GPR + OFFSET_RAX]
    mov rcx, [rdi + TDVPS_GPR + OFFSET_RCX]
    mov rdi, [rdi + TDVPS_GPR + OFFSET_RDI]
    jnz .resume
    vmlaunch
    jmp .failed
.resume:
    vmresume
.failed:
    mov eax, 1
    jmp return_to_caller

; HOST_RIP: the VM exit of the guest that soft_guest_run entered. RSP is as it was there.
align 16
global soft_guest_exit:function hidden
soft_guest_exit:
    push rdi
    mov rdi, [rsp + 8]
    each_middle_register save, rdi, TDVPS_GPR
    mov [rdi + TDVPS_GPR + OFFSET_RAX], rax
    mov [rdi + TDVPS_GPR + OFFSET_RCX], rcx
    pop qword [rdi + TDVPS_GPR + OFFSET_RDI]
    cld
    xor eax, eax

return_to_caller:
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

; u32 soft_interrupt_window(void)        clobbers rax
; A stub answers in EAX and takes interrupts off again, so that one vector comes, not two.
align 16
global soft_interrupt_window:function hidden
soft_interrupt_window:
    mov eax, -1
    sti
    nop
    cli
    ret

; 256 stubs of 16 bytes for the module's IDT; entered by an external interrupt.
align 16
global soft_interrupt_stubs:data hidden
soft_interrupt_stubs:
%assign vector 0
%rep 256
    align 16
    mov eax, vector
    jmp near interrupt_taken
    %assign vector vector + 1
%endrep

align 16
interrupt_taken:
    and qword [rsp + 16], ~(1 << 9)     ; RFLAGS.IF of the window
    iretq

section .note.GNU-stack noalloc noexec nowrite progbits
