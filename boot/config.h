/* SPDX-License-Identifier: MIT */
/*
 * tain.cfg: `[section]` lines, `key = value` lines, `#` comments. README.md documents the keys.
 *
 *   [tain]   strict, checker = yes|no   guests = together|in turn   inject = LEAF:N:STATUS
 *   [guest NAME]  kind = td|vm  kernel, initrd, cmdline, memory (256M), vcpus, promote, processors
 *
 * Every error names line and what was expected; unknown sections and keys are errors.
 */
#ifndef BOOT_CONFIG_H
#define BOOT_CONFIG_H

#include "boot/error.h"
#include "boot/types.h"

#define CONFIG_PATH_BYTES 128
#define CONFIG_NAME_BYTES 32
#define CONFIG_CMDLINE_BYTES 1024
#define CONFIG_GUESTS_MAX 8
#define CONFIG_INJECT_MAX 8
#define CONFIG_PROCESSORS_MAX 64

enum guest_kind {
    GUEST_TD,
    GUEST_VM,
};

struct guest_config {
    char name[CONFIG_NAME_BYTES];
    enum guest_kind kind;
    char kernel[CONFIG_PATH_BYTES]; /* bzImage, ELF vmlinux, or a flat binary (*.bin) */
    char initrd[CONFIG_PATH_BYTES]; /* empty: none */
    char cmdline[CONFIG_CMDLINE_BYTES];
    u64 memory_bytes; /* page aligned */
    u32 vcpus;
    u32 processors[CONFIG_PROCESSORS_MAX]; /* vCPU i runs on the (i modulo their number)th */
    u32 processor_count;                   /* 0: on any */
    bool promote;                          /* look for memory that could be in larger pages */
    u32 line;                              /* of its section, for messages */
};

/* "Answer the nth call of this leaf with this status instead of making it." */
struct inject_config {
    char leaf[CONFIG_NAME_BYTES];   /* "TDH.MEM.PAGE.ADD" */
    u32 nth;                        /* from 1 */
    char status[CONFIG_NAME_BYTES]; /* "OPERAND_BUSY" */
    u32 line;
};

struct config {
    bool strict;
    bool checker;                 /* the software module counts the rules that we break */
    bool in_turn;                 /* a guest starts when the one before it has ended */
    bool newer_module;            /* use what modules after 1.5 have, such as Dynamic PAMT */
    char test[CONFIG_NAME_BYTES]; /* a self-test of the VMM to run, by name; empty: none */
    struct inject_config inject[CONFIG_INJECT_MAX];
    u32 inject_count;
    struct guest_config guests[CONFIG_GUESTS_MAX];
    u32 guest_count;
};

#define CONFIG_MESSAGE_BYTES 160

/*
 * Parses `text`. On error returns ERR_INVALID and writes one line to `message`:
 * "tain.cfg:LINE: what was found: what was expected".
 */
enum error config_parse(const char *text, size_t len_bytes, struct config *config,
                        char message[CONFIG_MESSAGE_BYTES]);

#endif
