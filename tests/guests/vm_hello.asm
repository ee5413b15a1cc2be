; SPDX-License-Identifier: MIT
; An ordinary VM: ports, CPUID, registers across exits, memory that is zero until it is written.
%include "vm.inc"

TOUCHED equ 64 << 20                    ; bytes, above the image
START   equ 2 << 20
STACK   equ START + TOUCHED + (4 << 20)
HYPERVISOR equ 1 << 31                  ; CPUID.1:ECX
VMX        equ 1 << 5
MARK    equ 0x1122334455667788

main:
        print "guest: hello"
        test rdi, rdi
        jnz .shared
        cmp rsi, START + TOUCHED
        jb .small

        mov eax, 1
        xor ecx, ecx
        cpuid
        test ecx, HYPERVISOR
        jz .cpuid
        test ecx, VMX
        jnz .cpuid

        ; Registers and vectors live through an exit.
        mov r8, MARK
        mov r15, MARK
        mov rbp, MARK
        movq xmm0, r8
        mov eax, 0x40000000
        cpuid
        cmp ebx, 0x4b4d564b             ; "KVMK"
        jne .cpuid
        movq r9, xmm0
        cmp r9, r8
        jne .registers
        cmp r15, r8
        jne .registers
        cmp rbp, r8
        jne .registers

        ; A port that nobody answers, in each width; the upper bytes of RAX stay or go as they must.
        mov edx, 0x8800
        mov rax, MARK
        in al, dx
        mov rcx, 0x11223344556677ff
        cmp rax, rcx
        jne .ports
        mov rax, MARK
        in ax, dx
        mov rcx, 0x112233445566ffff
        cmp rax, rcx
        jne .ports
        mov rax, MARK
        in eax, dx
        mov ecx, 0xffffffff
        cmp rax, rcx
        jne .ports
        out dx, ax
        out dx, eax

        ; EFER, and XCR0 where there is XSAVE.
        mov ecx, 0xc0000080
        rdmsr
        bt eax, 10                      ; LMA
        jnc .msr
        mov ecx, 0xc0000101             ; GS base
        mov eax, 0x500000
        xor edx, edx
        wrmsr
        mov rax, [gs:0]
        test rax, rax
        jnz .zero
        mov eax, 1
        xor ecx, ecx
        cpuid
        bt ecx, 26
        jnc .no_xsave
        bt ecx, 27                      ; OSXSAVE follows CR4
        jc .cpuid
        mov rax, cr4
        bts rax, 18
        mov cr4, rax
        mov eax, 1
        cpuid
        bt ecx, 27
        jnc .cpuid
        xor ecx, ecx
        xor edx, edx
        mov eax, 3
        xsetbv
        xgetbv
        cmp eax, 3
        jne .msr
.no_xsave:

        ; An exception whose delivery needs a page that is not there yet.
        lgdt [rel gdt_pointer]
        lea rax, [rel breakpoint]
        lea rbx, [rel idt + 3 * 16]
        mov [rbx], ax
        shr eax, 16
        mov [rbx + 6], ax
        lidt [rel idt_pointer]
        mov r8, rsp
        mov rsp, STACK
        xor r9d, r9d
        int3
        mov rsp, r8
        cmp r9, MARK & 0xffff
        jne .exception

        ; First every page is read, then every page is written, then read again.
        mov rbx, START
.zeros: cmp qword [rbx], 0
        jne .zero
        cmp qword [rbx + PAGE_BYTES - 8], 0
        jne .zero
        mov [rbx + 8], rbx
        add rbx, PAGE_BYTES
        cmp rbx, START + TOUCHED
        jb .zeros
        mov rbx, START
.marks: cmp [rbx + 8], rbx
        jne .lost
        add rbx, PAGE_BYTES
        cmp rbx, START + TOUCHED
        jb .marks
        print "guest: 64 MiB were zero, and hold what was written"
        pass

.exception:
        fail "INT3"
.shared:
        fail "a VM has a SHARED bit"
.small:
        fail "too little memory"
.cpuid:
        fail "CPUID"
.registers:
        fail "a register did not live through an exit"
.ports:
        fail "a port that nobody answers"
.msr:
        fail "EFER or XCR0"
.zero:
        fail "memory was not zero"
.lost:
        fail "memory does not hold what was written"

breakpoint:
        mov r9d, MARK & 0xffff
        iretq

        align 16
gdt:    dq 0, 0
        dq 0x00af9b000000ffff           ; what CS and SS are from the start
        dq 0x00cf93000000ffff
gdt_pointer:
        dw gdt_pointer - gdt - 1
        dq gdt
        align 16
idt:    times 3 * 16 db 0
        dw 0, 0x10, 0x8e00, 0           ; breakpoint's address is filled in
        dq 0
idt_pointer:
        dw idt_pointer - idt - 1
        dq idt
