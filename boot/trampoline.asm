; SPDX-License-Identifier: MIT
;
; Where a processor starts after INIT-SIPI-SIPI: real mode, CS = the page's number << 8, to
; 64-bit mode. boot/cpu.c copies [trampoline_start, trampoline_end) to a page below 1 MiB and
; fills in `parameters` there (struct trampoline_parameters).

section .text
default rel

%define AT(label) (label - trampoline_start)

bits 16
global trampoline_start:data hidden
align 16
trampoline_start:
    cli
    xor ebx, ebx
    mov bx, cs
    mov ds, bx
    shl ebx, 4                          ; ebx = physical address of this page from here on
    o32 lgdt [AT(gdt_register)]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp far dword [AT(parameters.to_32)]

bits 32
global trampoline_32:data hidden
trampoline_32:
    mov ax, 0x10
    mov ds, ax
    mov ss, ax
    mov eax, 0x6a0                      ; CR4: PAE, PGE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, [ebx + AT(parameters.cr3)]
    mov cr3, eax
    mov ecx, 0xc0000080                 ; EFER: LME, NXE
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, 0x80010033                 ; CR0: PG, WP, NE, ET, MP, PE; CD and NW off
    mov cr0, eax
    jmp far dword [ebx + AT(parameters.to_64)]

bits 64
global trampoline_64:data hidden
trampoline_64:
    mov rsp, [rbx + AT(parameters.stack)]
    mov rdi, [rbx + AT(parameters.index)]
    xor ebp, ebp
    call [rbx + AT(parameters.entry)]
    ud2

align 8
gdt:
    dq 0
    dq 0x00cf9b000000ffff               ; 0x08: 32-bit code
    dq 0x00cf93000000ffff               ; 0x10: data
    dq 0x00af9b000000ffff               ; 0x18: 64-bit code
gdt_register:
    dw gdt_register - gdt - 1
global trampoline_gdt_base:data hidden
trampoline_gdt_base:
    dd AT(gdt)                          ; + the page, added by boot/cpu.c
align 8
global trampoline_parameters:data hidden
trampoline_parameters:
parameters:
.cr3:   dq 0
.stack: dq 0
.index: dq 0
.entry: dq 0
.to_32: dd AT(trampoline_32)
        dw 0x08
        dw 0
.to_64: dd AT(trampoline_64)
        dw 0x18
        dw 0
global trampoline_end:data hidden
trampoline_end:

section .note.GNU-stack noalloc noexec nowrite progbits
