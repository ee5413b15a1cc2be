/* SPDX-License-Identifier: MIT */
/*
 * Instructions on device memory: decoded as an assembler encoded them (mmio_instructions.asm), and
 * executed as this processor executes them. A guest's page tables, walked in every mode.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "vmm/guest_walk.h"
#include "vmm/mmio_decode.h"

struct record {
    u8 mode, len, operation, size, register_size, reg, high, immediate_there, to_register, spare[7];
    i64 immediate;
    u8 bytes[24];
};
_Static_assert(sizeof(struct record) == 48, "mmio_instructions.asm");

#define RECORDS_MAX 2000
static struct record records[RECORDS_MAX];
static u32 record_count;

static int read_records(void **state)
{
    (void)state;
    FILE *file = fopen("build/host/mmio_instructions.bin", "rb");
    assert_non_null(file);
    record_count = (u32)fread(records, sizeof records[0], RECORDS_MAX, file);
    fclose(file);
    assert_in_range(record_count, 400, RECORDS_MAX - 1);
    return 0;
}

static void every_encoding_is_understood(void **state)
{
    (void)state;
    for (u32 i = 0; i < record_count; i++) {
        const struct record *r = &records[i];
        struct mmio_instruction seen;
        if (mmio_decode(r->bytes, sizeof r->bytes, r->mode, &seen))
            fail_msg("record %u, %02x %02x %02x %02x in %u-bit mode: not understood", i,
                     r->bytes[0], r->bytes[1], r->bytes[2], r->bytes[3], r->mode);
        if (seen.len_bytes != r->len)
            fail_msg("record %u: %u bytes, not %u", i, seen.len_bytes, r->len);
        assert_int_equal(seen.operation, r->operation);
        assert_int_equal(seen.size_bytes, r->size);
        assert_int_equal(seen.has_immediate, r->immediate_there);
        assert_int_equal(seen.to_register, r->to_register);
        if (r->immediate_there) {
            assert_int_equal(seen.immediate, (u64)r->immediate);
            continue;
        }
        assert_int_equal(seen.register_bytes, r->register_size);
        assert_int_equal(seen.reg, r->reg);
        assert_int_equal(seen.high_byte, r->high);
    }
}

/* The bytes end where the buffer does, so that the address sanitizer sees a read beyond. */
static void what_is_cut_off_is_refused(void **state)
{
    (void)state;
    for (u32 i = 0; i < record_count; i++) {
        for (u32 len = 0; len <= records[i].len; len++) {
            struct mmio_instruction seen;
            u8 *bytes = malloc(len ? len : 1);
            memcpy(bytes, records[i].bytes, len);
            assert_int_equal(mmio_decode(bytes, len, records[i].mode, &seen),
                             len == records[i].len ? OK : ERR_RANGE);
            free(bytes);
        }
    }
}

static void what_is_none_of_them_is_refused(void **state)
{
    (void)state;
    static const struct {
        u32 mode;
        u8 bytes[15];
    } rows[] = {
        {64, {0x89, 0xc8}},       /* mov eax, ecx: no memory */
        {64, {0xf3, 0xa5}},       /* rep movsd */
        {64, {0xaa}},             /* stosb */
        {64, {0xff, 0x37}},       /* push [rdi] */
        {64, {0x0f, 0x11, 0x07}}, /* movups [rdi], xmm0 */
        {64, {0xc7, 0x4f, 0}},    /* /1 of MOV's group */
        {64, {0x80, 0x17, 1}},    /* adc [rdi], 1 */
        {64, {0xf6, 0x1f}},       /* neg [rdi] */
        {32, {0x63, 0x07}},       /* arpl [edi], ax */
        {64, {0xc4, 0xe2, 0x79, 0x18, 0x07}},
        {64, {0xcc}},
    };
    struct mmio_instruction seen;
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        assert_int_equal(mmio_decode(rows[i].bytes, sizeof rows[i].bytes, rows[i].mode, &seen),
                         ERR_UNSUPPORTED);
    /* A REX prefix is none where another prefix follows; 15 bytes are the most there may be. */
    static const u8 late[] = {0x48, 0x66, 0x8b, 0x07};
    assert_int_equal(mmio_decode(late, sizeof late, 64, &seen), ERR_UNSUPPORTED);
    u8 many[20];
    memset(many, 0x3e, sizeof many);
    many[13] = 0x8b;
    many[14] = 0x07;
    assert_int_equal(mmio_decode(many, sizeof many, 64, &seen), OK);
    assert_int_equal(seen.len_bytes, 15);
    many[13] = 0x3e;
    many[14] = 0x8b;
    many[15] = 0x07;
    assert_int_equal(mmio_decode(many, sizeof many, 64, &seen), ERR_RANGE);
}

