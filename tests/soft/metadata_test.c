/* SPDX-License-Identifier: MIT */
/*
 * Metadata fields, all of them: every element is read and written as the VMM, as the VMM of a
 * DEBUG TD and as the guest, with full and partial masks. Rules of the table are said again here,
 * in the test's own words.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/soft/metadata.h"
#include "tdx/soft/system.h"
#include "tdx/soft/vcpu.h"
#include "tdx/soft/vmcs_init.h"
#include "tests/host/cmocka.h"
#include "tests/soft/seam_host.h"

#define PAGES_AT 0x100000ull
#define WALK_MAX 8192
#define CODES 0x7000u
#define VMCS_CODES 0x6c20u
#define CLASSES 64
#define CLASS_SHIFT 56
#define CLASS_CPUID 0x14u
#define FIELD_CR0 0x0024000300006800ull
#define FIELD_CR3 0x0024000300006802ull
#define FIELD_CR4 0x0024000300006804ull
#define FIELD_DEBUGCTL 0x0024000300002802ull
#define FIELD_PML_ADDRESS 0x002400030000200eull
#define FIELD_CONTROLS2 0x002400020000401eull
#define FIELD_XBUFF 0x1220000300000000ull
#define SHARED_PAGE 0x180000ull

static const struct soft_platform platform_modelled = {
    .lp_count = 1,
    .package_count = 1,
    .physical_address_bits = 52,
    .memory_address_bits = 46,
    .gpa_bits = 48,
    .keyid_bits = 6,
    .shared_keyids = 32,
    .private_keyids = 32,
    .cmrs = {{0x100000, 0x6ff00000}},
    .cmr_count = 1,
    .seam_base = 0x7e000000,
    .seam_bytes = 32 * MIB,
    .xfam = ~0ull,
    .tsc_hz = 2000000000,
};

static struct tdr *tdr;
static struct tdcs *tdcs;
static struct tdvps *vcpu;
static struct td td;

static u64 page_number(u32 n)
{
    return PAGES_AT + n * PAGE_BYTES;
}

/* A TD and its only vCPU, as they are after VP.INIT. */
static int start(void **state)
{
    (void)state;
    struct td_params params = {.max_vcpus = 1, .tsc_frequency = 40, .xfam = 3};
    u64 bad_leaf;

    if (soft_install(&platform_modelled) != OK)
        return -1;
    for (u32 i = 0; i <= TDCX_PAGES_MAX + TDVPS_PAGES_MAX_; i++)
        memset(seam_page(page_number(i)), 0, PAGE_BYTES);
    tdr = seam_page(page_number(0));
    for (u32 i = 0; i < TDCX_PAGES_MAX; i++)
        tdr->tdcx[i] = page_number(1 + i);
    tdcs = seam_page(tdr->tdcx[TDCS_PAGE_DATA]);
    td = (struct td){.address = page_number(0), .tdr = tdr, .tdcs = tdcs};
    tdcs->gpa_bits = 48;
    tdcs->xfam = 3;
    tdcs->hp_lock_timeout_us = 1000000;
    if (cpuid_table_configure(td_measured(&td), &params, &bad_leaf))
        return -1;
    vcpu = seam_page(page_number(1 + TDCX_PAGES_MAX));
    for (u32 i = 0; i < TDVPS_PAGES_BASE; i++)
        vcpu->pages[i] = page_number(1 + TDCX_PAGES_MAX + i);
    vcpu->tdvpr = vcpu->pages[0];
    vcpu->posted_descriptor = VCPU_POINTER_NONE;
    vcpu->posted_vector = VCPU_NO_VECTOR;
    vcpu->shared_eptp = tdr->tdcx[TDCS_PAGE_ZERO];
    seam_vmcs_load(vcpu);
    vmcs_init(vcpu, tdr, tdcs);
    vcpu_fields_init(vcpu, tdr, tdcs);
    return 0;
}

static struct metadata_context context_of(enum metadata_scope scope, enum metadata_reader reader)
{
    return (struct metadata_context){.scope = scope, .reader = reader, .td = &td, .vcpu = vcpu};
}

