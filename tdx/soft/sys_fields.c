/* SPDX-License-Identifier: MIT */
/* Metadata of the module: values of SYS fields. */
#include "tdx/soft/metadata.h"
#include "tdx/soft/system.h"

static const struct metadata_field fields[] = {
#define SYS_FIELD(name, id, rows, fields_, elements, access, source_, argument) \
    METADATA_ROW(id, rows, fields_, elements, access, .source = FROM_##source_, \
                 .constant = (argument))
#include "tdx/soft/metadata.def"
#undef SYS_FIELD
};
const struct metadata_table sys_fields = {fields, ARRAY_LENGTH(fields)};

bool sys_field_is_there(const struct metadata_field *field)
{
    if (field->source == FROM_DYNAMIC_PAMT)
        return feature_is_there(TDX_FEATURE_DYNAMIC_PAMT);
    return field->source != FROM_TOPOLOGY || feature_is_there(TDX_FEATURE_TOPOLOGY_ENUM);
}

static u64 cpuid_config_leaf(u32 row)
{
    u64 leaf;
    struct cpuid_values mask;
    return cpuid_config_row(row, &leaf, &mask) ? leaf : METADATA_ID_NONE;
}

static u64 cpuid_config_value(u32 element)
{
    u64 leaf;
    struct cpuid_values mask;
    if (!cpuid_config_row(element / 2, &leaf, &mask))
        return 0;
    return element % 2 ? mask.ecx | (u64)mask.edx << 32 : mask.eax | (u64)mask.ebx << 32;
}

u64 sys_field_value(const struct metadata_place *place)
{
    const struct soft_platform *p = platform();
    u32 element = place->element;

    switch ((enum metadata_source)place->field->source) {
    case FROM_CONSTANT:
    case FROM_DYNAMIC_PAMT:
    case FROM_TOPOLOGY:
        return place->field->constant;
    case FROM_PACKAGES:
        return p->package_count;
    case FROM_FMS:
        return element ? 0 : p->family_model_stepping;
    case FROM_FEATURES:
        return place->field->constant | p->newer_features;
    case FROM_CMR_BASE:
        return element < p->cmr_count ? p->cmrs[element].base : 0;
    case FROM_CMR_SIZE:
        return element < p->cmr_count ? p->cmrs[element].bytes : 0;
    case FROM_XFAM_FIXED0:
        return xfam_fixed0();
    case FROM_CPUID_LEAF:
        return cpuid_config_leaf(element);
    case FROM_CPUID_VALUE:
        return cpuid_config_value(element);
    default:
        return 0;
    }
}