/* Whatever the bytes are, no more than 15 are taken. */
static void noise_is_survived(void **state)
{
    (void)state;
    srand(1);
    for (u32 i = 0; i < 200000; i++) {
        u8 bytes[INSTRUCTION_BYTES_MAX];
        struct mmio_instruction seen;
        for (u32 k = 0; k < sizeof bytes; k++)
            bytes[k] = (u8)rand();
        if (mmio_decode(bytes, (u32)rand() % 16, 16u << rand() % 3, &seen) == OK)
            assert_in_range(seen.len_bytes, 2, INSTRUCTION_BYTES_MAX);
    }
}

#define FLAGS 0x8d5ull            /* OF SF ZF AF PF CF */
#define FLAGS_BUT_ADJUST 0x8c5ull /* logic leaves AF undefined */

/* `left` becomes the result; the flags are the return value. */
#define NATIVE(mnemonic, type)                                    \
    static u64 native_##mnemonic##_##type(u64 *left, u64 right)   \
    {                                                             \
        type l = (type)*left, r = (type)right;                    \
        u64 flags;                                                \
        __asm__ volatile(#mnemonic " %2, %0\n\tpushfq\n\tpopq %1" \
                         : "+r"(l), "=r"(flags)                   \
                         : "r"(r)                                 \
                         : "cc", "memory");                       \
        *left = l;                                                \
        return flags;                                             \
    }
#define NATIVE_SIZES(mnemonic) \
    NATIVE(mnemonic, u8) NATIVE(mnemonic, u16) NATIVE(mnemonic, u32) NATIVE(mnemonic, u64)
NATIVE_SIZES(add)
NATIVE_SIZES(or)
NATIVE_SIZES(and)
NATIVE_SIZES(sub)
NATIVE_SIZES(xor)
NATIVE_SIZES(cmp)
NATIVE_SIZES(test)

#define ROW(operation, mnemonic, flags)                                               \
    {                                                                                 \
        operation, flags,                                                             \
        {                                                                             \
            native_##mnemonic##_u8, native_##mnemonic##_u16, native_##mnemonic##_u32, \
                native_##mnemonic##_u64                                               \
        }                                                                             \
    }
static const struct {
    enum mmio_operation operation;
    u64 flags;
    u64 (*native[4])(u64 *left, u64 right);
} natives[] = {
    ROW(MMIO_ADD, add, FLAGS),
    ROW(MMIO_OR, or, FLAGS_BUT_ADJUST),
    ROW(MMIO_AND, and, FLAGS_BUT_ADJUST),
    ROW(MMIO_SUBTRACT, sub, FLAGS),
    ROW(MMIO_XOR, xor, FLAGS_BUT_ADJUST),
    ROW(MMIO_COMPARE, cmp, FLAGS),
    ROW(MMIO_TEST, test, FLAGS_BUT_ADJUST),
};

static u64 random_value(void)
{
    static const u64 edges[] = {0,
                                1,
                                0x7f,
                                0x80,
                                0xff,
                                0x7fff,
                                0x8000,
                                0xffff,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                ~0ull};
    if (rand() % 2)
        return edges[(u32)rand() % ARRAY_LENGTH(edges)];
    return (u64)rand() << 42 ^ (u64)rand() << 21 ^ (u64)rand();
}

