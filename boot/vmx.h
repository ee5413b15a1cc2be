/* SPDX-License-Identifier: MIT */
/*
 * VMX instructions and numbers, without policy: which controls are set and how an exit is
 * handled is decided twice on purpose, in vmm/ and in tdx/soft/.
 */
#ifndef BOOT_VMX_H
#define BOOT_VMX_H

#include "boot/error.h"
#include "boot/types.h"

enum vmcs_field {
#define VMCS_FIELD(name, encoding) VMCS_##name = encoding,
#include "boot/vmcs_fields.def"
#undef VMCS_FIELD
};

enum exit_reason {
#define EXIT_REASON(name, number) EXIT_##name = number,
#include "boot/exit_reasons.def"
#undef EXIT_REASON
    EXIT_REASON_LIMIT = 80,
};

/* "?" for a number that no row names. */
const char *exit_reason_name(u32 reason);
const char *vmcs_field_name(u32 encoding);

/*
 * Enters VMX root operation on this processor: checks and sets IA32_FEATURE_CONTROL, CR0, CR4,
 * and does VMXON with the processor's region. What is missing is named in one line
 * (ERR_UNSUPPORTED).
 */
enum error vmx_enable(void);
void vmx_disable(void);

/* What the processor's EPT can do beside 4 KiB pages. */
#define EPT_FEATURE_2M (1u << 0)
#define EPT_FEATURE_1G (1u << 1)
#define EPT_FEATURE_AD (1u << 2) /* accessed and dirty flags */
/* As IA32_VMX_EPT_VPID_CAP of this processor has them; all processors are alike. */
u32 vmx_ept_features(void);

/* The results of VMX instructions ("Conventions"). */
enum [[nodiscard]] vmx_result{
    VMX_SUCCEED = 0, VMX_FAIL_INVALID = 1, /* no current VMCS */
    VMX_FAIL_VALID = 2,                    /* the VMCS's instruction-error field says why */
};

static inline enum vmx_result vmx_result_of(u8 carry, u8 zero)
{
    return carry ? VMX_FAIL_INVALID : zero ? VMX_FAIL_VALID : VMX_SUCCEED;
}