static u64 code_of(u64 status)
{
    return status >> 32;
}

/* --- What the module keeps, all of it --------------------------------------------------------- */

struct snapshot {
    u8 pages[1 + TDCX_PAGES_MAX + TDVPS_PAGES_BASE][PAGE_BYTES];
    u64 vmcs[VMCS_CODES / 2];
};
static struct snapshot before, after;

static void snapshot_take(struct snapshot *snapshot)
{
    for (u32 i = 0; i < ARRAY_LENGTH(snapshot->pages); i++)
        memcpy(snapshot->pages[i], seam_page(page_number(i)), PAGE_BYTES);
    memset(snapshot->vmcs, 0, sizeof snapshot->vmcs);
    for (u32 i = 0; i < vcpu_fields.count; i++) {
        const struct metadata_field *field = &vcpu_fields.fields[i];
        for (u32 n = 0; field->source == FROM_VMCS && n < (u32)field->rows * field->fields; n++) {
            u32 encoding = (u32)(field->id & METADATA_CODE_MASK) + 2 * n;
            snapshot->vmcs[encoding / 2] = seam_vmcs_read(encoding);
        }
    }
}

static u32 bytes_changed(void)
{
    const u8 *a = (const u8 *)&before, *b = (const u8 *)&after;
    u32 count = 0;
    for (size_t i = 0; i < sizeof before; i++)
        count += a[i] != b[i];
    return count;
}

/* --- The order of "next" ---------------------------------------------------------------------- */