static u64 mask_of(u32 bytes)
{
    return ~0ull >> (64 - 8 * bytes);
}

static void arithmetic_is_this_processor_s(void **state)
{
    (void)state;
    srand(2);
    for (u32 i = 0; i < 200000; i++) {
        u32 row = (u32)rand() % ARRAY_LENGTH(natives), size = (u32)rand() % 4;
        struct mmio_instruction instruction = {.operation = natives[row].operation,
                                               .size_bytes = 1u << size,
                                               .register_bytes = 1u << size,
                                               .to_register = rand() % 2};
        u64 memory = random_value(), reg = random_value(), old = reg, flags = 0x202 | FLAGS;
        u64 left = instruction.to_register ? reg : memory;
        u64 right = instruction.to_register ? memory : reg;
        u64 want_flags = natives[row].native[size](&left, right);
        u64 mask = mask_of(1u << size);
        u64 result = mmio_execute(&instruction, memory, &reg, &flags);
        assert_int_equal(flags & natives[row].flags, want_flags & natives[row].flags);
        assert_int_equal(flags & ~FLAGS, 0x202);
        bool compares = instruction.operation == MMIO_COMPARE || instruction.operation == MMIO_TEST;
        assert_int_equal(mmio_writes(&instruction), !instruction.to_register && !compares);
        if (compares || !instruction.to_register)
            assert_int_equal(reg, old);
        else
            assert_int_equal(reg, size >= 2 ? left & mask : (old & ~mask) | (left & mask));
        if (mmio_writes(&instruction))
            assert_int_equal(result, left & mask);
    }
}

static void loads_and_stores_touch_what_they_name(void **state)
{
    (void)state;
    const u64 old = 0x1122334455667788, memory = 0x99aabbccddeeff81;
    u64 flags = 0x246, reg = old;
    struct mmio_instruction load = {MMIO_LOAD, .size_bytes = 1, .register_bytes = 1};
    (void)mmio_execute(&load, memory, &reg, &flags);
    assert_int_equal(reg, 0x1122334455667781);
    load.high_byte = true;
    (void)mmio_execute(&load, memory, &reg, &flags);
    assert_int_equal(reg, 0x1122334455668181);
    load = (struct mmio_instruction){MMIO_LOAD, .size_bytes = 4, .register_bytes = 4};
    (void)mmio_execute(&load, memory, &reg, &flags);
    assert_int_equal(reg, 0xddeeff81);
    load = (struct mmio_instruction){MMIO_LOAD_SIGNED, .size_bytes = 1, .register_bytes = 8};
    (void)mmio_execute(&load, memory, &reg, &flags);
    assert_int_equal(reg, 0xffffffffffffff81);
    load.register_bytes = 4;
    (void)mmio_execute(&load, memory, &reg, &flags);
    assert_int_equal(reg, 0xffffff81);
    struct mmio_instruction exchange = {MMIO_EXCHANGE, .size_bytes = 2, .register_bytes = 2};
    reg = old;
    assert_int_equal(mmio_execute(&exchange, memory, &reg, &flags), 0x7788);
    assert_int_equal(reg, 0x112233445566ff81);
    struct mmio_instruction store = {MMIO_STORE, .size_bytes = 1, .register_bytes = 1};
    store.high_byte = true;
    reg = old;
    assert_int_equal(mmio_execute(&store, 0, &reg, &flags), 0x77);
    store = (struct mmio_instruction){MMIO_STORE, .size_bytes = 4, .has_immediate = true,
                                      .immediate = (u64)-5};
    assert_int_equal(mmio_execute(&store, 0, &reg, &flags), 0xfffffffb);
    assert_false(mmio_reads(&store));
    assert_int_equal(reg, old);
    assert_int_equal(flags, 0x246);
}

/* A guest's memory of 64 KiB for tables. */
static u8 tables[0x10000];

static bool read_tables(void *context, gpa_t address, void *bytes, u32 len_bytes)
{
    (void)context;
    if (address.raw >= sizeof tables || len_bytes > sizeof tables - address.raw)
        return false;
    memcpy(bytes, tables + address.raw, len_bytes);
    return true;
}

