/* SPDX-License-Identifier: MIT */
#include "tdx/module_fields.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "tdx/td.h"

#define WHERE_BYTES 64
#define GPA_BITS_DEFAULT 48 /* CONFIG_FLAGS.GPAW = 0 */
#define GPA_BITS_MIN 32

static struct tdx_status field_ask(u64 field, u64 *value)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RDX] = field;
    struct tdx_status status = seamcall_patient(TDH_SYS_RD, &regs);
    *value = regs.gpr[GPR_R8];
    return status;
}

static enum error field_read(u64 field, u64 *value)
{
    struct tdx_status status = field_ask(field, value);
    if (status.raw == 0)
        return OK;
    char where[WHERE_BYTES];
    format_string(where, sizeof where, "field 0x%016llx", (unsigned long long)field);
    return tdx_status_error_final(status, TDH_SYS_RD, where);
}

bool tdx_broken_rules(struct broken_rules *broken)
{
    *broken = (struct broken_rules){};
    if (!tdx_module()->software)
        return false;
    for (u32 i = 0; i < SOFT_RULES; i++) {
        if (field_ask(MD_SYS_SOFT_RULES + i, &broken->counts[i]).raw != 0)
            return false;
        broken->sum += broken->counts[i];
    }
    return true;
}

const char *tdx_rule_name(enum soft_rule rule)
{
    static const char *const names[SOFT_RULES] = {
#define SOFT_RULE(rule, name, sentence) [rule] = name,
#include "tdx/abi/soft_rules.def"
#undef SOFT_RULE
    };
    return rule < SOFT_RULES ? names[rule] : "?";
}

struct field {
    u64 id;
    u64 *value;
};

static enum error fields_read(const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum error error = field_read(fields[i].id, fields[i].value);
        if (error)
            return error;
    }
    return OK;
}

static enum error cpuid_config_read(struct tdx_module *module)
{
    for (u32 i = 0; i < module->cpuid_config_count; i++) {
        u64 leaf, low, high;
        const struct field fields[] = {
            {MD_SYS_CPUID_CONFIG_LEAVES + i, &leaf},
            {MD_SYS_CPUID_CONFIG_VALUES + 2 * i, &low},
            {MD_SYS_CPUID_CONFIG_VALUES + 2 * i + 1, &high},
        };
        enum error error = fields_read(fields, ARRAY_LENGTH(fields));
        if (error)
            return error;
        module->cpuid_config[i].leaf = (u32)leaf;
        module->cpuid_config[i].subleaf = (u32)(leaf >> 32);
        module->cpuid_config[i].mask = (struct cpuid_values){
            .eax = (u32)low,
            .ebx = (u32)(low >> 32),
            .ecx = (u32)high,
            .edx = (u32)(high >> 32),
        };
    }
    return OK;
}

static enum error sizes_check(const struct tdx_module *module)
{
    if (module->tdcs_pages == 0 || module->tdcs_pages > TDCS_PAGES_MAX ||
        module->tdvps_pages == 0 || module->tdvps_pages > TDVPS_PAGES_MAX) {
        log_line(
            "tdx: the module wants %u TDCS and %u TDVPS pages, this driver knows up to %u and %u",
            module->tdcs_pages, module->tdvps_pages, TDCS_PAGES_MAX, TDVPS_PAGES_MAX);
        return ERR_UNSUPPORTED;
    }
    if (module->cpuid_config_count > TDX_CPUID_CONFIG_MAX) {
        log_line("tdx: the module configures %u CPUID leaves, this driver knows up to %u",
                 module->cpuid_config_count, TDX_CPUID_CONFIG_MAX);
        return ERR_UNSUPPORTED;
    }
    return OK;
}

/* Only the software module has this field; Intel's refuses it, and that is an answer. */
static u32 gpa_bits_read(void)
{
    u64 bits;
    struct tdx_status status = field_ask(MD_SYS_SOFT_GPA_WIDTH, &bits);
    if (status.raw != 0 || bits > GPA_BITS_DEFAULT || bits < GPA_BITS_MIN)
        return GPA_BITS_DEFAULT;
    return (u32)bits;
}

