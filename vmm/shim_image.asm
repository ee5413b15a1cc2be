; SPDX-License-Identifier: MIT
;
; const u8 shim_image[4096]: the assembled boot shim (vmm/shim.h), made from vmm/shim.asm.

        section .rodata
        global shim_image:data hidden
        align 4096
shim_image:
        incbin "shim.bin"
.end:
        times 4096 - (.end - shim_image) db 0 ; refuses a shim that outgrows its page
