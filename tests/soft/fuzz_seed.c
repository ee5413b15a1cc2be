/* SPDX-License-Identifier: MIT */
/* Traces as seeds. Their bring-up is left out where the fuzzer's own start is the same. */
#include <stdio.h>
#include <string.h>

#include "boot/vmx.h"
#include "tests/soft/fuzz.h"

#define REPEATS_MAX 256

struct writer {
    u8 *at, *end;
    bool is_full;
};

static void put(struct writer *writer, u64 value, u32 len_bytes)
{
    writer->is_full |= writer->end - writer->at < len_bytes;
    for (u32 i = 0; i < len_bytes && !writer->is_full; i++)
        *writer->at++ = (u8)(value >> 8 * i);
}

static void put_call(struct writer *writer, const struct trace_command *command)
{
    u64 times = command->times < REPEATS_MAX ? command->times : REPEATS_MAX;
    u8 given = 0;
    for (u32 i = 0; i < TRACE_REGISTERS; i++)
        given |= (command->operands[i] != 0) << i;
    if (command->kind == TRACE_REPEAT) {
        put(writer, FUZZ_RAW_REPEAT, 1);
        put(writer, times - 1, 1);
    } else {
        put(writer, command->kind == TRACE_TDCALL ? FUZZ_RAW_TDCALL : FUZZ_RAW_CALL, 1);
    }
    put(writer, given, 1);
    put(writer, command->rax, 4);
    for (u32 i = 0; i < TRACE_REGISTERS; i++)
        if (command->operands[i])
            put(writer, command->operands[i], 8);
}

static void put_pair(struct writer *writer, enum fuzz_raw kind, u64 first, u64 second)
{
    put(writer, kind, 1);
    put(writer, first, 8);
    put(writer, second, 8);
}

static void put_byte(struct writer *writer, enum fuzz_raw kind, u64 value)
{
    put(writer, kind, 1);
    put(writer, value, 1);
}

static void put_command(struct writer *writer, const struct trace_command *command)
{
    const u64 *operands = command->operands;
    switch (command->kind) {
    case TRACE_CALL:
    case TRACE_REPEAT:
    case TRACE_TDCALL:
        put_call(writer, command);
        break;
    case TRACE_EPT_VIOLATION:
        put_pair(writer, FUZZ_RAW_EPT, operands[0], operands[1]);
        break;
    case TRACE_EXIT:
        put_pair(writer, FUZZ_RAW_EXIT, operands[0], operands[1]);
        break;
    case TRACE_WRITE:
        put_pair(writer, FUZZ_RAW_WRITE, operands[0], operands[1]);
        break;
    case TRACE_LP:
        put_byte(writer, FUZZ_RAW_LP, operands[0]);
        break;
    case TRACE_INTERRUPT:
        put_byte(writer, FUZZ_RAW_INTERRUPT, operands[0]);
        break;
    default: /* what only looks at memory, or describes another platform */
        break;
    }
}

static bool is_of_bring_up(const struct trace_command *command)
{
    switch (command->rax & TDX_LEAF_MASK) {
    case TDH_SYS_INIT:
    case TDH_SYS_LP_INIT:
    case TDH_SYS_CONFIG:
    case TDH_SYS_KEY_CONFIG:
    case TDH_SYS_TDMR_INIT:
        return command->kind == TRACE_CALL || command->kind == TRACE_REPEAT;
    default:
        return false;
    }
}

size_t fuzz_seed(enum fuzz_start start, const char *path, u8 *bytes, size_t capacity_bytes)
{
    struct writer writer = {.at = bytes, .end = bytes + capacity_bytes};
    char line[TRACE_LINE_BYTES], error[TRACE_ERROR_BYTES];
    struct trace_command command;
    FILE *file = fopen(path, "r");
    bool is_damaged = !file;
    put(&writer, start, 1);
    while (!is_damaged && !writer.is_full && fgets(line, sizeof line, file)) {
        is_damaged = !trace_parse(line, &command, error);
        if (!is_damaged && (start == FUZZ_NOTHING || !is_of_bring_up(&command)))
            put_command(&writer, &command);
    }
    if (file)
        fclose(file);
    return is_damaged ? 0 : (size_t)(writer.at - bytes);
}