static int id_compare(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

/* Follows "next" from the first id. A CPUID leaf that raises #VE ends Intel's walk; not the test's.
 */
static u32 walk(const struct metadata_context *context, u64 *ids)
{
    u32 count = 0, steps = 0;
    u64 id = metadata_first(context), value, next;

    while (id != METADATA_ID_NONE) {
        u64 status = metadata_read(context, id, &value, &next);
        assert_true(steps++ < WALK_MAX);
        if (code_of(status) == TDX_METADATA_FIELD_NOT_READABLE &&
            (id >> CLASS_SHIFT & (CLASSES - 1)) == CLASS_CPUID) {
            u64 code = td_cpuid_next(id & METADATA_CODE_MASK);
            assert_true(code != METADATA_ID_NONE);
            id = (id & ~METADATA_CODE_MASK) | code;
            continue;
        }
        assert_int_equal(status, 0);
        ids[count++] = id;
        id = next;
    }
    return count;
}

static u32 readable_codes(const struct metadata_context *context, u32 class, u32 limit)
{
    u64 value;
    u32 count = 0;
    for (u32 code = 0; code < limit; code++)
        count += !metadata_read(context, (u64) class << CLASS_SHIFT | code, &value, NULL);
    return count;
}

static void walk_check(enum metadata_scope scope, enum metadata_reader reader)
{
    static u64 ids[WALK_MAX];
    struct metadata_context context = context_of(scope, reader);
    u32 count = walk(&context, ids), found = 0, cpuid = 0;

    qsort(ids, count, sizeof ids[0], id_compare);
    for (u32 i = 1; i < count; i++)
        assert_true(ids[i - 1] != ids[i]);
    for (u32 i = 0; i < count; i++)
        cpuid += scope == METADATA_TD && (ids[i] >> CLASS_SHIFT & (CLASSES - 1)) == CLASS_CPUID;
    /* Each element that can be read was met, and nothing else. */
    for (u32 class = 0; class < CLASSES; class ++)
        if (scope != METADATA_TD || class != CLASS_CPUID)
            found += readable_codes(&context, class, CODES);
    assert_int_equal(count - cpuid, found);
    assert_true(!cpuid || cpuid % 2 == 0);
}

static void next_walks_every_readable_element_once(void **state)
{
    (void)state;
    walk_check(METADATA_SYS, METADATA_HOST);
    walk_check(METADATA_SYS, METADATA_GUEST);
    for (enum metadata_reader reader = METADATA_HOST; reader <= METADATA_GUEST; reader++) {
        walk_check(METADATA_TD, reader);
        walk_check(METADATA_VP, reader);
    }
}

static void each_first_and_last_id_is_intels(void **state)
{
    (void)state;
    static u64 ids[WALK_MAX];
    static const struct {
        enum metadata_scope scope;
        enum metadata_reader reader;
        u64 first, last;
    } rows[] = {
        {METADATA_SYS, METADATA_HOST, 0x0000000200000000, 0xa200000300000006},
        {METADATA_TD, METADATA_HOST, 0x8010000000000001, 0x9a100003000001ff},
        {METADATA_TD, METADATA_HOST_DEBUG, 0x8010000000000001, 0x21100003000001ff},
        {METADATA_TD, METADATA_GUEST, 0x8010000300000020, 0x991000030000008f},
        {METADATA_VP, METADATA_HOST, 0x0024000100000002, 0xa02000030000001e},
        {METADATA_VP, METADATA_HOST_DEBUG, 0x0024000100000000, 0xa22000030000021f},
        {METADATA_VP, METADATA_GUEST, 0xa020000200000002, 0xa12000000000007f},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct metadata_context context = context_of(rows[i].scope, rows[i].reader);
        u32 count = walk(&context, ids);
        assert_true(count > 0);
        assert_int_equal(ids[0], rows[i].first);
        assert_int_equal(ids[count - 1], rows[i].last);
    }
}

/* --- Reads and writes ------------------------------------------------------------------------- */

static u64 width_mask(u64 id)
{
    u32 bits = 8u << (id >> 32 & 3);
    return bits == 64 ? ~0ull : (1ull << bits) - 1;
}

/* Fields whose values have rules of their own, each with a test of its own. */
static bool has_own_rules(enum metadata_scope scope, u64 id)
{
    static const u64 ids[] = {
        FIELD_CR0,
        FIELD_CR3,
        FIELD_CR4,
        FIELD_DEBUGCTL,
        FIELD_PML_ADDRESS,
        FIELD_CONTROLS2,
        MD_VP_PIN_CONTROLS,
        MD_VP_POSTED_INTR_NV,
        MD_VP_SHARED_EPTP,
        MD_VP_POSTED_INTR_DESC,
        MD_TD_HP_LOCK_TIMEOUT,
        MD_TD_TD_CTLS,
    };
    for (u32 i = 0; i < ARRAY_LENGTH(ids); i++)
        if (ids[i] == id)
            return true;
    u64 element = id - FIELD_XBUFF;
    return scope == METADATA_VP && (element == 3 || (element >= 64 && element < 72));
}

static u64 read_as(enum metadata_scope scope, enum metadata_reader reader, u64 id)
{
    struct metadata_context context = context_of(scope, reader);
    u64 value = 0;
    (void)metadata_read(&context, id, &value, NULL);
    return value;
}

/* The whole value: somebody who may write a field may read it as the VMM of a DEBUG TD. */
static u64 whole(enum metadata_scope scope, u64 id)
{
    return read_as(scope, METADATA_HOST_DEBUG, id);
}

static void refused_write_check(const struct metadata_context *context, u64 id, u64 value, u64 mask,
                                u32 code)
{
    u64 previous = 1;
    assert_int_equal(code_of(metadata_write(context, id, value, mask, &previous)), code);
    assert_int_equal(previous, 0);
}

/* One write of an ordinary field, and the write that takes it back. */
static void write_check(const struct metadata_context *context, const struct metadata_field *field,
                        u64 id, u64 value, u64 mask)
{
    u64 allowed = field->masks.write[context->reader] & width_mask(id);
    u64 old = whole(context->scope, id), changed = mask & allowed;
    bool is_whole_vp = context->scope == METADATA_VP && changed == width_mask(id);
    u64 base = is_whole_vp ? 0 : old, previous = 1;

    if (!changed) {
        refused_write_check(context, id, value, mask, TDX_METADATA_FIELD_NOT_WRITABLE);
        return;
    }
    if ((value ^ base) & mask & ~allowed) {
        refused_write_check(context, id, value, mask, TDX_METADATA_FIELD_VALUE_NOT_VALID);
        value = (value & allowed) | (base & ~allowed);
    }
    assert_int_equal(metadata_write(context, id, value, mask, &previous), 0);
    assert_int_equal(previous, old & field->masks.read[context->reader]);
    assert_int_equal(whole(context->scope, id), (old & ~changed) | (value & changed));
    value = (old & changed) | (base & ~changed);
    assert_int_equal(metadata_write(context, id, value, mask, &previous), 0);
}

static const u64 masks[] = {
    0, 1, 0xff, 0xff00, 0x5555555555555555, 0xffff, 0xffffffff, 0xffffffff00000000, ~0ull,
};
static const u64 values[] = {0, 1, 0x96, 0xa5a5a5a5a5a5a5a5, ~0ull};

static void element_check(const struct metadata_context *context,
                          const struct metadata_field *field, u64 id)
{
    u64 value, next;
    u64 status = metadata_read(context, id, &value, &next);

    assert_int_equal(code_of(status),
                     field->masks.read[context->reader] ? 0 : TDX_METADATA_FIELD_NOT_READABLE);
    assert_false(value & ~(field->masks.read[context->reader] & width_mask(id)));
    if (status)
        assert_true(!value && next == METADATA_ID_NONE);
    for (u32 m = 0; m < ARRAY_LENGTH(masks) && !has_own_rules(context->scope, id); m++)
        for (u32 v = 0; v < ARRAY_LENGTH(values); v++)
            write_check(context, field, id, values[v], masks[m]);
}

/* Rows of features that this TD does not have are not there, and few. */
#define ROWS_ABSENT_MAX 8

static void table_check(enum metadata_scope scope, enum metadata_reader reader)
{
    const struct metadata_table table = scope == METADATA_TD ? td_fields : vcpu_fields;
    struct metadata_context context = context_of(scope, reader);
    u32 absent = 0;

    for (u32 i = 0; i < table.count; i++) {
        const struct metadata_field *field = &table.fields[i];
        u32 elements = (u32)field->rows * field->fields * field->elements;
        struct metadata_place place;
        if (!metadata_place_find(&context, field->id, &place) || place.field != field) {
            absent++;
            continue;
        }
        for (u32 n = 0; field->source != FROM_CPUID_VALUES && n < elements; n++)
            element_check(&context, field, metadata_place_id(&(struct metadata_place){field, n}));
    }
    assert_in_range(absent, 0, ROWS_ABSENT_MAX);
}

static void a_write_changes_the_masked_bits_and_a_refused_one_nothing(void **state)
{
    (void)state;
    snapshot_take(&before);
    for (enum metadata_reader reader = METADATA_HOST; reader <= METADATA_GUEST; reader++) {
        table_check(METADATA_TD, reader);
        table_check(METADATA_VP, reader);
    }
    /* Each write was taken back, so that all is as it was. */
    snapshot_take(&after);
    assert_int_equal(bytes_changed(), 0);
}

/* A write is seen in its field alone. */
static void a_write_reaches_no_other_field(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_VP, METADATA_HOST_DEBUG);
    u64 previous;

    for (u32 i = 0; i < vcpu_fields.count; i++) {
        const struct metadata_field *field = &vcpu_fields.fields[i];
        u64 id = metadata_place_id(&(struct metadata_place){field, 0});
        u64 allowed = field->masks.write[METADATA_HOST_DEBUG] & width_mask(id);
        if (!allowed || has_own_rules(METADATA_VP, id))
            continue;
        snapshot_take(&before);
        u64 old = whole(METADATA_VP, id);
        assert_int_equal(metadata_write(&context, id, ~old & allowed, allowed, &previous), 0);
        snapshot_take(&after);
        assert_in_range(bytes_changed(), 1, 8);
        assert_int_equal(metadata_write(&context, id, old & allowed, allowed, &previous), 0);
    }
}

