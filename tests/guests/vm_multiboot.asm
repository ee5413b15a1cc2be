; SPDX-License-Identifier: MIT
;
; A multiboot image, as bare-metal test programs are: starts in 32-bit protected mode, finds the local
; APIC in xAPIC mode, asks QEMU's configuration device how many processors there are, starts them all
; at once, and ends with its verdict by the test port.

        bits 32
        org 0x400000

MAGIC       equ 0x1badb002
LOADED      equ 0x2badb002
ADDRESSES   equ 1 << 16
PORT_UART   equ 0x3f8
PORT_TEST   equ 0xf4
PORT_SELECT equ 0x510
PORT_DATA   equ 0x511
ITEM_CPUS   equ 5
XAPIC_ICR   equ 0xfee00300
XAPIC_SVR   equ 0xfee000f0
XAPIC_ID    equ 0xfee00020
INIT_OTHERS    equ 0xc4500
STARTUP_OTHERS equ 0xc4600              ; at address 0
INFO_CMDLINE   equ 16
SELECTOR_CODE  equ 8
SELECTOR_DATA  equ 16

image:
        dd MAGIC, ADDRESSES, -(MAGIC + ADDRESSES)
        dd image, image, 0, bss_end, start

%macro print 1
        mov esi, %%text
        call print_text
        jmp %%end
%%text: db %1, 0
%%end:
%endmacro

start:
        mov esp, stack_end
        cmp eax, LOADED
        jne fail
        print "guest: started with: "
        mov esi, [ebx + INFO_CMDLINE]
        call print_text
        print {13, 10}
        cmp dword [in_bss], 0
        jne fail
        mov dword [XAPIC_SVR], 0x1ff
        mov eax, [XAPIC_ID]
        test eax, eax
        jnz fail

        mov edx, PORT_SELECT
        mov eax, ITEM_CPUS
        out dx, ax
        inc edx
        in al, dx
        mov ah, al
        in al, dx
        xchg al, ah
        movzx ebp, ax

        xor edi, edi
        mov esi, trampoline
        mov ecx, trampoline_end - trampoline
        rep movsb
        mov dword [XAPIC_ICR], INIT_OTHERS
        mov dword [XAPIC_ICR], STARTUP_OTHERS
.wait:  pause
        cmp [online], ebp
        jne .wait
        print {"guest: all processors are online", 13, 10}
        xor eax, eax
        jmp end
fail:
        print {"guest: FAIL", 13, 10}
        mov eax, 1
end:    mov edx, PORT_TEST
        out dx, eax
.hang:  hlt
        jmp .hang

print_text:
        mov edx, PORT_UART
.next:  lodsb
        test al, al
        jz .done
        out dx, al
        jmp .next
.done:  ret

; The others: from real mode to 32-bit protected mode, to count themselves.
        bits 16
trampoline:
        mov eax, cr0
        or al, 1
        mov cr0, eax
        lgdt [cs:gdt_pointer - trampoline]
        jmp dword SELECTOR_CODE:other
gdt_pointer:
        dw gdt_end - gdt - 1
        dd gdt
trampoline_end:

        bits 32
other:
        mov eax, SELECTOR_DATA
        mov ds, eax
        lock inc dword [online]
.sleep: cli
        hlt
        jmp .sleep

        align 8
gdt:    dq 0
        dq 0x00cf9b000000ffff
        dq 0x00cf93000000ffff
gdt_end:
online: dd 1

        absolute $
in_bss: resd 1
        resb 4096
stack_end:
bss_end:
