/* SPDX-License-Identifier: MIT */
#include "tests/tdx/fake_module.h"

#include <pthread.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/phys.h"
#include "tdx/seamcall.h"

struct fake_call fake_calls[FAKE_CALLS_MAX];
u32 fake_call_count;
bool (*fake_answer)(u32 leaf, struct tdx_regs *regs);
bool fake_carry;
u32 fake_gpa_bits;
struct soft_platform fake_platform;

static struct tdmr_info tdmrs[64];
static u32 tdmr_count;

void fake_reset(void)
{
    fake_call_count = 0;
    fake_answer = NULL;
    fake_carry = false;
    fake_gpa_bits = 0;
    tdmr_count = 0;
    memset(&fake_platform, 0, sizeof fake_platform);
}

u32 fake_count(u32 leaf)
{
    u32 sum = 0;
    for (u32 i = 0; i < fake_call_count; i++)
        sum += fake_calls[i].leaf == leaf;
    return sum;
}

const struct fake_call *fake_find(u32 leaf, u32 nth)
{
    for (u32 i = 0; i < fake_call_count; i++)
        if (fake_calls[i].leaf == leaf && nth-- == 0)
            return &fake_calls[i];
    return NULL;
}

enum error soft_install(const struct soft_platform *platform)
{
    fake_platform = *platform;
    return OK;
}

void soft_seamcall_entry(void) {}

static const struct {
    u64 id, value;
} fields[] = {
    {MD_SYS_MAJOR_VERSION, 1},
    {MD_SYS_MINOR_VERSION, 5},
    {MD_SYS_UPDATE_VERSION, 1},
    {MD_SYS_TDX_FEATURES0, TDX_FEATURE_NO_RBP_MOD | TDX_FEATURE_TOPOLOGY_ENUM},
    {MD_SYS_ATTRIBUTES_FIXED0, TD_ATTRIBUTE_DEBUG | TD_ATTRIBUTE_SEPT_VE_DISABLE},
    {MD_SYS_ATTRIBUTES_FIXED1, 0},
    {MD_SYS_XFAM_FIXED0, 0x6dbe7},
    {MD_SYS_XFAM_FIXED1, 3},
    {MD_SYS_CONFIG_FLAGS_FIXED0, 7},
    {MD_SYS_TDCS_BASE_SIZE, 24576},
    {MD_SYS_TDVPS_BASE_SIZE, 24576},
    {MD_SYS_NUM_CPUID_CONFIG, 2},
    {MD_SYS_CPUID_CONFIG_LEAVES, 0xffffffff00000001},
    {MD_SYS_CPUID_CONFIG_LEAVES + 1, 0xffffffff80000008},
    {MD_SYS_CPUID_CONFIG_VALUES, 0x00ff0000ffffffff},
    {MD_SYS_CPUID_CONFIG_VALUES + 1, 0},
    {MD_SYS_CPUID_CONFIG_VALUES + 2, 0x00ffffff},
    {MD_SYS_CPUID_CONFIG_VALUES + 3, 0},
    {MD_SYS_MAX_TDMRS, 64},
    {MD_SYS_MAX_RESERVED_PER_TDMR, 16},
    {MD_SYS_PAMT_4K_ENTRY_SIZE, 16},
    {MD_SYS_PAMT_2M_ENTRY_SIZE, 16},
    {MD_SYS_PAMT_1G_ENTRY_SIZE, 16},
    {MD_SYS_NUM_CMRS, TDX_CMR_MAX},
};

static u64 field_read(u64 id, u64 *value)
{
    if (id >= MD_SYS_CMR_BASE && id < MD_SYS_CMR_BASE + TDX_CMR_MAX) {
        *value = fake_platform.cmrs[id - MD_SYS_CMR_BASE].base;
        return 0;
    }
    if (id >= MD_SYS_CMR_SIZE && id < MD_SYS_CMR_SIZE + TDX_CMR_MAX) {
        *value = fake_platform.cmrs[id - MD_SYS_CMR_SIZE].bytes;
        return 0;
    }
    if (id == MD_SYS_SOFT_GPA_WIDTH && fake_gpa_bits) {
        *value = fake_gpa_bits;
        return 0;
    }
    for (u32 i = 0; i < ARRAY_LENGTH(fields); i++) {
        if (fields[i].id == id) {
            *value = fields[i].value;
            return 0;
        }
    }
    return (u64)TDX_METADATA_FIELD_ID_INCORRECT << 32;
}

static void config_take(const struct tdx_regs *regs)
{
    const u64 *addresses = phys_to_virt(hpa(regs->gpr[GPR_RCX]));
    tdmr_count = (u32)regs->gpr[GPR_RDX];
    for (u32 i = 0; i < tdmr_count; i++)
        memcpy(&tdmrs[i], phys_to_virt(hpa(addresses[i])), sizeof tdmrs[i]);
}

static void defaults(u32 leaf, struct tdx_regs *regs)
{
    regs->gpr[GPR_RAX] = 0;
    switch (leaf) {
    case TDH_SYS_RD:
        regs->gpr[GPR_RAX] = field_read(regs->gpr[GPR_RDX], &regs->gpr[GPR_R8]);
        break;
    case TDH_SYS_CONFIG:
        config_take(regs);
        break;
    case TDH_SYS_TDMR_INIT:
        for (u32 i = 0; i < tdmr_count; i++)
            if (tdmrs[i].base == regs->gpr[GPR_RCX])
                regs->gpr[GPR_RDX] = tdmrs[i].base + tdmrs[i].size;
        break;
    case TDH_MNG_RD:
        regs->gpr[GPR_R8] = regs->gpr[GPR_RDX] == MD_TD_TSC_MULTIPLIER ? 1ull << 48 : 0;
        break;
    default:
        break;
    }
}

static void call_record(u32 leaf, const struct tdx_regs *regs)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (fake_call_count < FAKE_CALLS_MAX)
        fake_calls[fake_call_count++] = (struct fake_call){
            .leaf = leaf,
            .version = (u8)(regs->gpr[GPR_RAX] >> TDX_VERSION_SHIFT),
            .cpu = cpu_this()->index,
            .in = *regs,
        };
    pthread_mutex_unlock(&lock);
}

bool tdx_call(struct tdx_regs *regs)
{
    u32 leaf = (u32)(regs->gpr[GPR_RAX] & TDX_LEAF_MASK);
    call_record(leaf, regs);
    if (fake_carry)
        return true;
    if (!fake_answer || !fake_answer(leaf, regs))
        defaults(leaf, regs);
    return false;
}
