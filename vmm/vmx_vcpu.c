/* SPDX-License-Identifier: MIT */
#include "vmm/vmx_vcpu.h"

#include "boot/cpu.h"
#include "boot/descriptors.h"
#include "boot/log.h"
#include "boot/msr.h"
#include "boot/phys.h"
#include "boot/x86.h"
#include "vmm/shim.h"
#include "vmm/vm.h"
#include "vmm/vmx_interrupt.h"
#include "vmm/vmx_msrs.h"
#include "vmm/vmx_policy.h"

#define VMX_BASIC_REVISION_MASK 0x7fffffffu
#define VMX_BASIC_TRUE_CONTROLS (1ull << 55)

/*
 * TLB tags: 0 is the VMM's. A vCPU has its own by its index; vCPUs of several VMs with the same one
 * are kept apart by the flush as one is loaded.
 */
#define VPID_FIRST 0x1000

/* All of a control word is needed, but for `wanted`. */
static const struct control {
    const char *name;
    enum vmcs_field field;
    u32 msr, true_msr;
    u32 needed, wanted;
} controls[] = {
    {"pin-based", VMCS_PIN_CONTROLS, MSR_VMX_PINBASED_CTLS, MSR_VMX_TRUE_PINBASED_CTLS,
     PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMI | PIN_PREEMPTION_TIMER, 0},
    {"primary", VMCS_PROC_CONTROLS, MSR_VMX_PROCBASED_CTLS, MSR_VMX_TRUE_PROCBASED_CTLS,
     PROC_TSC_OFFSETTING | PROC_HLT | PROC_MWAIT | PROC_MONITOR | PROC_RDPMC | PROC_CR8_LOAD |
         PROC_CR8_STORE | PROC_UNCONDITIONAL_IO | PROC_MSR_BITMAPS | PROC_SECONDARY,
     0},
    /* With "unrestricted guest" no way of switching modes is an entry that fails. */
    {"secondary", VMCS_PROC_CONTROLS2, MSR_VMX_PROCBASED_CTLS2, MSR_VMX_PROCBASED_CTLS2,
     PROC2_EPT | PROC2_UNRESTRICTED, PROC2_VPID | PROC2_INVPCID | PROC2_RDTSCP},
    {"exit", VMCS_EXIT_CONTROLS, MSR_VMX_EXIT_CTLS, MSR_VMX_TRUE_EXIT_CTLS,
     EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTERRUPT | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
         EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_SAVE_PREEMPTION_TIMER,
     0},
    {"entry", VMCS_ENTRY_CONTROLS, MSR_VMX_ENTRY_CTLS, MSR_VMX_TRUE_ENTRY_CTLS,
     ENTRY_LOAD_DEBUG | ENTRY_GUEST_64 | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, 0},
};

