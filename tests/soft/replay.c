/* SPDX-License-Identifier: MIT */
/*
 * replay < NAME.trace: makes the calls of a trace on the software module and prints the answers,
 * one line a call, in the language of the conformance traces.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/vmx.h"
#include "tdx/soft/sha384.h"
#include "tdx/soft/soft.h"
#include "tests/soft/seam_host.h"

#define WORDS_MAX 16
#define LINE_BYTES 1024

static struct soft_platform modelled = {
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
    .wbinvd_blocks = 4,
};
static bool is_installed;

static void install(void)
{
    if (is_installed)
        return;
    for (u32 i = 0; i < modelled.lp_count; i++)
        modelled.lp_package[i] = i * modelled.package_count / modelled.lp_count;
    if (soft_install(&modelled)) {
        fprintf(stderr, "replay: the platform of the trace is refused\n");
        exit(2);
    }
    is_installed = true;
}

static u64 number(const char *word)
{
    return strtoull(word, NULL, 16);
}
static u64 decimal(const char *word)
{
    return strtoull(word, NULL, 10);
}

static u8 *memory_at(u64 address)
{
    return (u8 *)seam_page(address & ~PAGE_MASK) + (address & PAGE_MASK);
}

static const u8 argument_registers[] = {GPR_RCX, GPR_RDX, GPR_R8,  GPR_R9,
                                        GPR_R10, GPR_R11, GPR_R12, GPR_R13};

static void registers_take(struct tdx_regs *regs, char **words, u32 count)
{
    char *version = strchr(words[0], ':');
    regs->gpr[GPR_RAX] = number(words[0]) | (version ? number(version + 1) << 16 : 0);
    for (u32 i = 0; i < sizeof argument_registers; i++)
        regs->gpr[argument_registers[i]] = i + 1 < count ? number(words[i + 1]) : 0;
}

static void registers_print(const char *prefix, const struct tdx_regs *regs)
{
    const u64 *g = regs->gpr;
    printf(
        "%s%" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
        prefix, g[GPR_RAX], g[GPR_RCX], g[GPR_RDX], g[GPR_R8], g[GPR_R9], g[GPR_R10], g[GPR_R11]);
}

static void seamcall(char **words, u32 count, u64 times)
{
    if (machine_is_in_guest()) {
        printf("ERR lp is in TD: use td/exit/ept first\n");
        return;
    }
    struct tdx_regs regs = {0};
    enum call_end end = CALL_RETURNED;
    for (u64 i = 0; i < times; i++) {
        memset(&regs, 0, sizeof regs);
        registers_take(&regs, words, count);
        end = machine_seamcall(&regs);
    }
    if (end == CALL_IN_GUEST)
        printf("ENTERED-TD\n");
    else
        registers_print("", &regs);
}

static void guest_act(char **words, u32 count)
{
    if (!machine_is_in_guest()) {
        printf("ERR lp not in TD\n");
        return;
    }
    struct guest_exit exit = {.reason = EXIT_TDCALL};
    if (!strcmp(words[0], "td")) {
        registers_take(machine_guest_registers(), words + 1, count - 1);
    } else if (!strcmp(words[0], "ept")) {
        exit = (struct guest_exit){EXIT_EPT_VIOLATION, number(words[2]), number(words[1])};
    } else {
        exit = (struct guest_exit){(u32)decimal(words[1]), number(words[2]), 0};
    }
    struct tdx_regs regs;
    if (machine_guest_exit(&exit, &regs) == CALL_IN_GUEST)
        registers_print("td ", machine_guest_registers());
    else
        registers_print("vmm ", &regs);
}

static void memory_sha(u64 address, u64 len_bytes)
{
    struct sha384 sha;
    u8 digest[SHA384_BYTES];
    sha384_start(&sha);
    for (u64 at = 0; at < len_bytes; at += 8)
        sha384_update(&sha, memory_at(address + at), 8);
    sha384_finish(&sha, digest);
    for (u32 i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
    printf("\n");
}

static bool memory_command(char **words)
{
    u64 address = number(words[1]);
    if (!strcmp(words[0], "w")) {
        *(u64 *)memory_at(address) = number(words[2]);
    } else if (!strcmp(words[0], "fill")) {
        u64 value = number(words[3]);
        for (u64 at = 0; at < number(words[2]); at += 8)
            *(u64 *)memory_at(address + at) = value;
    } else if (!strcmp(words[0], "r")) {
        printf("%" PRIx64 "\n", *(u64 *)memory_at(address));
    } else if (!strcmp(words[0], "zeros")) {
        bool zero = true;
        for (u64 at = 0; at < number(words[2]); at += 8)
            zero = zero && !*(u64 *)memory_at(address + at);
        printf("%d\n", zero);
    } else if (!strcmp(words[0], "sha")) {
        memory_sha(address, number(words[2]));
    } else {
        return false;
    }
    return true;
}

static bool platform_command(char **words)
{
    if (!strcmp(words[0], "cmr")) {
        u32 index = (u32)decimal(words[1]);
        modelled.cmrs[index] = (struct tdx_cmr){number(words[2]), number(words[3])};
        if (index >= modelled.cmr_count)
            modelled.cmr_count = index + 1;
        return true;
    }
    if (strcmp(words[0], "cfg"))
        return false;
    static const struct {
        const char *key;
        u32 *value;
    } keys[] = {
        {"nlps", &modelled.lp_count},        {"npkgs", &modelled.package_count},
        {"keyidbits", &modelled.keyid_bits}, {"nmktme", &modelled.shared_keyids},
        {"ntdx", &modelled.private_keyids},  {"wb", &modelled.wbinvd_blocks},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(keys); i++)
        if (!strcmp(words[1], keys[i].key))
            *keys[i].value = (u32)decimal(words[2]);
    return true;
}

static void line_play(char **words, u32 count)
{
    if (platform_command(words))
        return;
    install();
    if (!strcmp(words[0], "lp"))
        machine_select_lp((u32)decimal(words[1]));
    else if (!strcmp(words[0], "intr"))
        machine_set_interrupt(decimal(words[1]));
    else if (!strcmp(words[0], "td") || !strcmp(words[0], "ept") || !strcmp(words[0], "exit"))
        guest_act(words, count);
    else if (!strcmp(words[0], "rep"))
        seamcall(words + 2, count - 2, decimal(words[1]));
    else if (!memory_command(words))
        seamcall(words, count, 1);
}

int main(void)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin)) {
        char *comment = strchr(line, '#'), *words[WORDS_MAX] = {0};
        u32 count = 0;
        if (comment)
            *comment = 0;
        for (char *word = strtok(line, " \t\r\n"); word && count < WORDS_MAX;
             word = strtok(NULL, " \t\r\n"))
            words[count++] = word;
        for (u32 i = count; i < WORDS_MAX; i++)
            words[i] = "0";
        if (count)
            line_play(words, count);
        fflush(stdout);
    }
    return 0;
}