enum error module_fields_read(struct tdx_module *module)
{
    u64 major, minor, update, tdcs_bytes, tdvps_bytes, cpuid_configs;
    const struct field fields[] = {
        {MD_SYS_MAJOR_VERSION, &major},
        {MD_SYS_MINOR_VERSION, &minor},
        {MD_SYS_UPDATE_VERSION, &update},
        {MD_SYS_TDX_FEATURES0, &module->features0},
        {MD_SYS_ATTRIBUTES_FIXED0, &module->attributes_fixed0},
        {MD_SYS_ATTRIBUTES_FIXED1, &module->attributes_fixed1},
        {MD_SYS_XFAM_FIXED0, &module->xfam_fixed0},
        {MD_SYS_XFAM_FIXED1, &module->xfam_fixed1},
        {MD_SYS_CONFIG_FLAGS_FIXED0, &module->config_flags_fixed0},
        {MD_SYS_TDCS_BASE_SIZE, &tdcs_bytes},
        {MD_SYS_TDVPS_BASE_SIZE, &tdvps_bytes},
        {MD_SYS_NUM_CPUID_CONFIG, &cpuid_configs},
    };
    enum error error = fields_read(fields, ARRAY_LENGTH(fields));
    if (error)
        return error;
    module->major = (u16)major;
    module->minor = (u16)minor;
    module->update = (u16)update;
    module->tdcs_pages = (u32)(tdcs_bytes / PAGE_BYTES);
    module->tdvps_pages = (u32)(tdvps_bytes / PAGE_BYTES);
    module->cpuid_config_count = (u32)cpuid_configs;
    module->gpa_bits = gpa_bits_read();
    module->has_dynamic_pamt =
        machine()->config.newer_module && (module->features0 & TDX_FEATURE_DYNAMIC_PAMT);
    error = sizes_check(module);
    return error ? error : cpuid_config_read(module);
}

enum error module_limits_read(const struct tdx_module *module, struct tdmr_limits *limits)
{
    u64 tdmrs = 0, reserved = 0;
    const struct field fields[] = {
        {MD_SYS_MAX_TDMRS, &tdmrs},
        {MD_SYS_MAX_RESERVED_PER_TDMR, &reserved},
        {MD_SYS_PAMT_4K_ENTRY_SIZE, &limits->pamt_entry_bytes[LEVEL_4K]},
        {MD_SYS_PAMT_2M_ENTRY_SIZE, &limits->pamt_entry_bytes[LEVEL_2M]},
        {MD_SYS_PAMT_1G_ENTRY_SIZE, &limits->pamt_entry_bytes[LEVEL_1G]},
    };
    enum error error = fields_read(fields, ARRAY_LENGTH(fields));
    limits->tdmrs = (u32)tdmrs;
    limits->reserved_per_tdmr = (u32)reserved;
    limits->pamt_bitmap_bits = 0;
    if (!error && module->has_dynamic_pamt)
        error = field_read(MD_SYS_PAMT_PAGE_BITMAP_ENTRY_BITS, &limits->pamt_bitmap_bits);
    return error;
}

enum error module_cmrs_read(struct span_list *convertible)
{
    u64 count;
    enum error error = field_read(MD_SYS_NUM_CMRS, &count);
    spans_clear(convertible);
    for (u32 i = 0; !error && i < count && i < TDX_CMR_MAX; i++) {
        u64 base, bytes;
        const struct field fields[] = {
            {MD_SYS_CMR_BASE + i, &base},
            {MD_SYS_CMR_SIZE + i, &bytes},
        };
        error = fields_read(fields, ARRAY_LENGTH(fields));
        /* More may be announced than there are; the first empty one is the end. */
        if (!error && bytes == 0)
            break;
        /* TDX_CMR_MAX fit into any list. */
        if (!error && !spans_insert(convertible, base, base + bytes))
            error = ERR_UNSUPPORTED;
    }
    return error;
}
