/* SPDX-License-Identifier: MIT */
#include "tests/soft/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 12
#define VERSION_MAX 0xff
#define BLANKS " \t\r\n"

/* What the operands of a directive are, a letter each. */
#define OPERANDS_OF_CALL "c"
static const struct directive {
    const char *name;
    enum trace_kind kind;
    /* h, d: a number; b: a length in bytes; k: a key; c: LEAF[:VERSION] and up to 8 registers */
    const char *operands;
} directives[] = {
    {"rep", TRACE_REPEAT, "d" OPERANDS_OF_CALL},
    {"td", TRACE_TDCALL, OPERANDS_OF_CALL},
    {"ept", TRACE_EPT_VIOLATION, "hh"},
    {"exit", TRACE_EXIT, "dh"},
    {"lp", TRACE_LP, "d"},
    {"intr", TRACE_INTERRUPT, "d"},
    {"w", TRACE_WRITE, "hh"},
    {"fill", TRACE_FILL, "hbh"},
    {"r", TRACE_READ, "h"},
    {"zeros", TRACE_ZEROS, "hb"},
    {"sha", TRACE_SHA, "hb"},
    {"cfg", TRACE_PLATFORM, "kd"},
    {"cmr", TRACE_CMR, "dhh"},
};
static const struct directive seamcall = {"a call", TRACE_CALL, OPERANDS_OF_CALL};

const struct soft_platform trace_platform = {
    .lp_count = 4,
    .package_count = 1,
    .physical_address_bits = 52,
    .memory_address_bits = 46,
    .gpa_bits = 52,
    .keyid_bits = 6,
    .shared_keyids = 32,
    .private_keyids = 32,
    .cmrs = {{0x100000, 0x6ff00000}, {0x100000000, 0x100000000}},
    .cmr_count = 2,
    .seam_base = 0x7e000000,
    .seam_bytes = 32 * MIB,
    .tsc_hz = 2000000000,
    .xfam = ~0ull,
    .family_model_stepping = 0x806f8,
    .wbinvd_blocks = 4,
};

struct words {
    char *word[WORDS_MAX];
    u32 count, next;
    char *error;
};

static bool refuse(struct words *words, const char *what, const char *word)
{
    snprintf(words->error, TRACE_ERROR_BYTES, "%s \"%.64s\"", what, word);
    return false;
}

/* Digits alone: no sign, no prefix. */
static bool number_is_valid(const char *word, int base, u64 *value)
{
    const char *digits = base == 16 ? "0123456789abcdefABCDEF" : "0123456789";
    if (!*word || word[strspn(word, digits)])
        return false;
    errno = 0;
    *value = strtoull(word, NULL, base);
    return !errno;
}

static bool number_take(struct words *words, int base, u64 *value)
{
    const char *word = words->word[words->next++];
    if (number_is_valid(word, base, value))
        return true;
    return refuse(words, base == 16 ? "no 64-bit hexadecimal number:" : "no decimal number:", word);
}

static bool length_take(struct words *words, u64 *value)
{
    const char *word = words->word[words->next];
    if (!number_take(words, 16, value))
        return false;
    return *value <= TRACE_LEN_BYTES_MAX || refuse(words, "over 1 GiB:", word);
}

static bool call_take(struct words *words, struct trace_command *command)
{
    char *word = words->word[words->next++], *version_word = strchr(word, ':');
    u64 leaf, version = 0;
    if (version_word)
        *version_word++ = 0;
    if (!number_is_valid(word, 16, &leaf))
        return refuse(words,
                      words->next == 1 ? "neither a directive nor a leaf:" : "no leaf:", word);
    if (version_word && (!number_is_valid(version_word, 16, &version) || version > VERSION_MAX))
        return refuse(words, "no version of a leaf:", version_word);
    command->rax = leaf | version << TDX_VERSION_SHIFT;
    for (u32 i = 0; i < TRACE_REGISTERS && words->next < words->count; i++)
        if (!number_take(words, 16, &command->operands[i]))
            return false;
    return true;
}

static bool operand_take(struct words *words, char kind, u32 index, struct trace_command *command)
{
    u64 *value = command->kind == TRACE_REPEAT ? &command->times : &command->operands[index];
    switch (kind) {
    case 'c':
        return call_take(words, command);
    case 'k':
        snprintf(command->key, sizeof command->key, "%s", words->word[words->next++]);
        return true;
    case 'd':
        return number_take(words, 10, value) &&
               (command->kind != TRACE_REPEAT || *value || refuse(words, "it says", "rep 0"));
    case 'b':
        return length_take(words, value);
    default:
        return number_take(words, 16, value);
    }
}

static const struct directive *directive_of(struct words *words)
{
    for (u32 i = 0; i < sizeof directives / sizeof directives[0]; i++)
        if (!strcmp(words->word[0], directives[i].name)) {
            words->next = 1;
            return &directives[i];
        }
    return &seamcall;
}

static bool words_take(struct words *words, struct trace_command *command)
{
    const struct directive *directive = directive_of(words);
    u32 index = 0;
    command->kind = directive->kind;
    for (const char *kind = directive->operands; *kind; kind++) {
        if (words->next == words->count)
            return refuse(words, "an operand is missing of", directive->name);
        /* A key is no number: what follows is the first one. */
        if (!operand_take(words, *kind, index, command))
            return false;
        index += *kind != 'k';
    }
    if (words->next < words->count)
        return refuse(words, "one word too many:", words->word[words->next]);
    return true;
}

bool trace_parse(char *line, struct trace_command *command, char error[TRACE_ERROR_BYTES])
{
    struct words words = {.error = error};
    char *comment = strchr(line, '#');
    memset(command, 0, sizeof *command);
    if (comment)
        *comment = 0;
    for (char *word = strtok(line, BLANKS); word && words.count < WORDS_MAX;
         word = strtok(NULL, BLANKS))
        words.word[words.count++] = word;
    return !words.count || words_take(&words, command);
}

void trace_registers(const struct trace_command *command, struct tdx_regs *regs)
{
    static const u8 of_operand[TRACE_REGISTERS] = {GPR_RCX, GPR_RDX, GPR_R8,  GPR_R9,
                                                   GPR_R10, GPR_R11, GPR_R12, GPR_R13};
    regs->gpr[GPR_RAX] = command->rax;
    for (u32 i = 0; i < TRACE_REGISTERS; i++)
        regs->gpr[of_operand[i]] = command->operands[i];
}
