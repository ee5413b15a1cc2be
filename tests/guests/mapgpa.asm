; SPDX-License-Identifier: MIT
; Makes 2 MiB shared and private again. Accepts them first, writes, converts, reads and writes
; through the shared alias, converts back, accepts anew: accepted pages are zero, and what the
; guest wrote as private was not to be seen as shared.
%include "guest.inc"

BLOCK       equ 0x1000000               ; 16 MiB
BLOCK_BYTES equ 0x200000
ALIAS       equ 0x8000000000            ; a virtual address beyond the identity map: 512 GiB
PML4_INDEX  equ 1
PRIVATE_WORD equ 0x1122334455667788
SHARED_WORD  equ 0x99aabbccddeeff00

PTE_TABLE equ 0x23                      ; present, writable, accessed
PTE_LARGE equ 0xe3                      ; and dirty, 2 MiB

main:
        mov rbp, rdi                    ; the SHARED bit
        call accept_block
        jnz .accept
        mov rax, PRIVATE_WORD
        mov [abs BLOCK], rax
        mov [abs BLOCK + BLOCK_BYTES - 8], rax
        print "guest: accepted, written"

        call map_alias
        mov r12d, BLOCK
        or r12, rbp
        mov r13d, BLOCK_BYTES
        call map_gpa
        test r10, r10
        jnz .to_shared
        mov rbx, ALIAS
        mov rcx, PRIVATE_WORD
        cmp [rbx], rcx
        je .seen
        mov rcx, SHARED_WORD
        mov [rbx], rcx
        mov [rbx + BLOCK_BYTES - 8], rcx
        cmp [rbx], rcx
        jne .shared_lost
        cmp [rbx + BLOCK_BYTES - 8], rcx
        jne .shared_lost
        print "guest: shared, written, read back"

        mov r12d, BLOCK
        mov r13d, BLOCK_BYTES
        call map_gpa
        test r10, r10
        jnz .to_private
        call accept_block
        jnz .accept_again
        xor eax, eax
        cmp [abs BLOCK], rax
        jne .not_zero
        cmp [abs BLOCK + BLOCK_BYTES - 8], rax
        jne .not_zero
        print "guest: private again, and zero"
        pass
.accept:
        fail "accept"
.to_shared:
        fail "MapGPA to shared"
.seen:
        fail "private data is seen through the shared alias"
.shared_lost:
        fail "what was written to shared memory is not there"
.to_private:
        fail "MapGPA to private"
.accept_again:
        fail "accept after MapGPA to private"
.not_zero:
        fail "an accepted page is not zero"

; Accepts the block in pages of 4 KiB. ZF clear: refused.
accept_block:
        mov ebx, BLOCK
.next:  mov rcx, rbx                    ; level 0
        mov eax, TDG_MEM_PAGE_ACCEPT
        tdcall
        test rax, rax
        jnz .end
        add rbx, PAGE_BYTES
        cmp rbx, BLOCK + BLOCK_BYTES
        jb .next
        cmp eax, eax
.end:   ret

; Maps ALIAS to the block's shared GPA, by tables of the guest's own.
map_alias:
        lea rax, [rel alias_directory_pointers]
        or rax, PTE_TABLE
        mov rbx, cr3
        and rbx, -PAGE_BYTES
        mov [rbx + 8 * PML4_INDEX], rax
        lea rax, [rel alias_directory]
        or rax, PTE_TABLE
        mov [rel alias_directory_pointers], rax
        mov eax, BLOCK | PTE_LARGE
        or rax, rbp
        mov [rel alias_directory], rax
        mov rax, cr3
        mov cr3, rax
        ret

        align PAGE_BYTES, db 0
alias_directory_pointers:
        times PAGE_BYTES db 0
alias_directory:
        times PAGE_BYTES db 0
