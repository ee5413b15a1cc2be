/* SPDX-License-Identifier: MIT */
/* Metadata fields as a guest reads and writes them: TDG.VM, TDG.VP, TDG.SYS. */
#include "boot/vmx.h"
#include "tdx/soft/tdcall.h"

static struct metadata_context metadata_context(const struct tdcall *call,
                                                enum metadata_scope scope)
{
    return (struct metadata_context){
        .scope = scope,
        .reader = METADATA_GUEST,
        .td = scope == METADATA_SYS ? NULL : &call->run->td,
        .vcpu = scope == METADATA_VP ? call->run->vcpu : NULL,
    };
}

/* Reads the field RDX into R8. `next` takes the id after it, ~0 if there is none. */
static u64 field_read(struct tdcall *call, enum metadata_scope scope, u64 *next)
{
    struct metadata_context context = metadata_context(call, scope);
    u64 field = call->gpr[GPR_RDX];
    u64 value = 0;

    call->gpr[GPR_R8] = 0;
    *next = ~0ull;
    if (scope != METADATA_SYS && call->gpr[GPR_RCX])
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    u64 status = metadata_read(&context, field, &value, next);
    if (status & TDX_STATUS_ERROR)
        *next = ~0ull;
    else
        call->gpr[GPR_R8] = value;
    return status;
}

/* The form that walks: the next id in RDX, and the null id asks for the first. */
static u64 field_read_next(struct tdcall *call, enum metadata_scope scope)
{
    struct metadata_context context = metadata_context(call, scope);
    bool walks = scope == METADATA_SYS || !call->gpr[GPR_RCX];
    u64 next;

    if (walks && metadata_field_is_null(call->gpr[GPR_RDX])) {
        call->gpr[GPR_R8] = 0;
        call->gpr[GPR_RDX] = metadata_first(&context);
        return completion(TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT, 0);
    }
    u64 status = field_read(call, scope, &next);
    call->gpr[GPR_RDX] = next;
    return status;
}

static u64 field_write(struct tdcall *call, enum metadata_scope scope)
{
    struct metadata_context context = metadata_context(call, scope);
    u64 value = call->gpr[GPR_R8];
    u64 previous = 0;

    call->gpr[GPR_R8] = 0;
    if (call->gpr[GPR_RCX])
        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);
    u64 status = metadata_write(&context, call->gpr[GPR_RDX], value, call->gpr[GPR_R9], &previous);
    if (!(status & TDX_STATUS_ERROR))
        call->gpr[GPR_R8] = previous;
    return status;
}

u64 tdg_vm_rd(struct tdcall *call)
{
    u64 next;

    if (!call->version)
        return field_read(call, METADATA_TD, &next);
    if (call->version == 1)
        return field_read_next(call, METADATA_TD);
    call->gpr[GPR_RDX] = ~0ull;
    call->gpr[GPR_R8] = 0;
    return completion(TDX_OPERAND_INVALID, OPERAND_RAX);
}

u64 tdg_vm_wr(struct tdcall *call)
{
    return field_write(call, METADATA_TD);
}
u64 tdg_vp_rd(struct tdcall *call)
{
    return field_read_next(call, METADATA_VP);
}
u64 tdg_vp_wr(struct tdcall *call)
{
    return field_write(call, METADATA_VP);
}
u64 tdg_sys_rd(struct tdcall *call)
{
    return field_read_next(call, METADATA_SYS);
}

u64 tdg_sys_rdall(struct tdcall *call)
{
    struct metadata_context context = metadata_context(call, METADATA_SYS);
    struct tdcall_operand operand = {call->gpr[GPR_RDX], OPERAND_RDX, EPT_READ | EPT_WRITE, true};
    u64 id = call->gpr[GPR_R8], status;

    call->gpr[GPR_R8] = ~0ull;
    if (!is_aligned(operand.address, PAGE_BYTES))
        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    u64 *list = tdcall_operand(call, &operand, &status);
    if (!list)
        return status; /* a call that is made again starts anew: R8 is lost, as on Intel's */
    status = metadata_list(&context, &id, list);
    call->gpr[GPR_R8] = id;
    return status;
}