static void entry_set(u64 table, u32 index, u32 bytes, u64 value)
{
    memcpy(tables + table + index * bytes, &value, bytes);
}

static void walks_to(const struct guest_paging *paging, u64 linear, u64 wanted)
{
    gpa_t address = gpa(~0ull);
    assert_true(guest_walk(paging, linear, read_tables, NULL, &address));
    assert_int_equal(address.raw, wanted);
}

static void does_not_walk(const struct guest_paging *paging, u64 linear)
{
    gpa_t address;
    assert_false(guest_walk(paging, linear, read_tables, NULL, &address));
}

static void four_levels_are_walked(void **state)
{
    (void)state;
    struct guest_paging paging = {
        .cr0 = CR0_PE | CR0_PG, .cr3 = 0x1018, .cr4 = CR4_PAE, .efer = EFER_LMA};
    memset(tables, 0, sizeof tables);
    entry_set(0x1000, 0x1ff, 8, 0x2003);
    entry_set(0x2000, 0x1fe, 8, 0x8000000000003003);
    entry_set(0x2000, 0x1fd, 8, 0x40000083 | 1ull << 38);
    entry_set(0x3000, 0x008, 8, 0x4003);
    entry_set(0x3000, 0x009, 8, 0x12345000e3 & ~0x1ff000ull);
    entry_set(0x4000, 0x123, 8, 0x8000000fee00063);
    entry_set(0x4000, 0x124, 8, 0x77000);
    entry_set(0x3000, 0x00a, 8, 0xfffff003); /* a table that is no memory */
    walks_to(&paging, 0xffffffff81123456, 0xfee00456);
    walks_to(&paging, 0xffffffff81234567, 0x1234434567);
    walks_to(&paging, 0xffffffff40123456, 1ull << 38 | 0x40123456);
    does_not_walk(&paging, 0xffffffff81124456);
    does_not_walk(&paging, 0xffffffff81400000);
    does_not_walk(&paging, 0x1000);
}

static void three_and_two_levels_are_walked(void **state)
{
    (void)state;
    struct guest_paging paging = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1020, .cr4 = CR4_PAE};
    memset(tables, 0, sizeof tables);
    entry_set(0x1020, 3, 8, 0x2001);
    entry_set(0x2000, 1, 8, 0x3003);
    entry_set(0x2000, 2, 8, 0x600083);
    entry_set(0x3000, 5, 8, 0xabc003);
    walks_to(&paging, 0xc0205678, 0xabc678);
    walks_to(&paging, 0xffffffffc0205678, 0xabc678); /* 32 bits count */
    walks_to(&paging, 0xc0412345, 0x612345);
    does_not_walk(&paging, 0x40205678);

    paging = (struct guest_paging){.cr0 = CR0_PE | CR0_PG, .cr3 = 0x5000, .cr4 = CR4_PSE};
    entry_set(0x5000, 0x300, 4, 0x6003);
    entry_set(0x5000, 0x301, 4, 0x804020e3); /* bits 20:13 are 39:32 */
    entry_set(0x6000, 0x3ff, 4, 0x88003);
    walks_to(&paging, 0xc03ff123, 0x88123);
    walks_to(&paging, 0xc0712345, 0x180712345);
    paging.cr4 = 0; /* without PSE it is a table, which is no memory */
    does_not_walk(&paging, 0xc0712345);

    paging.cr0 = CR0_PE;
    walks_to(&paging, 0xfffffff0, 0xfffffff0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_is_understood),
        cmocka_unit_test(what_is_cut_off_is_refused),
        cmocka_unit_test(what_is_none_of_them_is_refused),
        cmocka_unit_test(noise_is_survived),
        cmocka_unit_test(arithmetic_is_this_processor_s),
        cmocka_unit_test(loads_and_stores_touch_what_they_name),
        cmocka_unit_test(four_levels_are_walked),
        cmocka_unit_test(three_and_two_levels_are_walked),
    };
    return cmocka_run_group_tests(tests, read_records, NULL);
}
