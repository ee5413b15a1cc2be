; SPDX-License-Identifier: MIT
; measure.asm for an ordinary VM: series are opened and closed by VMCALL (vmm/measure.h). Its memory
; ends with half a block of 2 MiB, which the VMM maps page by page.
%include "vm.inc"

MEASURE_VENDOR equ 0x6e696174
MEASURE_BEGIN  equ 1
MEASURE_END    equ 2

BLOCK_BYTES equ 0x200000
MEMORY      equ 0x3f00000
BLOCKS      equ 0x200000                ; the first that holds nothing yet
PAGES       equ MEMORY - 0x100000

; A call of Tain's own: R11 = number, R12 = operand. A refusal ends the guest. Clobbers R10.
measure_call:
        mov r10d, MEASURE_VENDOR
        vmcall
        test r10, r10
        jnz .refused
        ret
.refused:
        fail "a call of Tain's own is refused"

; Series %1, number %2: `%3` for each of %5 addresses in RBX, from %4 on, %6 bytes apart.
%macro series 6
        mov r11d, MEASURE_BEGIN
        mov r12d, %2
        call measure_call
        mov r8d, %4
        mov ebp, %5
%%next: mov rbx, r8
        call %3
        add r8, %6
        dec ebp
        jnz %%next
        mov r11d, MEASURE_END
        call measure_call
%defstr %%name %1
%defstr %%count %5
        print {"guest: series ", %%name, " n ", %%count}
%endmacro

main:
        cmp rsi, MEMORY
        jne .memory
        mov ebx, BLOCKS
        call touch                      ; warm up
        mov ebx, PAGES
        call touch
        call leaf
        series vm_fault_4k, 14, touch, PAGES + PAGE_BYTES, 254, PAGE_BYTES
        ; An odd number: the VMM zeroes two at a time, so the median is one that was at hand.
        series vm_fault_2m, 15, touch, BLOCKS + BLOCK_BYTES, 27, BLOCK_BYTES
        series vm_cpuid, 16, leaf, 0, 256, 1
        pass
.memory:
        fail "it wants 63 MiB"

touch:
        mov byte [rbx], 1
        ret

leaf:
        xor eax, eax
        xor ecx, ecx
        cpuid
        ret
