; SPDX-License-Identifier: MIT
; What a guest may try: each attempt has the answer that a board would give, and nothing is lost.
%include "vm.inc"
%include "vm_tables.inc"

VECTOR_DB equ 1
VECTOR_UD equ 6
VECTOR_GP equ 13
VECTOR_PF equ 14

MSR_TSC            equ 0x10
MSR_PAT            equ 0x277
MSR_TSC_DEADLINE   equ 0x6e0
MSR_X2APIC_ID      equ 0x802
MSR_X2APIC_EOI     equ 0x80b
MSR_EFER           equ 0xc0000080
MSR_STAR           equ 0xc0000081
MSR_LSTAR          equ 0xc0000082
MSR_KERNEL_GS_BASE equ 0xc0000102
CR0_CD  equ 1 << 30
CR0_NW  equ 1 << 29
CR4_OSXSAVE equ 1 << 18
CR4_VMXE equ 1 << 13
CR4_PKE  equ 1 << 22
PORT_NOBODY equ 0x8800
NOWHERE equ 1 << 32              ; the page tables map less
MARK    equ 0x1122334455667788

; The instruction, of so many bytes, must raise the exception.
%macro raises 3         ; vector, bytes, {instruction}
        mov dword [rel raised], 0
        mov dword [rel to_skip], %2
        %3
        cmp dword [rel raised], %1
        jne %%wrong
        jmp %%end
%%text: db "guest: FAIL: no exception by: ", %str(%3), 13, 10, 0
%%wrong:
        lea rbx, [rel %%text]
        call print_text
        jmp power_off
%%end:
%endmacro

%macro reads_back 1     ; MSR
        mov ecx, %1
        mov rax, MARK & 0x7fffffffffff
        mov rdx, rax
        shr rdx, 32
        wrmsr
        xor eax, eax
        xor edx, edx
        cpuid                           ; an exit
        mov ecx, %1
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov rcx, MARK & 0x7fffffffffff
        cmp rax, rcx
        jne .msr
%endmacro

; EAX...EDX of the leaf are zeros.
%macro is_empty 1
        mov eax, %1
        xor ecx, ecx
        cpuid
        or eax, ebx
        or eax, ecx
        or eax, edx
        jnz .cpuid
%endmacro

