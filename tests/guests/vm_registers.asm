; SPDX-License-Identifier: MIT
; Everything that no VMCS keeps has the values of this guest, for as long as it looks: vector and mask
; registers, x87, debug registers, CR2, MSRs. The values come from its memory's size, so that two such
; guests on one processor have different ones.
%include "vm.inc"

ROUNDS      equ 40
BUSY        equ 400000                  ; ticks of the TSC between two looks: a slice or more
CR4_OSXSAVE equ 1 << 18
VECTOR_BYTES equ 64

MSR_STAR           equ 0xc0000081
MSR_LSTAR          equ 0xc0000082
MSR_CSTAR          equ 0xc0000083
MSR_FMASK          equ 0xc0000084
MSR_KERNEL_GS_BASE equ 0xc0000102
MSR_TSC_AUX        equ 0xc0000103

; RAX = a value of this guest's own that is not 0, of 32 bits.
%macro value 1
        mov eax, r15d
        imul eax, eax, 0x01000193
        add eax, %1
%endmacro

%macro set_msr 2
        value %2
        xor edx, edx
        mov ecx, %1
        wrmsr
%endmacro
%macro check_msr 2
        mov ecx, %1
        rdmsr
        mov ebx, eax
        value %2
        cmp eax, ebx
        jne .msr
%endmacro
%macro set_register 2
        value %2
        mov %1, rax
%endmacro
%macro check_register 3
        mov rbx, %1
        value %2
        cmp rax, rbx
        jne %3
%endmacro

main:
        mov r15, rsi
        shr r15, 20
        mov rax, cr4
        or rax, CR4_OSXSAVE
        mov cr4, rax
        mov eax, 0xd
        xor ecx, ecx
        cpuid
        mov r14d, eax
        xor ecx, ecx
        xor edx, edx
        xsetbv
        and r14d, 0xe0
        cmp r14d, 0xe0
        jne .no_vectors

        ; 32 vectors, and what they must hold.
        lea rdi, [rel wanted]
        xor r13d, r13d
.fill:  value r13d
        mov ecx, VECTOR_BYTES / 4
        rep stosd
        inc r13d
        cmp r13d, 32
        jb .fill
%assign i 0
%rep 32
        vmovdqu64 zmm%[i], [rel wanted + i * VECTOR_BYTES]
%assign i i + 1
%endrep
%assign i 1
%rep 7
        value 100 + i
        kmovw k%[i], eax
%assign i i + 1
%endrep
        fninit
        mov [rel integer], r15d
        fild dword [rel integer]

        set_register dr0, 200
        set_register dr1, 201
        set_register dr2, 202
        set_register dr3, 203
        set_register cr2, 204
        set_msr MSR_STAR, 300
        set_msr MSR_LSTAR, 301
        set_msr MSR_CSTAR, 302
        set_msr MSR_FMASK, 303
        set_msr MSR_KERNEL_GS_BASE, 304
        set_msr MSR_TSC_AUX, 305
        print "guest: all registers are set"

        mov r12d, ROUNDS
.round: rdtsc
        shl rdx, 32
        lea rbx, [rax + rdx + BUSY]
.busy:  rdtsc
        shl rdx, 32
        or rax, rdx
        cmp rax, rbx
        jb .busy
%assign i 0
%rep 32
        vmovdqu64 [rel found + i * VECTOR_BYTES], zmm%[i]
%assign i i + 1
%endrep
        lea rsi, [rel wanted]
        lea rdi, [rel found]
        mov ecx, 32 * VECTOR_BYTES
        repe cmpsb
        jne .vector
%assign i 1
%rep 7
        value 100 + i
        kmovw ebx, k%[i]
        cmp ax, bx
        jne .mask
%assign i i + 1
%endrep
        mov dword [rel integer], 0
        fist dword [rel integer]
        cmp [rel integer], r15d
        jne .x87
        check_register dr0, 200, .debug
        check_register dr1, 201, .debug
        check_register dr2, 202, .debug
        check_register dr3, 203, .debug
        check_register cr2, 204, .cr2
        check_msr MSR_STAR, 300
        check_msr MSR_LSTAR, 301
        check_msr MSR_CSTAR, 302
        check_msr MSR_FMASK, 303
        check_msr MSR_KERNEL_GS_BASE, 304
        check_msr MSR_TSC_AUX, 305
        rdtscp
        mov ebx, ecx
        value 305
        cmp eax, ebx
        jne .msr
        dec r12d
        jnz .round
        print "guest: all registers kept their values"
        pass

.no_vectors:
        fail "no AVX-512"
.vector:
        fail "a vector register"
.mask:  fail "a mask register"
.x87:   fail "an x87 register"
.debug: fail "a debug register"
.cr2:   fail "CR2"
.msr:   fail "an MSR"

        align 64
integer: dd 0
        align 64
wanted: times 32 * VECTOR_BYTES db 0
found:  times 32 * VECTOR_BYTES db 0
