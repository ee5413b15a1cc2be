/* SPDX-License-Identifier: MIT */
/* The language of call traces: one line to one command. */
#ifndef TESTS_SOFT_TRACE_H
#define TESTS_SOFT_TRACE_H

#include "tdx/soft/soft.h"

/* What traces are played on where they say nothing else. */
extern const struct soft_platform trace_platform;

#define TRACE_LINE_BYTES 1024
#define TRACE_REGISTERS 8 /* RCX, RDX, R8 to R13 */
#define TRACE_ERROR_BYTES 160
#define TRACE_LEN_BYTES_MAX GIB

enum trace_kind {
    TRACE_NOTHING, /* a blank line, or a comment alone */
    TRACE_CALL,    /* SEAMCALL */
    TRACE_REPEAT,  /* the same SEAMCALL `times` times */
    TRACE_TDCALL,
    TRACE_EPT_VIOLATION, /* operands: GPA, qualification */
    TRACE_EXIT,          /* reason, qualification */
    TRACE_LP,            /* index */
    TRACE_INTERRUPT,     /* 0 or 1 */
    TRACE_WRITE,         /* address, value */
    TRACE_FILL,          /* address, bytes, value */
    TRACE_READ,          /* address */
    TRACE_ZEROS,         /* address, bytes */
    TRACE_SHA,           /* address, bytes */
    TRACE_PLATFORM,      /* key; value */
    TRACE_CMR,           /* index, base, bytes */
};

struct trace_command {
    enum trace_kind kind;
    char key[16];                  /* TRACE_PLATFORM */
    u64 times;                     /* TRACE_REPEAT */
    u64 rax;                       /* of a call: leaf and version */
    u64 operands[TRACE_REGISTERS]; /* of a call: its registers; 0 where the line has none */
};

/* Cuts the line into words as it goes. False, and what is wrong in `error`, if it is damaged. */
bool trace_parse(char *line, struct trace_command *command, char error[TRACE_ERROR_BYTES]);

/* The registers of a call as the processor has them. */
void trace_registers(const struct trace_command *command, struct tdx_regs *regs);

#endif
