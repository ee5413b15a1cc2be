; SPDX-License-Identifier: MIT
;
; const u8 shim_image[4096]: the assembled boot shim (vmm/shim.h). SHIM_BINARY is the path of
; what `nasm -f bin vmm/shim.asm` made.

        section .rodata
        global shim_image
        align 4096
shim_image:
        incbin SHIM_BINARY
        times 4096 - ($ - shim_image) db 0
