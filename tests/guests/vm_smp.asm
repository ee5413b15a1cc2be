; SPDX-License-Identifier: MIT
; Two vCPUs: the deadline timer, a start in real mode, interrupts both ways, NMI, both modes of the
; local APIC, and the I/O APIC by instructions of several kinds.
%include "vm.inc"
%include "vm_tables.inc"

VECTOR_TIMER equ 0x40
VECTOR_IPI   equ 0x41
VECTOR_NMI   equ 2

MSR_APIC_BASE    equ 0x1b
MSR_TSC_DEADLINE equ 0x6e0
MSR_EOI          equ 0x80b
MSR_SVR          equ 0x80f
MSR_ICR          equ 0x830
MSR_LVT_TIMER    equ 0x832
SVR_ON           equ 0x1ff
LVT_DEADLINE     equ 2 << 17
BASE_OFF         equ 0xfee00100         ; with the flag of the bootstrap processor
BASE_XAPIC       equ 0xfee00900

ICR_INIT    equ 0x4500
ICR_STARTUP equ 0x4600
ICR_NMI     equ 0x4400
ICR_FIXED   equ 0x4000
ICR_SELF    equ 1 << 18
OTHER       equ 1                       ; its APIC id

XAPIC       equ 0xfee00000
IOAPIC      equ 0xfec00000
IOAPIC_DATA equ IOAPIC + 0x10
AP_PAGE     equ 8
AP_START    equ AP_PAGE << 12
DELAY       equ 3000000                 ; ticks of the TSC

; Halts until the counter is not 0, and sets it to 0.
%macro wait_for 1
%%again: cli
        cmp dword [rel %1], 0
        jne %%came
        sti
        hlt
        jmp %%again
%%came: mov dword [rel %1], 0
        sti
%endmacro

main:
        call load_tables
        write_msr MSR_SVR, SVR_ON

        write_msr MSR_LVT_TIMER, LVT_DEADLINE | VECTOR_TIMER
        rdtsc
        shl rdx, 32
        lea r12, [rax + rdx + DELAY]
        mov rax, r12
        mov rdx, r12
        shr rdx, 32
        mov ecx, MSR_TSC_DEADLINE
        wrmsr
        wait_for timer_count
        rdtsc
        shl rdx, 32
        or rax, rdx
        sub rax, r12
        jb .early
        cmp rax, DELAY
        ja .late
        print "guest: the timer is in time"

        ; The other vCPU.
        lea rsi, [rel ap_code]
        mov edi, AP_START
        mov ecx, ap_code_end - ap_code
        rep movsb
        mov rdx, OTHER
        mov ecx, MSR_ICR
        mov eax, ICR_INIT
        wrmsr
        mov eax, ICR_STARTUP | AP_PAGE
        wrmsr
        wrmsr
.start: pause
        cmp dword [ap_ready - ap_code + AP_START], 1
        jne .start
        print "guest: the other one runs"
        mov r13d, 100
.ping:  mov edx, OTHER
        mov ecx, MSR_ICR
        mov eax, ICR_FIXED | VECTOR_IPI
        wrmsr
        wait_for ipi_count
        dec r13d
        jnz .ping
        cmp dword [ap_count - ap_code + AP_START], 100
        jne .count
        print "guest: 100 interrupts went there and back"

        ; An NMI comes whether interrupts are enabled or not.
        cli
        xor edx, edx
        mov ecx, MSR_ICR
        mov eax, ICR_NMI
        wrmsr
        nop
        cmp dword [rel nmi_count], 1
        jne .nmi
        sti

        ; xAPIC mode, by way of none.
        write_msr MSR_APIC_BASE, BASE_OFF
        write_msr MSR_APIC_BASE, BASE_XAPIC
        mov dword [rel in_xapic_mode], 1
        mov ebx, XAPIC
        mov dword [rbx + 0xf0], SVR_ON
        mov eax, [rbx + 0x20]
        test eax, eax
        jnz .xapic
        mov dword [rbx + 0x300], ICR_FIXED | ICR_SELF | VECTOR_IPI
        wait_for ipi_count
        print "guest: xAPIC mode too"

        mov ebx, IOAPIC
        mov byte [rbx], 1               ; not a whole register: nothing
        mov dword [rbx], 1
        mov rdi, IOAPIC_DATA
        mov eax, [rdi]
        cmp eax, 0x170011
        jne .ioapic
        test dword [rdi], 0x10
        jz .ioapic
        mov dword [rbx], 0x12           ; an entry, masked from the start
        cmp dword [rdi], 0x10000
        jne .ioapic
        or dword [rdi], 0x55
        mov rax, [rdi - 0x10]           ; too wide: nobody answers
        inc rax
        jnz .ioapic
        mov ecx, 0x10066
        xchg ecx, [rdi]
        cmp ecx, 0x10055
        jne .ioapic
        mov eax, [abs qword IOAPIC_DATA]
        cmp eax, 0x10066
        jne .ioapic
        pass

.early: fail "the timer was early"
.late:  fail "the timer was late"
.count: fail "an interrupt was lost"
.nmi:   fail "NMI"
.xapic: fail "the id in xAPIC mode"
.ioapic:
        fail "I/O APIC"

on_timer:
        inc dword [rel timer_count]
        jmp end_of_interrupt
on_ipi:
        inc dword [rel ipi_count]
end_of_interrupt:
        push rax
        push rcx
        push rdx
        cmp dword [rel in_xapic_mode], 0
        jne .memory
        write_msr MSR_EOI, 0
        jmp .end
.memory:
        mov ecx, XAPIC
        mov dword [rcx + 0xb0], 0
.end:   pop rdx
        pop rcx
        pop rax
        iretq
on_nmi:
        inc dword [rel nmi_count]
        iretq

; Real mode, in a page of its own: answers each interrupt with one, and sleeps in between.
        bits 16
ap_code:
        mov ax, cs
        mov ds, ax
        mov ss, ax
        mov sp, 0xff0
        xor ax, ax
        mov es, ax
        mov word [es:VECTOR_IPI * 4], ap_on_ipi - ap_code
        mov [es:VECTOR_IPI * 4 + 2], cs
        write_msr MSR_SVR, SVR_ON
        mov dword [ap_ready - ap_code], 1
.sleep: sti
        hlt
        jmp .sleep
ap_on_ipi:
        inc dword [ap_count - ap_code]
        write_msr MSR_EOI, 0
        write_msr MSR_ICR, ICR_FIXED | VECTOR_IPI ; to vCPU 0
        iret
        align 4
ap_ready: dd 0
ap_count: dd 0
ap_code_end:

        bits 64
handlers:
        dw VECTOR_TIMER
        dd on_timer
        dw VECTOR_IPI
        dd on_ipi
        dw VECTOR_NMI
        dd on_nmi
        dw 0

        align 8
timer_count:   dd 0
ipi_count:     dd 0
nmi_count:     dd 0
in_xapic_mode: dd 0