static void nothing_of_the_module_can_be_written(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_SYS, METADATA_HOST);
    for (u32 i = 0; i < sys_fields.count; i++)
        refused_write_check(&context, sys_fields.fields[i].id, 0, ~0ull,
                            TDX_METADATA_FIELD_ID_INCORRECT);
}

/* The VMM of a DEBUG TD may do whatever the VMM may, and sees the same. */
static void a_debug_td_hides_nothing_more(void **state)
{
    (void)state;
    const struct metadata_table tables[] = {td_fields, vcpu_fields};
    for (u32 t = 0; t < ARRAY_LENGTH(tables); t++)
        for (u32 i = 0; i < tables[t].count; i++) {
            const struct metadata_masks *m = &tables[t].fields[i].masks;
            assert_false(m->read[METADATA_HOST] & ~m->read[METADATA_HOST_DEBUG]);
            assert_false(m->write[METADATA_HOST] & ~m->write[METADATA_HOST_DEBUG]);
            for (u32 r = 0; r < METADATA_READERS; r++)
                assert_false(m->write[r] & ~m->read[r] & width_mask(tables[t].fields[i].id));
        }
}

/* --- Ids -------------------------------------------------------------------------------------- */

static void reserved_bits_of_an_id_are_refused_and_others_ignored(void **state)
{
    (void)state;
    const u64 id = 0x1020000300000000ull; /* RAX */
    const u64 ignored = 7ull << 52 | 3ull << 32 | 1ull << 50 | 1ull << 51 | 1ull << 63;
    struct metadata_context context = context_of(METADATA_VP, METADATA_HOST_DEBUG);
    u64 value, next;

    for (u32 bit = 24; bit < 64; bit++) {
        bool is_class = bit >= 56 && bit < 62;
        if (is_class)
            continue;
        u64 status = metadata_read(&context, id ^ 1ull << bit, &value, &next);
        assert_int_equal(code_of(status), ignored >> bit & 1 ? 0 : TDX_METADATA_FIELD_ID_INCORRECT);
        assert_int_equal(next, status ? METADATA_ID_NONE : 0x1020000300000001ull);
    }
    /* Only half a field of the VMCS. */
    assert_int_equal(code_of(metadata_read(&context, 0x0024000300002011ull, &value, &next)),
                     TDX_METADATA_FIELD_ID_INCORRECT);
    /* Fields that the VMCS has and the table has not. */
    assert_int_equal(code_of(metadata_read(&context, 0x0024000300006c00ull, &value, &next)),
                     TDX_METADATA_FIELD_ID_INCORRECT);
}

