/* SPDX-License-Identifier: MIT */
/*
 * The table of metadata fields (tdx/soft/metadata.def) as the module reads it. metadata.c decides
 * who may do what with which bits; sys_fields.c, td_fields.c and vcpu_fields.c know the values.
 */
#ifndef TDX_SOFT_METADATA_H
#define TDX_SOFT_METADATA_H

#include "tdx/soft/objects.h"

#define METADATA_READERS 3
#define METADATA_ID_NONE (~0ull)
#define METADATA_CODE_MASK 0xffffffull

enum metadata_source {
    FROM_NONE, /* it exists, and nobody may read or write it */
    FROM_ZERO, /* of a feature that the module does not have */
    /* SYS */
    FROM_CONSTANT,
    FROM_DYNAMIC_PAMT, /* a constant; there where the platform has Dynamic PAMT alone */
    FROM_TOPOLOGY,     /* ... where it has virtual topology */
    FROM_PACKAGES,
    FROM_FMS,
    FROM_FEATURES,
    FROM_CMR_BASE,
    FROM_CMR_SIZE,
    FROM_XFAM_FIXED0,
    FROM_CPUID_LEAF,
    FROM_CPUID_VALUE,
    /* TD */
    FROM_TDR, /* a member of the structure */
    FROM_TDCS,
    FROM_TDCS_OLDER, /* the same; only where newer modules' control of CPUID is not there, */
    FROM_TDCS_NEWER, /* only where it is */
    FROM_TDCS_PAGE,  /* quadwords of that page */
    FROM_CPUID_COUNT,
    FROM_CPUID_VALID,
    FROM_CPUID_VALUES,
    FROM_XBUFF_SIZE,
    FROM_XBUFF_OFFSET,
    /* VP */
    FROM_VMCS,        /* the field whose encoding is the field code */
    FROM_TDVPS,       /* a member of the structure; KEPT is one too */
    FROM_TDVPS_FIRST, /* ... for the first element; the others are of L2 VMs: 0 */
    FROM_TDVPS_PAGE,  /* quadwords of that page and of those behind it */
    FROM_PIN_CONTROLS,
    FROM_STATE_DETAILS,
    FROM_LAST_TD_EXIT,
};

struct metadata_field {
    u64 id;
    u16 rows, fields, elements;
    u8 source;      /* enum metadata_source */
    u8 step, bytes; /* members: from one element to the next, and of one element */
    u32 offset;     /* members: of the first element; else the page */
    u64 constant;
    struct metadata_masks {
        u64 read[METADATA_READERS], write[METADATA_READERS]; /* by enum metadata_reader */
    } masks;
};

/* For the columns of tdx/soft/metadata.def. */
#define ALL (~0ull)
#define MASKS(host_r, host_w, debug_r, debug_w, guest_r, guest_w) \
    {                                                             \
        {host_r, debug_r, guest_r},                               \
        {                                                         \
            host_w, debug_w, guest_w                              \
        }                                                         \
    }
#define NOBODY MASKS(0, 0, 0, 0, 0, 0)
#define VMM_R MASKS(ALL, 0, ALL, 0, 0, 0)
#define VMM_RW MASKS(ALL, ALL, ALL, ALL, 0, 0)
#define ANY_R MASKS(ALL, 0, ALL, 0, ALL, 0)
#define DEBUG_R MASKS(0, 0, ALL, 0, 0, 0)
#define DEBUG_RW MASKS(0, 0, ALL, ALL, 0, 0)
#define METADATA_ROW(id_, rows_, fields_, elements_, access, ...) \
    {.id = (id_),                                                 \
     .rows = (rows_),                                             \
     .fields = (fields_),                                         \
     .elements = (elements_),                                     \
     .masks = access,                                             \
     __VA_ARGS__},
/* `first`: the member that is element 0. */
#define METADATA_MEMBER(source_, object, first)                       \
    .source = (source_), .step = sizeof(((struct object *)0)->first), \
    .bytes = sizeof(((struct object *)0)->first), .offset = offsetof(struct object, first)

struct metadata_table {
    const struct metadata_field *fields;
    u32 count;
};
extern const struct metadata_table sys_fields, td_fields, vcpu_fields;

/* One element: `element` counts through all rows of the field. */
struct metadata_place {
    const struct metadata_field *field;
    u32 element;
};
u64 metadata_place_id(const struct metadata_place *place);
/* The place of an id that can be read as one element; false if there is none. */
bool metadata_place_find(const struct metadata_context *context, u64 id,
                         struct metadata_place *place);
/* Its id, or, where the reader may not read it, the id of the next one that it may. */
u64 metadata_readable_from(const struct metadata_context *context,
                           const struct metadata_place *place);
/* The bits that an element holds. */
u64 metadata_size_mask(const struct metadata_field *field);
/* A member of `object`. */
u64 metadata_member_read(const void *object, const struct metadata_place *place);
void metadata_member_write(void *object, const struct metadata_place *place, u64 value);

u64 sys_field_value(const struct metadata_place *place);
/* False: not on this platform, not for this TD. */
bool sys_field_is_there(const struct metadata_field *field);
bool td_field_is_there(const struct metadata_context *context, const struct metadata_field *field);

u64 td_field_value(const struct metadata_context *context, const struct metadata_place *place);
/* `mask`: the bits that change. Refuses with the status to answer, or stores `value`. */
u64 td_field_write(const struct metadata_context *context, const struct metadata_place *place,
                   u64 value, u64 mask);
/*
 * CPUID_VALUES: the field code names leaf and subleaf. 0, METADATA_FIELD_ID_INCORRECT, or
 * METADATA_FIELD_NOT_READABLE; and the code of the next element, METADATA_ID_NONE after the last.
 */
u64 td_cpuid_check(u64 code);
u64 td_cpuid_first(void);
u64 td_cpuid_next(u64 code);

u64 vcpu_field_value(const struct metadata_context *context, const struct metadata_place *place);
u64 vcpu_field_write(const struct metadata_context *context, const struct metadata_place *place,
                     u64 value, u64 mask);
/* The values that VP.INIT gives; the vCPU's VMCS is filled and the current one. */
void vcpu_fields_init(struct tdvps *vcpu, const struct tdr *tdr, const struct tdcs *tdcs);
/* An address of the VMM's memory, which is ~0 until it is written. */
bool vcpu_field_is_address(const struct metadata_place *place);

#endif