/* Bits 31:0 of a capability must be 1, bits 63:32 may be. */
static enum error control_value(const struct control *control, u32 *value)
{
    bool has_true = rdmsr(MSR_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS;
    u64 capability = rdmsr(has_true ? control->true_msr : control->msr);
    u32 allowed = (u32)(capability >> 32);
    *value = (u32)capability | control->needed | (control->wanted & allowed);
    if (!(control->needed & ~allowed))
        return OK;
    log_line("vmx: the processor lacks bits %#x of the %s controls, which a VM needs",
             control->needed & ~allowed, control->name);
    return ERR_UNSUPPORTED;
}

#define GUEST_CR0 (CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG)
#define GUEST_CR4 (CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT)
#define GUEST_EFER (EFER_LME | EFER_LMA | EFER_NXE)

#define SEGMENT_CODE_64 0xa09b
#define SEGMENT_DATA 0xc093
#define SEGMENT_TASK_BUSY 0x8b
#define SEGMENT_UNUSABLE 0x10000
#define SELECTOR_GUEST_CODE 0x10
#define SELECTOR_GUEST_DATA 0x18
#define LIMIT_4G 0xffffffffu
#define TASK_LIMIT 0x67
#define RESET_DR7 0x400
#define RESET_PAT 0x0007040600070406ull

/*
 * #DB and #AC: a guest that makes their delivery raise the next one would keep the processor from
 * everything else for good. #MC: the machine's affair.
 */
#define EXCEPTIONS (1u << VECTOR_DB | 1u << VECTOR_AC | 1u << VECTOR_MC)

/* What no VM has otherwise; the rest of a new VMCS is zeros. */
static const struct constant {
    enum vmcs_field field;
    u64 value;
} constants[] = {
    {VMCS_TSC_OFFSET, 0},
    {VMCS_VMCS_LINK_POINTER, ~0ull},
    {VMCS_EXCEPTION_BITMAP, EXCEPTIONS},
    {VMCS_PF_ERROR_MASK, 0},
    {VMCS_PF_ERROR_MATCH, 0},
    {VMCS_CR3_TARGET_COUNT, 0},
    {VMCS_EXIT_MSR_STORE_COUNT, 0},
    {VMCS_EXIT_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_INTR_INFO, 0},
    {VMCS_GUEST_CS_SELECTOR, SELECTOR_GUEST_CODE},
    {VMCS_GUEST_CS_ACCESS, SEGMENT_CODE_64},
    {VMCS_GUEST_CS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_CS_BASE, 0},
    {VMCS_GUEST_DS_SELECTOR, SELECTOR_GUEST_DATA},
    {VMCS_GUEST_DS_ACCESS, SEGMENT_DATA},
    {VMCS_GUEST_DS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_DS_BASE, 0},
    {VMCS_GUEST_ES_SELECTOR, SELECTOR_GUEST_DATA},
    {VMCS_GUEST_ES_ACCESS, SEGMENT_DATA},
    {VMCS_GUEST_ES_LIMIT, LIMIT_4G},
    {VMCS_GUEST_ES_BASE, 0},
    {VMCS_GUEST_FS_SELECTOR, SELECTOR_GUEST_DATA},
    {VMCS_GUEST_FS_ACCESS, SEGMENT_DATA},
    {VMCS_GUEST_FS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_FS_BASE, 0},
    {VMCS_GUEST_GS_SELECTOR, SELECTOR_GUEST_DATA},
    {VMCS_GUEST_GS_ACCESS, SEGMENT_DATA},
    {VMCS_GUEST_GS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_GS_BASE, 0},
    {VMCS_GUEST_SS_SELECTOR, SELECTOR_GUEST_DATA},
    {VMCS_GUEST_SS_ACCESS, SEGMENT_DATA},
    {VMCS_GUEST_SS_LIMIT, LIMIT_4G},
    {VMCS_GUEST_SS_BASE, 0},
    {VMCS_GUEST_LDTR_SELECTOR, 0},
    {VMCS_GUEST_LDTR_ACCESS, SEGMENT_UNUSABLE},
    {VMCS_GUEST_LDTR_LIMIT, 0},
    {VMCS_GUEST_LDTR_BASE, 0},
    {VMCS_GUEST_TR_SELECTOR, 0},
    {VMCS_GUEST_TR_ACCESS, SEGMENT_TASK_BUSY},
    {VMCS_GUEST_TR_LIMIT, TASK_LIMIT},
    {VMCS_GUEST_TR_BASE, 0},
    {VMCS_GUEST_GDTR_LIMIT, 0},
    {VMCS_GUEST_GDTR_BASE, 0},
    {VMCS_GUEST_IDTR_LIMIT, 0},
    {VMCS_GUEST_IDTR_BASE, 0},
    {VMCS_GUEST_EFER, GUEST_EFER},
    {VMCS_GUEST_PAT, RESET_PAT},
    {VMCS_GUEST_DR7, RESET_DR7},
    {VMCS_GUEST_DEBUGCTL, 0},
    {VMCS_GUEST_RFLAGS, RFLAGS_FIXED},
    {VMCS_GUEST_SYSENTER_CS, 0},
    {VMCS_GUEST_SYSENTER_ESP, 0},
    {VMCS_GUEST_SYSENTER_EIP, 0},
    {VMCS_GUEST_INTERRUPTIBILITY, 0},
    {VMCS_GUEST_ACTIVITY, 0},
    {VMCS_GUEST_PENDING_DEBUG, 0},
};

/* A change of a bit that the VMM has a say in is an exit (vmm/vmx_control.c). */
static void write_control_registers(u64 cr0, u64 cr4)
{
    vmx_field_set(VMCS_GUEST_CR0, vmx_cr0_of(cr0));
    vmx_field_set(VMCS_CR0_SHADOW, cr0);
    vmx_field_set(VMCS_CR0_MASK, ~vmx_cr0_free());
    vmx_field_set(VMCS_GUEST_CR4, vmx_cr4_of(cr4));
    vmx_field_set(VMCS_CR4_SHADOW, cr4);
    vmx_field_set(VMCS_CR4_MASK, ~vmx_cr4_free());
}

static void write_constants(const struct constant *list, u32 count)
{
    for (u32 i = 0; i < count; i++)
        vmx_field_set(list[i].field, list[i].value);
}

static enum error write_fields(struct vcpu *vcpu, const struct shim_parameters *start)
{
    u32 values[ARRAY_LENGTH(controls)];
    for (u32 i = 0; i < ARRAY_LENGTH(controls); i++) {
        enum error e = control_value(&controls[i], &values[i]);
        if (e)
            return e;
    }
    for (u32 i = 0; i < ARRAY_LENGTH(controls); i++)
        vmx_field_set(controls[i].field, values[i]);
    write_constants(constants, ARRAY_LENGTH(constants));
    write_control_registers(GUEST_CR0, GUEST_CR4);
    vmx_field_set(VMCS_MSR_BITMAP, virt_to_phys(vmx_msr_bitmap()).raw);
    vmx_field_set(VMCS_VPID, VPID_FIRST + vcpu->index);
    vmx_field_set(VMCS_EPT_POINTER, ept_pointer(&vcpu->vm->direct));
    vmx_field_set(VMCS_GUEST_CR3, start->page_tables);
    vmx_field_set(VMCS_GUEST_RIP, start->entry);
    vmx_field_set(VMCS_GUEST_RSP, start->rsp);
    vcpu->vmx.gpr[GPR_RSI] = start->rsi;
    vcpu->vmx.gpr[GPR_RDI] = start->rdi;
    return OK;
}

/* "Processor State After Reset": what INIT and start-up leave, but for CS, CR0 and CR4. */
#define REAL_MODE_CODE 0x9b
#define REAL_MODE_DATA 0x93
#define REAL_MODE_LIMIT 0xffff
#define SEGMENT_LDT 0x82
#define REAL_MODE_PAGE_SHIFT 12
#define REAL_MODE_SELECTOR_SHIFT 8
#define REAL_MODE_DATA_SEGMENT(name)                                                 \
    {VMCS_GUEST_##name##_SELECTOR, 0}, {VMCS_GUEST_##name##_ACCESS, REAL_MODE_DATA}, \
        {VMCS_GUEST_##name##_LIMIT, REAL_MODE_LIMIT},                                \
    {                                                                                \
        VMCS_GUEST_##name##_BASE, 0                                                  \
    }
static const struct constant real_mode[] = {
    REAL_MODE_DATA_SEGMENT(DS),
    REAL_MODE_DATA_SEGMENT(ES),
    REAL_MODE_DATA_SEGMENT(FS),
    REAL_MODE_DATA_SEGMENT(GS),
    REAL_MODE_DATA_SEGMENT(SS),
    {VMCS_GUEST_CS_ACCESS, REAL_MODE_CODE},
    {VMCS_GUEST_CS_LIMIT, REAL_MODE_LIMIT},
    {VMCS_GUEST_LDTR_SELECTOR, 0},
    {VMCS_GUEST_LDTR_ACCESS, SEGMENT_LDT},
    {VMCS_GUEST_LDTR_LIMIT, REAL_MODE_LIMIT},
    {VMCS_GUEST_TR_SELECTOR, 0},
    {VMCS_GUEST_TR_ACCESS, SEGMENT_TASK_BUSY},
    {VMCS_GUEST_TR_LIMIT, REAL_MODE_LIMIT},
    {VMCS_GUEST_GDTR_BASE, 0},
    {VMCS_GUEST_GDTR_LIMIT, REAL_MODE_LIMIT},
    {VMCS_GUEST_IDTR_BASE, 0},
    {VMCS_GUEST_IDTR_LIMIT, REAL_MODE_LIMIT},
    {VMCS_GUEST_CR3, 0},
    {VMCS_GUEST_EFER, 0},
    {VMCS_GUEST_DR7, RESET_DR7},
    {VMCS_GUEST_RFLAGS, RFLAGS_FIXED},
    {VMCS_GUEST_RIP, 0},
    {VMCS_GUEST_RSP, 0},
    {VMCS_GUEST_INTERRUPTIBILITY, 0},
    {VMCS_GUEST_PENDING_DEBUG, 0},
    {VMCS_ENTRY_INTR_INFO, 0},
};

/* "Machine state" of a multiboot image: flat 32-bit segments without a table behind them. */
#define SEGMENT_CODE_32 0xc09b
#define MULTIBOOT_MAGIC 0x2badb002u
static const struct constant multiboot[] = {
    {VMCS_GUEST_CS_ACCESS, SEGMENT_CODE_32},
    {VMCS_GUEST_CR3, 0},
    {VMCS_GUEST_EFER, 0},
};

static void start_multiboot(struct vcpu *vcpu, const struct shim_parameters *start)
{
    write_constants(multiboot, ARRAY_LENGTH(multiboot));
    write_control_registers(CR0_PE | CR0_ET, 0);
    vmx_field_set(VMCS_ENTRY_CONTROLS, vmx_field(VMCS_ENTRY_CONTROLS) & ~(u64)ENTRY_GUEST_64);
    vcpu->vmx.gpr[GPR_RAX] = MULTIBOOT_MAGIC;
    vcpu->vmx.gpr[GPR_RBX] = start->rdi;
}

void vmx_vcpu_start_up(struct vcpu *vcpu, u8 page)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    write_constants(real_mode, ARRAY_LENGTH(real_mode));
    write_control_registers(CR0_ET, 0);
    vmx_field_set(VMCS_GUEST_CS_SELECTOR, (u64)page << REAL_MODE_SELECTOR_SHIFT);
    vmx_field_set(VMCS_GUEST_CS_BASE, (u64)page << REAL_MODE_PAGE_SHIFT);
    vmx_field_set(VMCS_ENTRY_CONTROLS, vmx_field(VMCS_ENTRY_CONTROLS) & ~(u64)ENTRY_GUEST_64);
    for (u32 i = 0; i < ARRAY_LENGTH(vmx->gpr); i++)
        vmx->gpr[i] = 0;
    vmx->gpr[GPR_RDX] = cpuid(1, 0).eax;
}

enum error vmx_vcpu_create(struct vcpu *vcpu, const struct shim_parameters *start)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    enum error e = vmx_registers_create(&vmx->registers);
    if (!e)
        e = page_allocate_zeroed(PAGE_VMM, &vmx->vmcs);
    if (e) {
        vmx->vmcs = HPA_NONE;
        vmx_registers_destroy(&vmx->registers);
        return e;
    }
    vmx->activity = vcpu->index == 0 ? VMX_RUNS : VMX_WAITS_FOR_STARTUP;
    *(u32 *)phys_to_virt(vmx->vmcs) = (u32)rdmsr(MSR_VMX_BASIC) & VMX_BASIC_REVISION_MASK;
    if (vmclear(vmx->vmcs) || vmptrld(vmx->vmcs)) {
        log_line("vmx: the processor does not take a VMCS");
        return ERR_UNSUPPORTED;
    }
    e = write_fields(vcpu, start);
    if (!e && (start->flags & SHIM_MULTIBOOT)) {
        start_multiboot(vcpu, start);
        vcpu->lapic.mode = LAPIC_XAPIC; /* as firmware leaves it */
    }
    if (vmclear(vmx->vmcs))
        panic("VMCLEAR failed");
    return e;
}

void vmx_vcpu_destroy(struct vcpu *vcpu)
{
    if (hpa_is_none(vcpu->vmx.vmcs))
        return;
    page_free(vcpu->vmx.vmcs);
    vcpu->vmx.vmcs = HPA_NONE;
    vmx_registers_destroy(&vcpu->vmx.registers);
}

struct __attribute__((packed)) table_register {
    u16 limit;
    u64 base;
};

static u64 task_base(u64 gdt)
{
    const u64 *descriptor = (const u64 *)(gdt + SELECTOR_TSS);
    return (descriptor[0] >> 16 & 0xffffff) | (descriptor[0] >> 56 & 0xff) << 24 |
           descriptor[1] << 32;
}

/* Null data selectors need no descriptor, and 64-bit mode asks for none. */
static void write_host_fields(void)
{
    struct table_register gdt, idt;
    __asm__ volatile("sgdt %0" : "=m"(gdt));
    __asm__ volatile("sidt %0" : "=m"(idt));
    const struct constant fields[] = {
        {VMCS_HOST_CS_SELECTOR, SELECTOR_CODE},
        {VMCS_HOST_SS_SELECTOR, SELECTOR_DATA},
        {VMCS_HOST_DS_SELECTOR, 0},
        {VMCS_HOST_ES_SELECTOR, 0},
        {VMCS_HOST_FS_SELECTOR, 0},
        {VMCS_HOST_GS_SELECTOR, 0},
        {VMCS_HOST_TR_SELECTOR, SELECTOR_TSS},
        {VMCS_HOST_CR0, cr0_read()},
        {VMCS_HOST_CR3, cr3_read()},
        {VMCS_HOST_CR4, cr4_read()},
        {VMCS_HOST_FS_BASE, rdmsr(MSR_FS_BASE)},
        {VMCS_HOST_GS_BASE, rdmsr(MSR_GS_BASE)},
        {VMCS_HOST_TR_BASE, task_base(gdt.base)},
        {VMCS_HOST_GDTR_BASE, gdt.base},
        {VMCS_HOST_IDTR_BASE, idt.base},
        {VMCS_HOST_SYSENTER_CS, rdmsr(MSR_SYSENTER_CS)},
        {VMCS_HOST_SYSENTER_ESP, rdmsr(MSR_SYSENTER_ESP)},
        {VMCS_HOST_SYSENTER_EIP, rdmsr(MSR_SYSENTER_EIP)},
        {VMCS_HOST_PAT, rdmsr(MSR_PAT)},
        {VMCS_HOST_EFER, rdmsr(MSR_EFER)},
        {VMCS_HOST_RIP, (u64)vmx_exit},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(fields); i++)
        vmx_field_set(fields[i].field, fields[i].value);
}

void vmx_vcpu_load(struct vcpu *vcpu)
{
    struct vmx_vcpu *vmx = &vcpu->vmx;
    if (vmclear(vmx->vmcs) || vmptrld(vmx->vmcs))
        panic("the VMCS of guest %s cannot be loaded", vcpu->vm->config->name);
    vmx->launched = false;
    write_host_fields();
    vmx_poll_arm();
    vmx_registers_load(&vmx->registers);
    /* A guest before may have had the same pages as its tables. */
    if (invept(INVEPT_ALL, 0))
        panic("INVEPT of all contexts failed on processor %u", cpu_this()->index);
}

void vmx_vcpu_unload(struct vcpu *vcpu)
{
    vmx_registers_save(&vcpu->vmx.registers);
    if (vmclear(vcpu->vmx.vmcs))
        panic("VMCLEAR failed");
}
