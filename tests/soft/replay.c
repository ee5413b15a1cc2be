/* SPDX-License-Identifier: MIT */
/*
 * replay [-e] < NAME.trace: makes the calls of a trace on the software module and prints the
 * answers, one line a call. -e prints each line of the trace before its answer, after "> ".
 *
 * A line that is not of the language ends it with status 2 and a line on standard error that says
 * which; the answers to what precedes it have been printed.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/vmx.h"
#include "tdx/soft/sha384.h"
#include "tdx/soft/soft.h"
#include "tests/host/machine.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/trace.h"

#define STATUS_USAGE 2
#define STATUS_DAMAGED 2
#define STATUS_NOT_WRITTEN 1

static struct soft_platform described;
static bool is_installed;
static u32 line_number;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "replay: line %u: ", line_number);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(STATUS_DAMAGED);
}

static void install(void)
{
    if (is_installed)
        return;
    for (u32 i = 0; i < described.lp_count && i < CPU_MAX; i++)
        described.lp_package[i] = i * described.package_count / described.lp_count;
    if (soft_install(&described)) {
        /* The module's log says what is wrong after its last colon. */
        const char *reason = strrchr(host_log(), ':');
        fail("no such platform%.*s", (int)strcspn(reason, "\n"), reason);
    }
    is_installed = true;
}

/* The bytes of memory from an address to the end of its page, or of the range. */
static u8 *span_at(u64 address, u64 left, u64 *len_bytes)
{
    u64 offset = address & PAGE_MASK;
    *len_bytes = PAGE_BYTES - offset < left ? PAGE_BYTES - offset : left;
    return (u8 *)seam_page(address - offset) + offset;
}

static void memory_fill(u64 address, u64 len_bytes, u64 value)
{
    u64 done = 0, span_bytes;
    for (; done < len_bytes; done += span_bytes) {
        u8 *span = span_at(address + done, len_bytes - done, &span_bytes);
        for (u64 i = 0; i < span_bytes; i++)
            span[i] = (u8)(value >> 8 * ((done + i) % sizeof value));
    }
}

static u64 memory_read(u64 address)
{
    u64 value = 0, span_bytes;
    for (u64 done = 0; done < sizeof value; done += span_bytes) {
        const u8 *span = span_at(address + done, sizeof value - done, &span_bytes);
        memcpy((u8 *)&value + done, span, span_bytes);
    }
    return value;
}

static bool memory_is_zero(u64 address, u64 len_bytes)
{
    u64 span_bytes;
    for (u64 done = 0; done < len_bytes; done += span_bytes) {
        const u8 *span = span_at(address + done, len_bytes - done, &span_bytes);
        for (u64 i = 0; i < span_bytes; i++)
            if (span[i])
                return false;
    }
    return true;
}

