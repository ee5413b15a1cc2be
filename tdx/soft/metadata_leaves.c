/* SPDX-License-Identifier: MIT */
/* SYS.INFO, SYS.RD, MNG.RD and MNG.WR. */
#include "tdx/soft/objects.h"

#include "boot/string.h"
#include "tdx/soft/system.h"

static u64 lp_check(void)
{
    bool is_initialized = soft_system.lps_initialized & 1ull << seam_lp();
    return is_initialized ? 0 : completion(TDX_SYS_LP_INIT_NOT_DONE, 0);
}

u64 tdh_sys_rd(struct leaf *leaf)
{
    u64 field = leaf->regs->gpr[GPR_RDX];
    leaf->regs->gpr[GPR_RDX] = ~0ull;
    leaf->regs->gpr[GPR_R8] = 0;
    u64 status = lp_check();
    if (status)
        return status;
    struct metadata_context context = {.scope = METADATA_SYS, .reader = METADATA_HOST};
    if (metadata_field_is_null(field)) {
        leaf->regs->gpr[GPR_RDX] = metadata_first(&context);
        return completion(TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT, 0);
    }
    return metadata_read(&context, field, &leaf->regs->gpr[GPR_R8], &leaf->regs->gpr[GPR_RDX]);
}

static u64 td_open_metadata(struct leaf *leaf, struct td *td, struct metadata_context *context)
{
    u64 status = td_lock(leaf, leaf->regs->gpr[GPR_RCX], OPERAND_RCX, LOCK_SHARED, td);
    if (!status)
        status = td_check_state(leaf, td, LOCK_SHARED);
    if (status)
        return status;
    bool is_debug = td->tdcs->attributes & TD_ATTRIBUTE_DEBUG;
    *context = (struct metadata_context){
        .scope = METADATA_TD, .reader = is_debug ? METADATA_HOST_DEBUG : METADATA_HOST, .td = td};
    return 0;
}

u64 tdh_mng_rd(struct leaf *leaf)
{
    u64 field = leaf->regs->gpr[GPR_RDX], next = ~0ull;
    leaf->regs->gpr[GPR_R8] = 0;
    struct td td;
    struct metadata_context context;
    u64 status = td_open_metadata(leaf, &td, &context);
    if (!status && leaf->version && metadata_field_is_null(field)) {
        next = metadata_first(&context);
        status = completion(TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT, 0);
    } else if (!status) {
        status = metadata_read(&context, field, &leaf->regs->gpr[GPR_R8], &next);
    }
    if (leaf->version)
        leaf->regs->gpr[GPR_RDX] = next;
    return status;
}

u64 tdh_mng_wr(struct leaf *leaf)
{
    u64 value = leaf->regs->gpr[GPR_R8];
    leaf->regs->gpr[GPR_R8] = 0;
    struct td td;
    struct metadata_context context;
    u64 status = td_open_metadata(leaf, &td, &context);
    if (status)
        return status;
    return metadata_write(&context, leaf->regs->gpr[GPR_RDX], value, leaf->regs->gpr[GPR_R9],
                          &leaf->regs->gpr[GPR_R8]);
}

#define SYSINFO_BYTES 1024
#define SYSINFO_CMR_BYTES 512
#define SYSINFO_CPUID_OFFSET 128

struct sysinfo_cpuid {
    u64 leaf;
    struct cpuid_values mask;
};

static void sysinfo_put(u8 *info, u32 offset, u64 value, u32 len_bytes)
{
    memcpy(info + offset, &value, len_bytes);
}

static void sysinfo_write(u8 *info)
{
    static const struct {
        u16 offset, len_bytes;
        u64 value;
    } rows[] = {
        {4, 4, 0x8086},
        {8, 4, 0x134d75e},
        {14, 2, SOFT_MINOR_VERSION},
        {16, 2, SOFT_MAJOR_VERSION},
        {18, 1, 1},
        {32, 2, SOFT_TDMRS_MAX},
        {34, 2, TDMR_RESERVED_MAX},
        {36, 2, sizeof(struct pamt_entry)},
        {48, 2, TDCX_PAGES_BASE * PAGE_BYTES},
        {52, 2, TDVPS_PAGES_BASE * PAGE_BYTES},
        {64, 8, ATTRIBUTES_FIXED0},
        {88, 8, XFAM_FIXED1},
    };
    memset(info, 0, SYSINFO_BYTES);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        sysinfo_put(info, rows[i].offset, rows[i].value, rows[i].len_bytes);
    sysinfo_put(info, 80, xfam_fixed0(), 8);
    u32 count = 0;
    struct sysinfo_cpuid row;
    u8 *at = info + SYSINFO_CPUID_OFFSET + sizeof(u32);
    for (; cpuid_config_row(count, &row.leaf, &row.mask); count++, at += sizeof row)
        memcpy(at, &row, sizeof row);
    sysinfo_put(info, SYSINFO_CPUID_OFFSET, count, 4);
}

static void *memory_at(u64 address)
{
    u64 plain = platform_address(address);
    return (u8 *)seam_page(align_down(plain, PAGE_BYTES)) + (plain & PAGE_MASK);
}

u64 tdh_sys_info(struct leaf *leaf)
{
    u64 info = leaf->regs->gpr[GPR_RCX], info_bytes = leaf->regs->gpr[GPR_RDX];
    u64 cmrs = leaf->regs->gpr[GPR_R8], cmr_count = leaf->regs->gpr[GPR_R9];
    leaf->regs->gpr[GPR_RDX] = 0;
    leaf->regs->gpr[GPR_R9] = 0;
    u64 status = lp_check();
    if (!status)
        status = operand_shared(info, SYSINFO_BYTES, OPERAND_RCX);
    if (!status && info_bytes < SYSINFO_BYTES)
        status = completion(TDX_OPERAND_INVALID, OPERAND_RDX);
    if (!status)
        status = operand_shared(cmrs, SYSINFO_CMR_BYTES, OPERAND_R8);
    if (!status && cmr_count < TDX_CMR_MAX)
        status = completion(TDX_OPERAND_INVALID, OPERAND_R9);
    if (status)
        return status;
    sysinfo_write(memory_at(info));
    memcpy(memory_at(cmrs), platform()->cmrs, sizeof platform()->cmrs);
    leaf->regs->gpr[GPR_RDX] = SYSINFO_BYTES;
    leaf->regs->gpr[GPR_R9] = TDX_CMR_MAX;
    return 0;
}
