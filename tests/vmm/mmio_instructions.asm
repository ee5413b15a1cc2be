; SPDX-License-Identifier: MIT
;
; Instructions as an assembler encodes them, each with what mmio_decode must find in it. Records of
; 48 bytes: mode, length, operation, memory size, register size, register, high byte, has an
; immediate, to register (a byte each), 7 spare bytes, the immediate (8 bytes), the instruction (24,
; filled with 0xcc).

%include "build/host/mmio_operations.inc"

; record mode, operation, memory size, register size, register, high, immediate?, to register?,
;        immediate, {instruction}
%macro record 10
        bits %1
        db %1, %%end - %%start, MMIO_%2, %3, %4, %5, %6, %7, %8
        times 7 db 0
        dq %9
%%start: %10
%%end:
        times 24 - (%%end - %%start) db 0xcc
%endmacro

; MOV through each form of address, in both directions.
%macro moves 2          ; mode, {address}
        record %1, STORE, 4, 4, 6, 0, 0, 0, 0, {mov [%2], esi}
        record %1, LOAD, 4, 4, 5, 0, 0, 1, 0, {mov ebp, [%2]}
        record %1, STORE, 1, 1, 2, 0, 0, 0, 0, {mov [%2], dl}
        record %1, STORE, 2, 2, 1, 0, 0, 0, 0, {mov [%2], cx}
        record %1, STORE, 4, 4, 0, 0, 1, 0, 0x12345678, {mov dword [%2], 0x12345678}
        record %1, STORE, 2, 2, 0, 0, 1, 0, 0x1234, {mov word [%2], 0x1234}
        record %1, STORE, 1, 1, 0, 0, 1, 0, -2, {mov byte [%2], -2}
        record %1, LOAD, 2, 4, 7, 0, 0, 1, 0, {movzx edi, word [%2]}
%endmacro

; The same where there is no REX prefix: registers of 8 bits that are the upper half of one.
%macro moves_without_rex 2
        moves %1, {%2}
        record %1, LOAD, 1, 1, 3, 1, 0, 1, 0, {mov bh, [%2]}
%endmacro

; 64-bit mode
%macro all_64 1
        moves 64, {%1}
        record 64, STORE, 8, 8, 13, 0, 0, 0, 0, {mov [%1], r13}
        record 64, LOAD, 8, 8, 8, 0, 0, 1, 0, {mov r8, [%1]}
        record 64, LOAD, 1, 1, 6, 0, 0, 1, 0, {mov sil, [%1]}
        record 64, STORE, 8, 8, 0, 0, 1, 0, -5, {mov qword [%1], -5}
        record 64, LOAD_SIGNED, 4, 8, 1, 0, 0, 1, 0, {movsxd rcx, dword [%1]}
        record 64, LOAD_SIGNED, 1, 4, 9, 0, 0, 1, 0, {movsx r9d, byte [%1]}
%endmacro
        all_64 {rdi}
        moves_without_rex 64, {rdi + 1}
        all_64 {rdi + 8}
        all_64 {rdi + 0x1000}
        all_64 {rsp}
        all_64 {rsp + 8}
        all_64 {rbp + 0}
        all_64 {r13 + 0}
        all_64 {r12}
        all_64 {rdi + rsi * 4}
        all_64 {rbp + rsi * 4}
        all_64 {r12 + r13 * 8 + 0x12345}
        all_64 {nosplit rsi * 8 + 0x100}
        all_64 {rel $ + 0x100}
        all_64 {abs dword 0x7ec00000}
        all_64 {edi + 4}
        all_64 {fs: rdi + 0x20}
        all_64 {gs: abs dword 0x10}

        record 64, LOAD, 1, 1, 0, 0, 0, 1, 0, {mov al, [abs qword 0xfec00000]}
        record 64, LOAD, 4, 4, 0, 0, 0, 1, 0, {mov eax, [abs qword 0xfec00010]}
        record 64, LOAD, 8, 8, 0, 0, 0, 1, 0, {mov rax, [abs qword 0xfec00010]}
        record 64, STORE, 2, 2, 0, 0, 0, 0, 0, {mov [abs qword 0xfec00010], ax}
        record 64, STORE, 1, 1, 0, 0, 0, 0, 0, {mov [abs qword 0xfec00010], al}