/* The VMCS says the width in the encoding, the id in its size bits; no row hides another. */
static void a_vmcs_field_has_the_width_of_its_encoding(void **state)
{
    (void)state;
    static const u8 size_codes[] = {1, 3, 2, 3}; /* 16 bits, 64, 32, a register's */
    struct metadata_context context = context_of(METADATA_VP, METADATA_HOST_DEBUG);
    u32 fields_found = 0;

    for (u32 i = 0; i < vcpu_fields.count; i++) {
        const struct metadata_field *field = &vcpu_fields.fields[i];
        u32 elements = (u32)field->rows * field->fields * field->elements;
        for (u32 n = 0; n < elements; n++) {
            struct metadata_place place, wanted = {field, n};
            u64 id = metadata_place_id(&wanted);
            assert_true(metadata_place_find(&context, id, &place));
            assert_true(place.field == field && place.element == n);
            if (id >> CLASS_SHIFT)
                continue;
            assert_int_equal(id >> 32 & 3, size_codes[id >> 13 & 3]);
            fields_found++;
        }
    }
    assert_true(fields_found > 100);
}

static void next_keeps_ignored_bits_within_a_row(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_TD, METADATA_HOST);
    u64 value, next;

    /* XBUFF_OFFSETS by an id of another size and without NON_ARCH; the context is put right. */
    assert_int_equal(metadata_read(&context, 0x1140000300000801ull, &value, &next), 0);
    assert_int_equal(next, 0x1110000300000802ull);
    assert_int_equal(metadata_read(&context, 0x1140000300000812ull, &value, &next), 0);
    assert_int_equal(next, 0x9210000300000000ull);
}