static void memory_sha_print(u64 address, u64 len_bytes)
{
    struct sha384 sha;
    u8 digest[SHA384_BYTES];
    u64 span_bytes;
    sha384_start(&sha);
    for (u64 done = 0; done < len_bytes; done += span_bytes) {
        const u8 *span = span_at(address + done, len_bytes - done, &span_bytes);
        sha384_update(&sha, span, span_bytes);
    }
    sha384_finish(&sha, digest);
    for (u32 i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
    printf("\n");
}

static void registers_print(const char *prefix, const struct tdx_regs *regs)
{
    const u64 *g = regs->gpr;
    printf(
        "%s%" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
        prefix, g[GPR_RAX], g[GPR_RCX], g[GPR_RDX], g[GPR_R8], g[GPR_R9], g[GPR_R10], g[GPR_R11]);
}

static void seamcall_play(const struct trace_command *command)
{
    struct tdx_regs regs = {0};
    enum call_end end = CALL_RETURNED;
    for (u64 i = 0; i < (command->kind == TRACE_REPEAT ? command->times : 1); i++) {
        if (machine_is_in_guest()) {
            printf("ERR lp is in TD: use td/exit/ept first\n");
            return;
        }
        memset(&regs, 0, sizeof regs);
        trace_registers(command, &regs);
        end = machine_seamcall(&regs);
    }
    if (end == CALL_IN_GUEST)
        printf("ENTERED-TD\n");
    else
        registers_print("", &regs);
}

static void guest_play(const struct trace_command *command)
{
    struct guest_exit exit = {.reason = EXIT_TDCALL};
    struct tdx_regs regs;
    if (!machine_is_in_guest()) {
        printf("ERR lp not in TD\n");
        return;
    }
    if (command->kind == TRACE_TDCALL)
        trace_registers(command, machine_guest_registers());
    else if (command->kind == TRACE_EPT_VIOLATION)
        exit = (struct guest_exit){EXIT_EPT_VIOLATION, command->operands[1], command->operands[0]};
    else
        exit = (struct guest_exit){(u32)command->operands[0], command->operands[1], 0};
    if (machine_guest_exit(&exit, &regs) == CALL_IN_GUEST)
        registers_print("td ", machine_guest_registers());
    else
        registers_print("vmm ", &regs);
}

static void lp_select(u64 lp)
{
    if (lp >= described.lp_count)
        fail("the platform has no processor %" PRIu64, lp);
    machine_select_lp((u32)lp);
}

static void platform_set(const struct trace_command *command)
{
    const struct {
        const char *key;
        u32 *value;
    } keys[] = {
        {"nlps", &described.lp_count},        {"npkgs", &described.package_count},
        {"keyidbits", &described.keyid_bits}, {"nmktme", &described.shared_keyids},
        {"ntdx", &described.private_keyids},  {"wb", &described.wbinvd_blocks},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(keys); i++)
        if (!strcmp(command->key, keys[i].key)) {
            if (command->operands[0] > UINT32_MAX)
                fail("%s is no 32-bit number", command->key);
            *keys[i].value = (u32)command->operands[0];
            return;
        }
    fail("the platform has no \"%s\"", command->key);
}

static void cmr_set(const struct trace_command *command)
{
    u64 index = command->operands[0];
    if (index >= TDX_CMR_MAX)
        fail("convertible ranges are 0 to %u", TDX_CMR_MAX - 1);
    described.cmrs[index] = (struct tdx_cmr){command->operands[1], command->operands[2]};
    if (index >= described.cmr_count)
        described.cmr_count = (u32)index + 1;
}

static bool platform_play(const struct trace_command *command)
{
    if (command->kind != TRACE_PLATFORM && command->kind != TRACE_CMR)
        return false;
    if (is_installed)
        fail("the platform is described before the first other line");
    if (command->kind == TRACE_CMR)
        cmr_set(command);
    else
        platform_set(command);
    return true;
}

static void command_play(const struct trace_command *command)
{
    const u64 *operands = command->operands;
    if (command->kind == TRACE_NOTHING || platform_play(command))
        return;
    install();
    switch (command->kind) {
    case TRACE_LP:
        lp_select(operands[0]);
        break;
    case TRACE_INTERRUPT:
        if (operands[0] > 1)
            fail("intr is 0 or 1");
        machine_set_interrupt(operands[0]);
        break;
    case TRACE_WRITE:
        memory_fill(operands[0], sizeof(u64), operands[1]);
        break;
    case TRACE_FILL:
        memory_fill(operands[0], operands[1], operands[2]);
        break;
    case TRACE_READ:
        printf("%" PRIx64 "\n", memory_read(operands[0]));
        break;
    case TRACE_ZEROS:
        printf("%d\n", memory_is_zero(operands[0], operands[1]));
        break;
    case TRACE_SHA:
        memory_sha_print(operands[0], operands[1]);
        break;
    case TRACE_CALL:
    case TRACE_REPEAT:
        seamcall_play(command);
        break;
    default:
        guest_play(command);
        break;
    }
}

static void line_play(char *line, bool is_echoed)
{
    char error[TRACE_ERROR_BYTES];
    struct trace_command command;
    line[strcspn(line, "\r\n")] = 0;
    if (is_echoed)
        printf(">%s%s\n", *line ? " " : "", line);
    if (!trace_parse(line, &command, error))
        fail("%s", error);
    command_play(&command);
}

static void trace_play(bool is_echoed)
{
    static char *line;
    size_t capacity = 0;
    ssize_t len;
    for (line_number = 1; (len = getline(&line, &capacity, stdin)) >= 0; line_number++) {
        if (len > TRACE_LINE_BYTES)
            fail("over %d bytes", TRACE_LINE_BYTES);
        if (strlen(line) != (size_t)len)
            fail("a NUL byte in it");
        line_play(line, is_echoed);
    }
    free(line);
}

int main(int argc, char **argv)
{
    bool is_echoed = false;
    int option;
    while ((option = getopt(argc, argv, "e")) == 'e')
        is_echoed = true;
    if (option != -1 || optind < argc) {
        fprintf(stderr, "usage: replay [-e] < NAME.trace\n");
        return STATUS_USAGE;
    }
    /* A panic of the module's ends the process: the answers before it are not to be lost. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    described = trace_platform;
    trace_play(is_echoed);
    if (ferror(stdin) || fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "replay: the trace was not read to its end, or the answers not written\n");
        return STATUS_NOT_WRITTEN;
    }
    return 0;
}