; Everything that computes.
%macro arithmetic 2     ; name, mnemonic
        record 64, %1, 1, 1, 1, 1, 0, 0, 0, {%2 [rdi], ch}
        record 64, %1, 4, 4, 11, 0, 0, 0, 0, {%2 [rdi], r11d}
        record 64, %1, 2, 2, 2, 0, 0, 1, 0, {%2 dx, [rdi + 4]}
        record 64, %1, 8, 8, 2, 0, 0, 1, 0, {%2 rdx, [rdi + 4]}
        record 64, %1, 1, 1, 10, 0, 0, 1, 0, {%2 r10b, [rdi + 4]}
        record 64, %1, 1, 1, 0, 0, 1, 0, 0x55, {%2 byte [rdi], 0x55}
        record 64, %1, 4, 4, 0, 0, 1, 0, 0x12345678, {%2 dword [rdi], 0x12345678}
        record 64, %1, 8, 8, 0, 0, 1, 0, -0x12345678, {%2 qword [rdi], -0x12345678}
        record 64, %1, 4, 4, 0, 0, 1, 0, -3, {%2 dword [rdi], byte -3}
        record 32, %1, 2, 2, 0, 0, 1, 0, 0x1234, {%2 word [edi], 0x1234}
%endmacro
        arithmetic ADD, add
        arithmetic OR, or
        arithmetic AND, and
        arithmetic SUBTRACT, sub
        arithmetic XOR, xor
        arithmetic COMPARE, cmp
        record 64, AND, 4, 4, 0, 0, 1, 0, -2, {lock and dword [rdi], byte -2}
        record 64, TEST, 1, 1, 2, 0, 0, 0, 0, {test [rdi], dl}
        record 64, TEST, 8, 8, 2, 0, 0, 0, 0, {test [rdi], rdx}
        record 64, TEST, 1, 1, 0, 0, 1, 0, 1, {test byte [rdi + 0x10], 1}
        record 64, TEST, 4, 4, 0, 0, 1, 0, 0x100, {test dword [rdi + 0x10], 0x100}
        record 64, EXCHANGE, 4, 4, 2, 0, 0, 0, 0, {xchg [rdi], edx}
        record 64, EXCHANGE, 1, 1, 6, 0, 0, 0, 0, {xchg [rdi], sil}

; 32-bit mode, with its own and with 16-bit addresses.
        moves_without_rex 32, {edi}
        moves_without_rex 32, {ebp + esi * 2 + 0x40}
        moves_without_rex 32, {0xfec00000}
        moves_without_rex 32, {esp}
        moves_without_rex 32, {nosplit esi * 4 + 0x12345678}
        moves_without_rex 32, {bx + si}
        moves_without_rex 32, {bp + 4}
        moves_without_rex 32, {word 0x1234}
        record 32, LOAD, 4, 4, 0, 0, 0, 1, 0, {mov eax, [0xfee00020]}
        record 32, STORE, 4, 4, 0, 0, 0, 0, 0, {mov [0xfee00020], eax}

; 16-bit mode, with its own and with 32-bit addresses.
        moves_without_rex 16, {bx}
        moves_without_rex 16, {si + 0x10}
        moves_without_rex 16, {bp + di + 0x1234}
        moves_without_rex 16, {0x1234}
        moves_without_rex 16, {edi}
        moves_without_rex 16, {esp + ecx * 2 + 4}
        record 16, LOAD, 2, 2, 0, 0, 0, 1, 0, {mov ax, [0x1234]}
