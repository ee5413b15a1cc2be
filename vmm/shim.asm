; SPDX-License-Identifier: MIT
;
; The TD boot shim: the first code that a TD runs, one page that ends at 4 GiB.
;
; Every vCPU starts at 0xfffffff0 in 32-bit flat protected mode without paging, ESI = its index
; ("vCPU initial state"). It switches to 64-bit mode on the identity map that the VMM laid out;
; vCPU 0 accepts the guest's memory if told so and enters the kernel; the others wait in the
; mailbox of the ACPI multiprocessor wake-up structure until the kernel names them.
;
; Entry state of the kernel: 64-bit, CS 0x10, data segments 0x18, interrupts disabled, RSI, RDI and
; RSP from the table (Linux: RSI = boot_params).
;
; Built as a flat binary: nasm -f bin. A host test builds it for another address and runs it.

%ifndef SHIM_BASE
%define SHIM_BASE   0xfffff000  ; LAYOUT_SHIM
%define PARAMETERS  0xffffe000  ; LAYOUT_SHIM_PARAMETERS
%endif

; struct shim_parameters (vmm/shim.h)
struc parameter
.page_tables:  resq 1
.memory_bytes: resq 1
.flags:        resq 1
.entry:        resq 1
.rsi:          resq 1
.rdi:          resq 1
.rsp:          resq 1
.mailbox:      resq 1
endstruc
ACCEPT_MEMORY equ 1

; struct of the wake-up mailbox ("Multiprocessor Wakeup Mailbox Structure")
MAILBOX_COMMAND   equ 0         ; u16: 0 none, 1 wake up
MAILBOX_APIC_ID   equ 4         ; u32
MAILBOX_VECTOR    equ 8         ; u64
COMMAND_NONE      equ 0
COMMAND_WAKE_UP   equ 1

TDG_VP_VMCALL       equ 0
TDG_MEM_PAGE_ACCEPT equ 6
VMCALL_REPORT_FATAL_ERROR equ 0x10003
VMCALL_REGISTERS    equ 0xffcc  ; RDX RBX RSI RDI R8-R15
LEVEL_2M            equ 1
BYTES_4K            equ 0x1000
BYTES_2M            equ 0x200000

; Bits 63:32 of a status (tdx/abi/status.def)
PAGE_ALREADY_ACCEPTED equ 0x00000b0a
PAGE_SIZE_MISMATCH    equ 0xc0000b0b
OPERAND_INVALID       equ 0xc0000100

CR0_PG  equ 1 << 31
CR4_PAE equ 1 << 5
SELECTOR_CODE equ 0x10
SELECTOR_DATA equ 0x18

%macro tdcall 0
        db 0x66, 0x0f, 0x01, 0xcc
%endmacro

        org SHIM_BASE
        bits 32

start_32:
        cli
        cld
        lgdt [gdt_pointer]
        mov eax, [PARAMETERS + parameter.page_tables]
        mov cr3, eax
        mov eax, cr4
        or eax, CR4_PAE
        mov cr4, eax
        mov eax, cr0
        or eax, CR0_PG          ; EFER.LME is set from the start: this is 64-bit mode's switch
        mov cr0, eax
        jmp dword SELECTOR_CODE:start_64

        bits 64
        default rel

; ESI = vCPU index. R15 = the parameters from here on.
start_64:
        mov eax, SELECTOR_DATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov r15d, PARAMETERS
        test esi, esi
        jnz wait_in_mailbox
        test qword [r15 + parameter.flags], ACCEPT_MEMORY
        jz enter_kernel
        xor r13d, r13d          ; the next address to accept
        mov r14, [r15 + parameter.memory_bytes]

accept_next:
        cmp r13, r14
        jae enter_kernel
        lea r12, [r13 + BYTES_2M]       ; end of the block that holds r13
        and r12, -BYTES_2M
        test r13d, BYTES_2M - 1
        jnz accept_small
        cmp r12, r14
        ja accept_small
        lea rcx, [r13 + LEVEL_2M]
        mov eax, TDG_MEM_PAGE_ACCEPT
        tdcall
        mov rbx, rax
        shr rbx, 32
        jz accept_block_done
        cmp ebx, PAGE_ALREADY_ACCEPTED
        je accept_block_done
        cmp ebx, PAGE_SIZE_MISMATCH
        je accept_small
        cmp ebx, OPERAND_INVALID
        jne fail
accept_small:                   ; [r13, min(r12, r14)) in pages of 4 KiB
        mov rcx, r13
        mov eax, TDG_MEM_PAGE_ACCEPT
        tdcall
        mov rbx, rax
        shr rbx, 32
        jz .done
        cmp ebx, PAGE_ALREADY_ACCEPTED
        jne fail
.done:
        add r13, BYTES_4K
        cmp r13, r14
        jae enter_kernel
        cmp r13, r12
        jb accept_small
        jmp accept_next
accept_block_done:
        mov r13, r12
        jmp accept_next

enter_kernel:
        mov rsi, [r15 + parameter.rsi]
        mov rdi, [r15 + parameter.rdi]
        mov rsp, [r15 + parameter.rsp]
        mov rax, [r15 + parameter.entry]
        xor ebx, ebx
        xor ebp, ebp
        jmp rax

; ESI = vCPU index, which is its APIC id. Enters the wake-up vector in 64-bit mode.
wait_in_mailbox:
        mov rbx, [r15 + parameter.mailbox]
.again:
        pause
        cmp word [rbx + MAILBOX_COMMAND], COMMAND_WAKE_UP
        jne .again
        cmp [rbx + MAILBOX_APIC_ID], esi
        jne .again
        mov rax, [rbx + MAILBOX_VECTOR]
        mov word [rbx + MAILBOX_COMMAND], COMMAND_NONE  ; the kernel's acknowledgement
        jmp rax

; EBX = upper half of the status. ReportFatalError, which does not return; the text goes in
; R14, R15, RBX, RDI, RSI, R8, R9, RDX.
fail:
        mov r10d, 0
        mov r11d, VMCALL_REPORT_FATAL_ERROR
        mov r12d, ebx
        mov r14, [failure_text]
        mov r15, [failure_text + 8]
        mov rbx, [failure_text + 16]
        mov rdi, [failure_text + 24]
        mov rsi, [failure_text + 32]
        xor r8d, r8d
        xor r9d, r9d
        xor edx, edx
        xor r13d, r13d
        mov ecx, VMCALL_REGISTERS
        mov eax, TDG_VP_VMCALL
        tdcall
        jmp $

        align 8
failure_text:
        db "boot shim: a page was not accepted"
        times 40 - ($ - failure_text) db 0

        align 8
gdt:
        dq 0
        dq 0
        dq 0x00af9b000000ffff   ; SELECTOR_CODE: 64-bit code
        dq 0x00cf93000000ffff   ; SELECTOR_DATA
gdt_pointer:
        dw gdt_pointer - gdt - 1
        dd gdt

        times 0xff0 - ($ - $$) db 0x90
        bits 32
reset_vector:
        jmp start_32
        times 0x1000 - ($ - $$) db 0