static inline enum vmx_result vmclear(hpa_t vmcs)
{
    u8 carry, zero;
    __asm__ volatile("vmclear %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(vmcs.raw) : "memory");
    return vmx_result_of(carry, zero);
}

static inline enum vmx_result vmptrld(hpa_t vmcs)
{
    u8 carry, zero;
    __asm__ volatile("vmptrld %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(vmcs.raw) : "memory");
    return vmx_result_of(carry, zero);
}

/* HPA_NONE when there is no current VMCS. */
static inline hpa_t vmptrst(void)
{
    hpa_t vmcs;
    __asm__ volatile("vmptrst %0" : "=m"(vmcs.raw)::"memory");
    return vmcs;
}

static inline enum vmx_result vmread(enum vmcs_field field, u64 *value)
{
    u8 carry, zero;
    __asm__ volatile("vmread %3, %2"
                     : "=@ccc"(carry), "=@ccz"(zero), "=r"(*value)
                     : "r"((u64)field)
                     : "memory");
    return vmx_result_of(carry, zero);
}

static inline enum vmx_result vmwrite(enum vmcs_field field, u64 value)
{
    u8 carry, zero;
    __asm__ volatile("vmwrite %3, %2"
                     : "=@ccc"(carry), "=@ccz"(zero)
                     : "r"((u64)field), "r"(value)
                     : "memory");
    return vmx_result_of(carry, zero);
}

#define INVEPT_SINGLE 1
#define INVEPT_ALL 2
static inline enum vmx_result invept(u64 type, u64 eptp)
{
    struct {
        u64 eptp, reserved;
    } descriptor = {eptp, 0};
    u8 carry, zero;
    __asm__ volatile("invept %2, %3"
                     : "=@ccc"(carry), "=@ccz"(zero)
                     : "m"(descriptor), "r"(type)
                     : "memory");
    return vmx_result_of(carry, zero);
}

/* Pin-based controls. */
#define PIN_EXTERNAL_INTERRUPT (1u << 0)
#define PIN_NMI (1u << 3)
#define PIN_VIRTUAL_NMI (1u << 5)
#define PIN_PREEMPTION_TIMER (1u << 6)
#define PIN_POSTED_INTERRUPTS (1u << 7)
/* Primary processor-based controls. */
#define PROC_INTERRUPT_WINDOW (1u << 2)
#define PROC_TSC_OFFSETTING (1u << 3)
#define PROC_HLT (1u << 7)
#define PROC_MWAIT (1u << 10)
#define PROC_RDPMC (1u << 11)
#define PROC_CR3_LOAD (1u << 15)
#define PROC_CR3_STORE (1u << 16)
#define PROC_CR8_LOAD (1u << 19)
#define PROC_CR8_STORE (1u << 20)
#define PROC_TPR_SHADOW (1u << 21)
#define PROC_NMI_WINDOW (1u << 22)
#define PROC_UNCONDITIONAL_IO (1u << 24)
#define PROC_MONITOR_TRAP (1u << 27)
#define PROC_MSR_BITMAPS (1u << 28)
#define PROC_MONITOR (1u << 29)
#define PROC_SECONDARY (1u << 31)
/* Secondary processor-based controls. */
#define PROC2_EPT (1u << 1)
#define PROC2_RDTSCP (1u << 3)
#define PROC2_X2APIC (1u << 4)
#define PROC2_VPID (1u << 5)
#define PROC2_WBINVD (1u << 6)
#define PROC2_UNRESTRICTED (1u << 7)
#define PROC2_APIC_REGISTERS (1u << 8)
#define PROC2_VIRTUAL_INTERRUPTS (1u << 9)
#define PROC2_INVPCID (1u << 12)
#define PROC2_PML (1u << 17)
#define PROC2_EPT_VE (1u << 18)
#define PROC2_XSAVES (1u << 20)
#define PROC2_TSC_SCALING (1u << 25)
/* VM-exit controls. */
#define EXIT_SAVE_DEBUG (1u << 2)
#define EXIT_HOST_64 (1u << 9)
#define EXIT_ACK_INTERRUPT (1u << 15)
#define EXIT_SAVE_PAT (1u << 18)
#define EXIT_LOAD_PAT (1u << 19)
#define EXIT_SAVE_EFER (1u << 20)
#define EXIT_LOAD_EFER (1u << 21)
#define EXIT_SAVE_PREEMPTION_TIMER (1u << 22)
/* VM-entry controls. */
#define ENTRY_LOAD_DEBUG (1u << 2)
#define ENTRY_GUEST_64 (1u << 9)
#define ENTRY_LOAD_PAT (1u << 14)
#define ENTRY_LOAD_EFER (1u << 15)

/* Interruption information (entry and exit). */
#define INTR_VECTOR_MASK 0xffu
#define INTR_TYPE_EXTERNAL (0u << 8)
#define INTR_TYPE_NMI (2u << 8)
#define INTR_TYPE_EXCEPTION (3u << 8)
#define INTR_TYPE_MASK (7u << 8)
#define INTR_TYPE_PRIVILEGED_SOFTWARE (5u << 8)
#define INTR_HAS_ERROR_CODE (1u << 11)
#define INTR_NMI_UNBLOCKING (1u << 12)
#define INTR_VALID (1u << 31)

/* Guest interruptibility. */
#define BLOCKING_STI (1u << 0)
#define BLOCKING_MOV_SS (1u << 1)
#define BLOCKING_NMI (1u << 3)

/* EPT entries, as the processor reads them. */
#define EPT_READ (1ull << 0)
#define EPT_WRITE (1ull << 1)
#define EPT_EXECUTE (1ull << 2)
#define EPT_RWX 7ull
#define EPT_TYPE_SHIFT 3
#define EPT_TYPE_UC (0ull << EPT_TYPE_SHIFT)
#define EPT_TYPE_WB (6ull << EPT_TYPE_SHIFT)
#define EPT_IGNORE_PAT (1ull << 6)
#define EPT_LARGE (1ull << 7)
#define EPT_ACCESSED (1ull << 8)
#define EPT_DIRTY (1ull << 9)
#define EPT_SUPPRESS_VE (1ull << 63)
#define EPTP_WB 6ull
#define EPTP_LEVELS_4 (3ull << 3)
#define EPTP_ACCESSED_DIRTY (1ull << 6)

/* EPT-violation exit qualification. */
#define EPT_VIOLATION_READ (1ull << 0)
#define EPT_VIOLATION_WRITE (1ull << 1)
#define EPT_VIOLATION_EXECUTE (1ull << 2)
#define EPT_VIOLATION_GLA_VALID (1ull << 7)
#define EPT_VIOLATION_NMI_UNBLOCKED (1ull << 12) /* by an IRET that has not ended */

#endif
