/* SPDX-License-Identifier: MIT */
/*
 * Outside SEAM the processor answers TDCALL with #UD. The module intercepts #UD and looks whether
 * that was the reason.
 */
#include "boot/x86.h"
#include "tdx/soft/guest_memory.h"

#define SEGMENT_LONG (1u << 13)
#define SEGMENT_DPL_SHIFT 5

static const u8 tdcall_bytes[TDCALL_BYTES] = {0x66, 0x0f, 0x01, 0xcc};

bool guest_is_user_mode(void)
{
    return (seam_vmcs_read(VMCS_GUEST_SS_ACCESS) >> SEGMENT_DPL_SHIFT & 3) == 3;
}

bool guest_is_64_bit(void)
{
    return (seam_vmcs_read(VMCS_GUEST_EFER) & EFER_LMA) &&
           (seam_vmcs_read(VMCS_GUEST_CS_ACCESS) & SEGMENT_LONG);
}

enum instruction instruction_recognise(const struct run *run)
{
    u64 linear = seam_vmcs_read(VMCS_GUEST_RIP);

    if (!guest_is_64_bit())
        linear = (u32)(linear + seam_vmcs_read(VMCS_GUEST_CS_BASE));
    /* Byte by byte: the instruction may lie across two pages. */
    for (u32 i = 0; i < TDCALL_BYTES; i++) {
        u64 address, host;
        if (!guest_linear_find(run, linear + i, &address) ||
            !guest_physical_find(run, address, &host))
            return INSTRUCTION_OTHER;
        const u8 *page = seam_page(host & ~PAGE_MASK);
        if (page[host & PAGE_MASK] != tdcall_bytes[i])
            return INSTRUCTION_OTHER;
    }
    return INSTRUCTION_TDCALL;
}
