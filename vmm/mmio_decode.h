/* SPDX-License-Identifier: MIT */
/*
 * Instructions that a guest uses on a device's memory: decoded from their bytes, and what they do
 * to memory operand, register and flags. Pure. Where the operand is, the exit has told already.
 */
#ifndef VMM_MMIO_DECODE_H
#define VMM_MMIO_DECODE_H

#include "boot/error.h"
#include "boot/types.h"

#define INSTRUCTION_BYTES_MAX 15u

enum mmio_operation {
    MMIO_LOAD,        /* zero-extended where the register is wider */
    MMIO_LOAD_SIGNED, /* sign-extended */
    MMIO_STORE,
    MMIO_EXCHANGE,
    MMIO_ADD,
    MMIO_OR,
    MMIO_AND,
    MMIO_SUBTRACT,
    MMIO_XOR,
    MMIO_COMPARE,
    MMIO_TEST,
};

struct mmio_instruction {
    enum mmio_operation operation;
    u32 len_bytes;      /* of the instruction */
    u32 size_bytes;     /* of the memory operand: 1, 2, 4, 8 */
    u32 register_bytes; /* of the register operand */
    u32 reg;            /* its number */
    bool high_byte;     /* AH, CH, DH, BH: `reg` is the register that holds it */
    bool has_immediate; /* instead of a register */
    bool to_register;   /* the result of an arithmetic operation goes there */
    u64 immediate;      /* sign-extended */
};

/*
 * `mode_bits` is the code segment's default: 16, 32 or 64. ERR_UNSUPPORTED: none of
 * vmm/mmio_opcodes.def, or no memory operand; ERR_RANGE: not all of it is in `len_bytes`.
 */
enum error mmio_decode(const u8 *bytes, u32 len_bytes, u32 mode_bits,
                       struct mmio_instruction *instruction);

bool mmio_reads(const struct mmio_instruction *instruction);
bool mmio_writes(const struct mmio_instruction *instruction);
/*
 * Executes: `memory` is what was read (if it reads), *reg the whole 64-bit register, *flags RFLAGS.
 * The value returned is to be written (if it writes).
 */
u64 mmio_execute(const struct mmio_instruction *instruction, u64 memory, u64 *reg, u64 *flags);

#endif
