/* SPDX-License-Identifier: MIT */
#include "vmm/mmio_decode.h"

#define NO_DIGIT 0xff

enum size { BYTE, WORD, DOUBLE, FULL };
enum form {
    MEMORY_REGISTER,
    REGISTER_MEMORY,
    WIDER_REGISTER_MEMORY,
    MEMORY_IMMEDIATE,
    MEMORY_BYTE_IMMEDIATE,
    ACCUMULATOR_OFFSET,
    OFFSET_ACCUMULATOR,
};

static const struct opcode {
    u8 map, opcode, digit;
    enum mmio_operation operation;
    enum size size;
    enum form form;
} opcodes[] = {
#define MMIO_OPCODE(map, opcode, digit, operation, size, form) \
    {map, opcode, digit, MMIO_##operation, size, form},
#include "vmm/mmio_opcodes.def"
};

#define REX_W (1u << 3)
#define REX_R (1u << 2)
#define SIB_NO_BASE 5
#define MOD_REGISTER 3

/* The bytes, and what was read of them. Past the end everything is 0, and `is_cut` says so. */
struct reader {
    const u8 *bytes;
    u32 at, len_bytes;
    bool is_cut;
    u32 mode_bits, operand_bytes, address_bytes;
    u8 rex; /* 0: none */
};

static u8 peek(struct reader *r)
{
    if (r->at < r->len_bytes)
        return r->bytes[r->at];
    r->is_cut = true;
    return 0;
}

static u8 next(struct reader *r)
{
    u8 byte = peek(r);
    r->at++;
    return byte;
}

static void skip(struct reader *r, u32 count)
{
    for (u32 i = 0; i < count; i++)
        (void)next(r);
}

static u64 sign_extend(u64 value, u32 bytes)
{
    u32 shift = 64 - 8 * bytes;
    return (u64)((i64)(value << shift) >> shift);
}

static u64 read_signed(struct reader *r, u32 bytes)
{
    u64 value = 0;
    for (u32 i = 0; i < bytes; i++)
        value |= (u64)next(r) << (8 * i);
    return sign_extend(value, bytes);
}

/* A prefix that changes nothing here: segments, LOCK, and REP where nothing repeats. */
static bool prefix_is_idle(u8 byte)
{
    return byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x26 || byte == 0x64 ||
           byte == 0x65 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

/* REX counts right before the opcode alone. */
static void read_prefixes(struct reader *r)
{
    bool operand = false, address = false;
    for (;; r->at++) {
        u8 byte = peek(r);
        if (byte == 0x66)
            operand = true;
        else if (byte == 0x67)
            address = true;
        else if (!prefix_is_idle(byte))
            break;
    }
    if (r->mode_bits == 64 && (peek(r) & 0xf0) == 0x40)
        r->rex = next(r);
    r->operand_bytes = (r->mode_bits == 16) != operand ? 2 : 4;
    if (r->rex & REX_W)
        r->operand_bytes = 8;
    r->address_bytes = r->mode_bits / 8;
    if (address)
        r->address_bytes = r->mode_bits == 32 ? 2 : 4;
}

/* What follows a ModR/M byte with a memory operand. */
static void skip_address(struct reader *r, u8 modrm)
{
    u32 mod = modrm >> 6, rm = modrm & 7;
    if (r->address_bytes == 2) {
        skip(r, mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
        return;
    }
    bool no_base = rm == 5;
    if (rm == 4)
        no_base = (next(r) & 7) == SIB_NO_BASE;
    skip(r, mod == 1 ? 1 : mod == 2 || no_base ? 4 : 0);
}

static const struct opcode *find(u8 map, u8 opcode, u8 digit)
{
    for (u32 i = 0; i < ARRAY_LENGTH(opcodes); i++) {
        if (opcodes[i].map == map && opcodes[i].opcode == opcode &&
            (opcodes[i].digit == NO_DIGIT || opcodes[i].digit == digit))
            return &opcodes[i];
    }
    return NULL;
}

static bool has_modrm(const struct opcode *opcode)
{
    return opcode->form != ACCUMULATOR_OFFSET && opcode->form != OFFSET_ACCUMULATOR;
}

static void set_register(struct mmio_instruction *out, const struct reader *r, u8 modrm)
{
    out->reg = (modrm >> 3 & 7) | (r->rex & REX_R ? 8 : 0);
    if (out->register_bytes == 1 && !r->rex && out->reg >= 4) {
        out->reg -= 4;
        out->high_byte = true;
    }
}

static void read_operands(struct reader *r, const struct opcode *opcode, u8 modrm,
                          struct mmio_instruction *out)
{
    static const u8 sizes[] = {[BYTE] = 1, [WORD] = 2, [DOUBLE] = 4};
    *out = (struct mmio_instruction){.operation = opcode->operation};
    out->size_bytes = opcode->size == FULL ? r->operand_bytes : sizes[opcode->size];
    out->register_bytes =
        opcode->form == WIDER_REGISTER_MEMORY ? r->operand_bytes : out->size_bytes;
    out->to_register = opcode->form == REGISTER_MEMORY || opcode->form == WIDER_REGISTER_MEMORY ||
                       opcode->form == ACCUMULATOR_OFFSET;
    if (!has_modrm(opcode)) {
        skip(r, r->address_bytes);
        return;
    }
    skip_address(r, modrm);
    out->has_immediate = opcode->form == MEMORY_IMMEDIATE || opcode->form == MEMORY_BYTE_IMMEDIATE;
    if (!out->has_immediate)
        set_register(out, r, modrm);
    else if (opcode->form == MEMORY_BYTE_IMMEDIATE)
        out->immediate = read_signed(r, 1);
    else
        out->immediate = read_signed(r, out->size_bytes == 8 ? 4 : out->size_bytes);
}

enum error mmio_decode(const u8 *bytes, u32 len_bytes, u32 mode_bits,
                       struct mmio_instruction *instruction)
{
    struct reader r = {.bytes = bytes, .len_bytes = len_bytes, .mode_bits = mode_bits};
    if (r.len_bytes > INSTRUCTION_BYTES_MAX)
        r.len_bytes = INSTRUCTION_BYTES_MAX;
    read_prefixes(&r);
    u8 map = 1, byte = next(&r);
    if (byte == 0x0f) {
        map = 2;
        byte = next(&r);
    }
    u8 modrm = peek(&r);
    const struct opcode *opcode = find(map, byte, modrm >> 3 & 7);
    if (opcode && byte == 0x63 && mode_bits != 64) /* ARPL */
        opcode = NULL;
    if (!opcode)
        return r.is_cut ? ERR_RANGE : ERR_UNSUPPORTED;
    if (has_modrm(opcode)) {
        r.at++;
        if (modrm >> 6 == MOD_REGISTER)
            return ERR_UNSUPPORTED;
    }
    read_operands(&r, opcode, modrm, instruction);
    instruction->len_bytes = r.at;
    return r.is_cut || r.at > r.len_bytes ? ERR_RANGE : OK;
}

bool mmio_reads(const struct mmio_instruction *instruction)
{
    return instruction->operation != MMIO_STORE;
}

bool mmio_writes(const struct mmio_instruction *instruction)
{
    switch (instruction->operation) {
    case MMIO_LOAD:
    case MMIO_LOAD_SIGNED:
    case MMIO_COMPARE:
    case MMIO_TEST:
        return false;
    case MMIO_STORE:
    case MMIO_EXCHANGE:
        return true;
    default:
        return !instruction->to_register;
    }
}

#define FLAG_CARRY (1ull << 0)
#define FLAG_PARITY (1ull << 2)
#define FLAG_ADJUST (1ull << 4)
#define FLAG_ZERO (1ull << 6)
#define FLAG_SIGN (1ull << 7)
#define FLAG_OVERFLOW (1ull << 11)
#define FLAGS_ARITHMETIC \
    (FLAG_CARRY | FLAG_PARITY | FLAG_ADJUST | FLAG_ZERO | FLAG_SIGN | FLAG_OVERFLOW)

static u64 size_mask(u32 bytes)
{
    return ~0ull >> (64 - 8 * bytes);
}

/* Of an addition or a subtraction the carries into each bit are in left ^ right ^ result. */
static u64 arithmetic_flags(enum mmio_operation operation, u64 left, u64 right, u64 result,
                            u32 bytes)
{
    u64 sign = 1ull << (8 * bytes - 1), flags = 0;
    bool adds = operation == MMIO_ADD;
    if (adds || operation == MMIO_SUBTRACT || operation == MMIO_COMPARE) {
        u64 others = adds ? ~(left ^ right) : left ^ right;
        flags |= adds ? (result < left ? FLAG_CARRY : 0) : (left < right ? FLAG_CARRY : 0);
        flags |= (left ^ right ^ result) & FLAG_ADJUST;
        flags |= others & (left ^ result) & sign ? FLAG_OVERFLOW : 0;
    }
    flags |= result == 0 ? FLAG_ZERO : 0;
    flags |= result & sign ? FLAG_SIGN : 0;
    flags |= __builtin_parityll(result & 0xff) ? 0 : FLAG_PARITY;
    return flags;
}

static u64 compute(enum mmio_operation operation, u64 left, u64 right)
{
    switch (operation) {
    case MMIO_ADD:
        return left + right;
    case MMIO_OR:
        return left | right;
    case MMIO_AND:
    case MMIO_TEST:
        return left & right;
    case MMIO_SUBTRACT:
    case MMIO_COMPARE:
        return left - right;
    case MMIO_XOR:
        return left ^ right;
    default:
        return right;
    }
}

static u64 operand(const struct mmio_instruction *instruction, u64 reg)
{
    if (instruction->has_immediate)
        return instruction->immediate & size_mask(instruction->size_bytes);
    return (instruction->high_byte ? reg >> 8 : reg) & size_mask(instruction->size_bytes);
}

/* A write of 32 bits clears the upper half; a smaller one keeps what is beside it. */
static void register_set(const struct mmio_instruction *instruction, u64 value, u64 *reg)
{
    u64 mask = size_mask(instruction->register_bytes);
    u32 shift = instruction->high_byte ? 8 : 0;
    value &= mask;
    if (instruction->register_bytes >= 4)
        *reg = value;
    else
        *reg = (*reg & ~(mask << shift)) | value << shift;
}

u64 mmio_execute(const struct mmio_instruction *instruction, u64 memory, u64 *reg, u64 *flags)
{
    u32 bytes = instruction->size_bytes;
    u64 value = operand(instruction, *reg);
    memory &= size_mask(bytes);
    switch (instruction->operation) {
    case MMIO_LOAD:
        register_set(instruction, memory, reg);
        return 0;
    case MMIO_LOAD_SIGNED:
        register_set(instruction, sign_extend(memory, bytes), reg);
        return 0;
    case MMIO_EXCHANGE:
        register_set(instruction, memory, reg);
        return value;
    case MMIO_STORE:
        return value;
    default:
        break;
    }
    u64 left = instruction->to_register ? value : memory;
    u64 right = instruction->to_register ? memory : value;
    u64 result = compute(instruction->operation, left, right) & size_mask(bytes);
    *flags = (*flags & ~FLAGS_ARITHMETIC) |
             arithmetic_flags(instruction->operation, left, right, result, bytes);
    bool keeps = instruction->operation != MMIO_COMPARE && instruction->operation != MMIO_TEST;
    if (instruction->to_register && keeps)
        register_set(instruction, result, reg);
    return result;
}
