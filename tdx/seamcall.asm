; SPDX-License-Identifier: MIT
;
; The instructions of the driver that C cannot say: the call itself, SEAMCALL, and two ways to
; touch the caches. Registers are loaded by index: enum gpr (tdx/abi/abi.h) is the order.

bits 64
default rel

extern tdx_entry

%define SLOT(register, index) [register + 8 * index]
; Upper half of a status that no module answers (TDX_STATUS_SEAMCALL_*).
%define SEAMCALL_FAULTED 0x8000ff0000000000

; What a C function must keep, and the pointer in RDI: seven pushes, so that RSP is 16-byte aligned
; at the call.
%macro registers_keep 0
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
%endmacro
; The way back, once RDI is popped.
%macro registers_return 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
%endmacro

section .text

; bool tdx_call(struct tdx_regs *regs)
; Loads every register but RSP from regs, calls what tdx_entry points at, stores them back.
; True if it came back with carry set. Clobbers what a C function may.
global tdx_call:function hidden
tdx_call:
    registers_keep

    mov rax, rdi
    mov rcx, SLOT(rax, 1)
    mov rdx, SLOT(rax, 2)
    mov rbx, SLOT(rax, 3)
    mov rbp, SLOT(rax, 5)
    mov rsi, SLOT(rax, 6)
    mov rdi, SLOT(rax, 7)
%assign index 8
%rep 8
    mov r %+ index, SLOT(rax, index)
%assign index index + 1
%endrep
    mov rax, [rax]
    call [tdx_entry]

    ; No instruction from here to SETC changes the carry flag.
    push rax
    mov rax, [rsp + 8]
    mov SLOT(rax, 1), rcx
    mov SLOT(rax, 2), rdx
    mov SLOT(rax, 3), rbx
    mov SLOT(rax, 5), rbp
    mov SLOT(rax, 6), rsi
    mov SLOT(rax, 7), rdi
%assign index 8
%rep 8
    mov SLOT(rax, index), r %+ index
%assign index index + 1
%endrep
    pop rcx
    mov [rax], rcx
    setc al
    movzx eax, al

    pop rdi
    registers_return

; bool tdx_call_short(struct tdx_short *regs)
; The same for RAX, RCX, RDX and R8 alone: what else the callee changes is lost.
global tdx_call_short:function hidden
tdx_call_short:
    registers_keep
    mov rax, SLOT(rdi, 0)
    mov rcx, SLOT(rdi, 1)
    mov rdx, SLOT(rdi, 2)
    mov r8, SLOT(rdi, 3)
    call [tdx_entry]
    pop rdi
    mov SLOT(rdi, 0), rax
    mov SLOT(rdi, 1), rcx
    mov SLOT(rdi, 2), rdx
    mov SLOT(rdi, 3), r8
    setc al
    movzx eax, al
    registers_return

; bool tdx_call_each(struct tdx_each *each)
; Calls with RAX = leaf, RCX = operand, RDX = rdx, once for each operand, as long as the answer is 0:
; then operand and left say where it stopped, and status what the last call answered.
; All this is in registers that a leaf leaves alone: a turn loads what it does not, and looks.
global tdx_call_each:function hidden
tdx_call_each:
    registers_keep
    mov r13, SLOT(rdi, 0)
    mov rbx, SLOT(rdi, 1)
    mov r14, SLOT(rdi, 2)
    mov rbp, SLOT(rdi, 3)
    mov r12, SLOT(rdi, 4)
.next:
    mov rax, r13
    mov rcx, rbx
    mov rdx, r14
    call [tdx_entry]
    jc .end
    test rax, rax               ; clears carry
    jnz .end
    add rbx, rbp
    dec r12
    jnz .next
    clc
.end:
    pop rdi
    mov SLOT(rdi, 1), rbx
    mov SLOT(rdi, 4), r12
    mov SLOT(rdi, 5), rax
    setc al
    movzx eax, al
    registers_return

; void tdx_entry_idle(void): a module that does nothing, and does it well.
global tdx_entry_idle:function hidden
tdx_entry_idle:
    xor eax, eax
    ret

; void seamcall_hardware(void): SEAMCALL with the registers as they are; for tdx_entry.
; A fault (#GP, #UD) becomes a status in RAX, carry clear, every other register unchanged.
global seamcall_hardware:function hidden
seamcall_hardware:
.at:
    db 0x66, 0x0f, 0x01, 0xcf
    ret
.fault:                         ; RAX is the vector
    push rcx
    mov rcx, SEAMCALL_FAULTED
    or rax, rcx                 ; clears carry
    pop rcx
    ret

section .fixups
    dd seamcall_hardware.at - $
    dd seamcall_hardware.fault - $
section .text

; void caches_write_back(void): writes back and invalidates all caches of this processor.
global caches_write_back:function hidden
caches_write_back:
    wbinvd
    ret

; void page_clear_direct(void *page): zeros 4 KiB in writes of 64 bytes, past the caches.
; The source is a line of zeros on the stack. Clobbers RAX, RCX, RDI.
global page_clear_direct:function hidden
page_clear_direct:
    push rbp
    mov rbp, rsp
    sub rsp, 64
    xor eax, eax
%assign offset 0
%rep 8
    mov [rsp + offset], rax
%assign offset offset + 8
%endrep
    mov ecx, 64
.line:
    movdir64b rdi, [rsp]
    add rdi, 64
    dec ecx
    jnz .line
    mfence
    leave
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