main:
        call load_tables

        ; MSRs.
        mov ecx, 0x12345
        raises VECTOR_GP, 2, {rdmsr}
        raises VECTOR_GP, 2, {wrmsr}
        mov ecx, MSR_X2APIC_EOI
        raises VECTOR_GP, 2, {rdmsr}
        mov eax, 1
        xor edx, edx
        raises VECTOR_GP, 2, {wrmsr}
        mov ecx, MSR_X2APIC_ID
        raises VECTOR_GP, 2, {wrmsr}
        mov ecx, MSR_EFER
        mov edx, 1
        raises VECTOR_GP, 2, {wrmsr}
        xor edx, edx                    ; LME off, with paging on
        xor eax, eax
        raises VECTOR_GP, 2, {wrmsr}
        mov ecx, MSR_PAT
        mov eax, 2
        raises VECTOR_GP, 2, {wrmsr}
        mov ecx, MSR_LSTAR
        mov edx, 0x800000               ; not canonical
        raises VECTOR_GP, 2, {wrmsr}
        reads_back MSR_STAR
        reads_back MSR_LSTAR
        reads_back MSR_KERNEL_GS_BASE
        write_msr MSR_TSC, 1000
        rdtsc
        test edx, edx
        jnz .tsc

        ; CPUID.
        is_empty 0x12
        is_empty 0x1fffffff
        is_empty 0x4fffffff
        is_empty 0x8fffffff

        ; Instructions.
        raises VECTOR_UD, 3, {vmcall}
        xor ecx, ecx
        raises VECTOR_UD, 3, {db 0x0f, 0x01, 0xc8} ; monitor
        raises VECTOR_UD, 3, {db 0x0f, 0x01, 0xc9} ; mwait
        raises VECTOR_GP, 2, {rdpmc}
        wbinvd
        invd

        ; Control registers.
        mov rax, cr4
        or rax, CR4_VMXE
        raises VECTOR_GP, 3, {mov cr4, rax}
        mov rax, cr4
        or rax, CR4_PKE
        raises VECTOR_GP, 3, {mov cr4, rax}
        mov rax, cr0
        or rax, CR0_NW
        raises VECTOR_GP, 3, {mov cr0, rax}
        mov rax, cr0
        or rax, CR0_CD
        mov cr0, rax
        mov rcx, cr0
        cmp rax, rcx
        jne .control
        and rax, ~CR0_CD
        mov cr0, rax
        mov eax, 5
        mov cr8, rax
        xor eax, eax
        mov rax, cr8
        cmp eax, 5
        jne .control
        mov eax, 16
        raises VECTOR_GP, 4, {mov cr8, rax}
        xor eax, eax
        mov cr8, rax

        ; One step: the exception behind the instruction, and DR6 says why.
        xor eax, eax
        mov dr6, rax
        mov dword [rel raised], 0
        mov dword [rel to_skip], 0
        pushfq
        or dword [rsp], 1 << 8          ; TF
        popfq
        nop
        cmp dword [rel raised], VECTOR_DB
        jne .step
        mov rax, dr6
        bt eax, 14                      ; BS
        jnc .step

        ; Strings to and from ports: forwards and backwards, in more than one piece, and from nowhere.
        lea rsi, [rel string]
        mov ecx, string_end - string
        mov edx, PORT_UART
        rep outsb
        test ecx, ecx
        jnz .string
        lea rax, [rel string_end]
        cmp rsi, rax
        jne .string
        std
        lea rdi, [rel buffer + 14]
        mov ecx, 5
        mov edx, PORT_NOBODY
        rep insw
        cld
        lea rax, [rel buffer + 4]
        cmp rdi, rax
        jne .string
        cmp dword [rel buffer + 4], 0xffff0000
        jne .string
        mov rax, [rel buffer + 8]
        inc rax
        jnz .string
        lea rsi, [rel main]
        mov ecx, 300
        rep outsd
        test ecx, ecx
        jnz .string
        lea rax, [rel main + 1200]
        cmp rsi, rax
        jne .string
        mov rsi, NOWHERE
        raises VECTOR_PF, 1, {outsb}
        mov rax, cr2
        cmp rax, rsi
        jne .string

        ; Vector registers, as far as there are any, live through exits.
        mov eax, 1
        xor ecx, ecx
        cpuid
        bt ecx, 26
        jnc .done
        mov rax, cr4
        or rax, CR4_OSXSAVE
        mov cr4, rax
        xor ecx, ecx
        xor edx, edx
        mov eax, 4                      ; AVX without x87
        raises VECTOR_GP, 3, {xsetbv}
        mov eax, 0xd
        xor ecx, ecx
        cpuid
        mov r14d, eax                   ; all features
        mov r15d, ecx                   ; and what they take
        xor ecx, ecx
        xor edx, edx
        xsetbv
        mov eax, 0xd
        xor ecx, ecx
        cpuid
        cmp ebx, r15d                   ; now they are all on
        jne .cpuid
        and r14d, 0xe0
        cmp r14d, 0xe0
        jne .done
        mov rax, MARK
        vpbroadcastq zmm31, rax
        kmovw k5, eax
        xor eax, eax
        cpuid
        mov rax, MARK
        vpbroadcastq zmm30, rax
        vpcmpeqq k1, zmm30, zmm31
        kmovw ecx, k1
        cmp ecx, 0xff
        jne .vector
        kmovw ecx, k5
        cmp cx, ax
        jne .vector
        print "guest: AVX-512 lives through an exit"
.done:  pass

.msr:   fail "an MSR does not keep its value"
.tsc:   fail "the TSC is not what was written"
.cpuid: fail "CPUID"
.control:
        fail "a control register"
.string:
        fail "a string instruction"
.step:  fail "a single step"
.vector:
        fail "a vector register"

; Notes the vector, and goes on behind the instruction.
%macro handler 2        ; vector, bytes of error code
        add rsp, %2
        mov dword [rel raised], %1
        push rax
        mov eax, [rel to_skip]
        add [rsp + 8], rax
        and dword [rsp + 24], ~(1 << 8) ; TF
        pop rax
        iretq
%endmacro
on_db:  handler VECTOR_DB, 0
on_ud:  handler VECTOR_UD, 0
on_gp:  handler VECTOR_GP, 8
on_pf:  handler VECTOR_PF, 8

handlers:
        dw VECTOR_DB
        dd on_db
        dw VECTOR_UD
        dd on_ud
        dw VECTOR_GP
        dd on_gp
        dw VECTOR_PF
        dd on_pf
        dw 0
        align 4
raised:  dd 0
to_skip: dd 0
string: db "guest: a string of bytes", 13, 10
string_end:
        align 8
buffer: times 16 db 0