static void an_l2_vm_brings_its_root(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_TD, METADATA_HOST_DEBUG);
    u64 value, next;

    for (u8 vms = 0; vms <= 3; vms++) {
        tdcs->num_l2_vms = vms;
        for (u64 vm = 1; vm <= 3; vm++) {
            u64 id = 0x2110000300000000ull + (vm << (CLASS_SHIFT + 2));
            assert_int_equal(code_of(metadata_read(&context, id, &value, &next)),
                             vm <= vms ? 0 : TDX_METADATA_FIELD_ID_INCORRECT);
        }
    }
}

/* --- Fields with rules of their own ----------------------------------------------------------- */

static u64 debug_write(u64 id, u64 value, u64 mask)
{
    struct metadata_context context = context_of(METADATA_VP, METADATA_HOST_DEBUG);
    u64 previous;
    return metadata_write(&context, id, value, mask, &previous);
}

static void debug_write_refused(u64 id, u64 value, u64 mask, u32 code)
{
    snapshot_take(&before);
    assert_int_equal(code_of(debug_write(id, value, mask)), code);
    snapshot_take(&after);
    assert_int_equal(bytes_changed(), 0);
}

static void control_registers_keep_the_modules_bits(void **state)
{
    (void)state;
    /* As the guest sees them: NE and PE are set, VMXE is not. */
    assert_int_equal(debug_write(FIELD_CR0, CR0_PE | CR0_NE | CR0_WP, ~0ull), 0);
    assert_true(seam_vmcs_read(VMCS_GUEST_CR0) & CR0_WP);
    debug_write_refused(FIELD_CR0, CR0_PE, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(FIELD_CR4, CR4_MCE | CR4_OSXSAVE, ~0ull), 0);
    assert_int_equal(seam_vmcs_read(VMCS_GUEST_CR4), CR4_MCE | CR4_VMXE | CR4_OSXSAVE);
    debug_write_refused(FIELD_CR4, CR4_MCE | CR4_VMXE, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
}

static void cr3_is_a_private_address(void **state)
{
    (void)state;
    assert_int_equal(debug_write(FIELD_CR3, 0x7ffffffff018, ~0ull), 0);
    debug_write_refused(FIELD_CR3, 1ull << 47, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    debug_write_refused(FIELD_CR3, 0x1020, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(seam_vmcs_read(VMCS_GUEST_CR3), 0x7ffffffff018);
}

static void debugctl_has_no_bit_of_the_vmms(void **state)
{
    (void)state;
    assert_int_equal(debug_write(FIELD_DEBUGCTL, 0x2002, 0xffc7), 0);
    assert_int_equal(seam_vmcs_read(VMCS_GUEST_DEBUGCTL), 2);
}

static void posted_interrupts_need_vector_and_descriptor(void **state)
{
    (void)state;
    u64 bit = MD_VP_PIN_POSTED_INTERRUPTS;

    assert_int_equal(debug_write(MD_VP_PIN_CONTROLS, bit, bit),
                     completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_NV));
    debug_write_refused(MD_VP_POSTED_INTR_NV, 256, 0xffff, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(MD_VP_POSTED_INTR_NV, 0xf2, 0xffff), 0);
    assert_int_equal(debug_write(MD_VP_PIN_CONTROLS, bit, bit),
                     completion(TDX_TD_VMCS_FIELD_NOT_INITIALIZED, VMCS_POSTED_INTR_DESC_ADDR));
    debug_write_refused(MD_VP_POSTED_INTR_DESC, SHARED_PAGE | 0x20, ~0ull,
                        TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(MD_VP_POSTED_INTR_DESC, SHARED_PAGE | 0x40, ~0x3full), 0);
    assert_int_equal(vcpu->posted_descriptor, SHARED_PAGE | 0x40);
    assert_int_equal(debug_write(MD_VP_PIN_CONTROLS, bit, bit), 0);
    assert_true(vcpu->posted_enabled);
    assert_int_equal(read_as(METADATA_VP, METADATA_HOST, MD_VP_PIN_CONTROLS), bit);
    assert_int_equal(debug_write(MD_VP_PIN_CONTROLS, 0, bit), 0);
    assert_false(vcpu->posted_enabled);
}

/* An address that was never set is ones: parts of it make none, and its reserved bits go. */
static void addresses_are_the_vmms_memory(void **state)
{
    (void)state;
    const u64 in_seam = platform_modelled.seam_base, private = 32ull << 46 | SHARED_PAGE;

    debug_write_refused(MD_VP_POSTED_INTR_DESC, SHARED_PAGE, 0xffffc0,
                        TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(MD_VP_POSTED_INTR_DESC, SHARED_PAGE, ~0ull), 0);
    assert_int_equal(vcpu->posted_descriptor, SHARED_PAGE);
    assert_int_equal(debug_write(MD_VP_POSTED_INTR_DESC, 0x40, 0xc0), 0);
    assert_int_equal(vcpu->posted_descriptor, SHARED_PAGE | 0x40);
    debug_write_refused(MD_VP_SHARED_EPTP, in_seam, TDX_ADDRESS_MASK,
                        TDX_METADATA_FIELD_VALUE_NOT_VALID);
    debug_write_refused(MD_VP_SHARED_EPTP, private, TDX_ADDRESS_MASK,
                        TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(MD_VP_SHARED_EPTP, SHARED_PAGE, TDX_ADDRESS_MASK), 0);
    assert_int_equal(vcpu->shared_eptp, SHARED_PAGE);
    assert_int_equal(whole(METADATA_VP, 0xa0200003000000b4ull), SHARED_PAGE);
}

static void pml_needs_a_log(void **state)
{
    (void)state;
    const u64 pml = 1ull << 17;

    debug_write_refused(FIELD_CONTROLS2, pml, pml, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(FIELD_CONTROLS2, 1u << 10, 1u << 10), 0);
    assert_int_equal(debug_write(FIELD_PML_ADDRESS, SHARED_PAGE, ~0xfffull), 0);
    assert_int_equal(whole(METADATA_VP, FIELD_PML_ADDRESS), SHARED_PAGE);
    assert_int_equal(debug_write(FIELD_CONTROLS2, pml, pml), 0);
    assert_true(whole(METADATA_VP, FIELD_CONTROLS2) & pml);
}

static void the_xsave_header_is_the_modules(void **state)
{
    (void)state;
    for (u64 element = 64; element < 72; element++)
        debug_write_refused(FIELD_XBUFF + element, 1, ~0ull, TDX_METADATA_FIELD_NOT_WRITABLE);
    debug_write_refused(FIELD_XBUFF + 3, 1ull << 16, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(debug_write(FIELD_XBUFF + 1535, 5, ~0ull), 0);
    assert_int_equal(((u64 *)seam_page(vcpu->pages[5]))[511], 5);
}

static void the_lock_timeout_has_bounds_and_no_parts(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_TD, METADATA_HOST);
    u64 previous;
    u64 id = MD_TD_HP_LOCK_TIMEOUT;

    assert_int_equal(code_of(metadata_write(&context, id, 20000, ~1ull, &previous)),
                     TDX_METADATA_WR_MASK_NOT_VALID);
    refused_write_check(&context, id, 9999, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    refused_write_check(&context, id, 100000001, ~0ull, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(metadata_write(&context, id, 10000, ~0ull, &previous), 0);
    assert_int_equal(previous, 1000000);
    assert_int_equal(tdcs->hp_lock_timeout_us, 10000);
}

static void pending_ve_is_flexible_where_the_vmm_says_so(void **state)
{
    (void)state;
    struct metadata_context context = context_of(METADATA_TD, METADATA_GUEST);
    u64 previous;

    refused_write_check(&context, MD_TD_TD_CTLS, 1, 1, TDX_METADATA_FIELD_VALUE_NOT_VALID);
    assert_int_equal(metadata_write(&context, MD_TD_TD_CTLS, 0, 1, &previous), 0);
    tdcs->config_flags = TD_CONFIG_FLEXIBLE_PENDING_VE;
    assert_int_equal(metadata_write(&context, MD_TD_TD_CTLS, 1, 1, &previous), 0);
    assert_int_equal(tdcs->td_ctls, TD_CTLS_PENDING_VE_DISABLE);
}

/* --- Lists ------------------------------------------------------------------------------------ */

/* A list says of each element what a read says, each once, in the order of "next". */
static void list_check(enum metadata_reader reader)
{
    static u64 list[PAGE_BYTES / 8], ids[WALK_MAX];
    struct metadata_context context = context_of(METADATA_SYS, reader);
    u64 id = METADATA_ID_NONE;
    u32 count = walk(&context, ids), met = 0, at = 1;

    assert_int_equal(metadata_list(&context, &id, list), 0);
    assert_int_equal(id, METADATA_ID_NONE);
    for (u64 sequence = list[0] >> 16 & 0xffff; sequence; sequence--) {
        u64 first = list[at++];
        u64 elements = ((first >> 34 & 0xf) + 1) * ((first >> 38 & 0x1ff) + 1);
        for (u64 n = 0; n < elements; n++, at++, met++) {
            assert_true(met < count);
            /* NON_ARCH may change within a sequence; what names the field does not. */
            u64 here = (first & ~(0x1fffull << 34)) + n;
            assert_int_equal((here ^ ids[met]) & ~(1ull << 63), 0);
            assert_int_equal(list[at], read_as(METADATA_SYS, reader, ids[met]));
        }
    }
    assert_int_equal(met, count);
    assert_int_equal(list[0] & 0xffff, at * sizeof(u64));
}

static void a_list_is_what_reads_say(void **state)
{
    (void)state;
    list_check(METADATA_HOST);
    list_check(METADATA_GUEST);
}

static void a_list_begins_at_a_field(void **state)
{
    (void)state;
    static u64 list[PAGE_BYTES / 8];
    struct metadata_context context = context_of(METADATA_SYS, METADATA_GUEST);
    static const struct {
        u64 id;
        u32 code;
        u64 first;
    } rows[] = {
        {0x9900000300000501, TDX_METADATA_FIELD_ID_INCORRECT, 0}, /* the second half */
        {0x0800000100000000, TDX_METADATA_FIELD_ID_INCORRECT, 0}, /* another size */
        {0x0800000200000007, TDX_METADATA_FIELD_ID_INCORRECT, 0},
        {0xa000000100000010, 0, 0xa000000100000010},
        {0x9900000300000502, 0, 0xa000000300000000}, /* the VMM's alone: the next one */
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        u64 id = rows[i].id;
        assert_int_equal(code_of(metadata_list(&context, &id, list)), rows[i].code);
        assert_int_equal(id, METADATA_ID_NONE);
        if (!rows[i].code)
            assert_int_equal(list[1] & ~(0x1fffull << 34), rows[i].first);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(next_walks_every_readable_element_once),
        TEST(each_first_and_last_id_is_intels),
        TEST(a_write_changes_the_masked_bits_and_a_refused_one_nothing),
        TEST(a_write_reaches_no_other_field),
        TEST(nothing_of_the_module_can_be_written),
        TEST(a_debug_td_hides_nothing_more),
        TEST(reserved_bits_of_an_id_are_refused_and_others_ignored),
        TEST(a_vmcs_field_has_the_width_of_its_encoding),
        TEST(next_keeps_ignored_bits_within_a_row),
        TEST(an_l2_vm_brings_its_root),
        TEST(control_registers_keep_the_modules_bits),
        TEST(cr3_is_a_private_address),
        TEST(debugctl_has_no_bit_of_the_vmms),
        TEST(posted_interrupts_need_vector_and_descriptor),
        TEST(addresses_are_the_vmms_memory),
        TEST(pml_needs_a_log),
        TEST(the_xsave_header_is_the_modules),
        TEST(the_lock_timeout_has_bounds_and_no_parts),
        TEST(pending_ve_is_flexible_where_the_vmm_says_so),
        TEST(a_list_is_what_reads_say),
        TEST(a_list_begins_at_a_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
