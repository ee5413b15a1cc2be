/* SPDX-License-Identifier: MIT */
/*
 * Sequences of SEAMCALLs and of what guests do, played on the software module from bytes.
 *
 * Byte 0 chooses what there is at the start (fuzz_world.c). Each operation after it is a byte
 * that says which call or event, then a byte or more an operand: mostly "the so manieth TD", or
 * vCPU, page, address of those that there are, so that bytes drawn at random get far; now and then
 * another kind of object, or any number (fuzz_play.c).
 */
#ifndef TESTS_SOFT_FUZZ_H
#define TESTS_SOFT_FUZZ_H

#include "tests/soft/audit.h"
#include "tests/soft/seam_host.h"
#include "tests/soft/trace.h"

#define FUZZ_MESSAGE_BYTES (SOFT_AUDIT_BYTES + 128)

/* Plays the bytes; false if an audit fails, `message` says after which operation. */
bool fuzz_run(const u8 *bytes, size_t len_bytes, char message[FUZZ_MESSAGE_BYTES]);

/* --- Between fuzz_world.c, fuzz_play.c and fuzz_seed.c ------------------------------------- */

enum fuzz_start {
    FUZZ_NOTHING,  /* no call was made */
    FUZZ_READY,    /* the module is up */
    FUZZ_BUILDING, /* one TD, not finalized */
    FUZZ_RUNNABLE, /* one TD that can run */
    FUZZ_TWO,      /* two of them, the second a debug TD; both have run */
    FUZZ_DYNAMIC,  /* as FUZZ_RUNNABLE, with Dynamic PAMT */
    FUZZ_STARTS,
};

/*
 * As much of a trace as fits, as bytes: their number, or 0 if it is no trace. From FUZZ_READY on it
 * goes without its bring-up.
 */
size_t fuzz_seed(enum fuzz_start start, const char *trace_path, u8 *bytes, size_t capacity_bytes);

#define FUZZ_TDS_MAX 4
#define FUZZ_VCPUS_MAX 8
#define FUZZ_PAGES 1024 /* of 4 KiB, one after another */
#define FUZZ_PAGE(number) (0x100000000ull + (number)*PAGE_BYTES)
#define FUZZ_LARGE(number) (0x100800000ull + (number)*2 * MIB)
#define FUZZ_LARGE_PAGES 8
#define FUZZ_PAIR(number) (0x102000000ull + (number)*PAGE_BYTES)
#define FUZZ_PARAMS 0x300000ull /* TD_PARAMS, in the VMM's memory */
#define FUZZ_SHARED 0x310000ull /* pages that nobody minds */
#define FUZZ_KEYID 0x21
#define FUZZ_IDS_MAX 512

/* What operands are drawn from. */
struct fuzz_world {
    u64 tds[FUZZ_TDS_MAX], vcpus[FUZZ_VCPUS_MAX];
    u32 td_count, vcpu_count;
    u64 given[FUZZ_PAGES]; /* pages that the VMM handed over, as far as it knows */
    u32 given_count;
    u64 returned[FUZZ_PAGES]; /* and those that it got back */
    u32 returned_count, next_page;
    u64 answer; /* RCX of the last call */
};
extern struct fuzz_world fuzz_world;
extern u64 fuzz_ids[3][FUZZ_IDS_MAX]; /* of SYS, TD and VP fields */
extern u32 fuzz_id_counts[3];

void fuzz_world_start(u8 choice);
u64 fuzz_page_take(void);
/*
 * Memory that the VMM may write, or name for somebody else to write. With what is the module's it
 * would spoil what encryption and integrity keep from it on a machine that has them.
 */
bool fuzz_is_vmms(u64 address);
/* Makes a call on the selected LP and keeps the world up to date. */
enum call_end fuzz_call(struct tdx_regs *regs);
/* The same, for its status alone; 0 where it ends in a guest. */
u64 fuzz_answer(u64 rax, u64 rcx, u64 rdx, u64 r8, u64 r9);

/* Bytes of operations that say exactly what a trace says. */
enum fuzz_raw {
    FUZZ_RAW_CALL = 0xe0, /* which registers (1), RAX (4), those registers (8 each) */
    FUZZ_RAW_REPEAT,      /* times less 1 (1), and the same */
    FUZZ_RAW_TDCALL,      /* as FUZZ_RAW_CALL */
    FUZZ_RAW_EPT,         /* GPA (8), qualification (8) */
    FUZZ_RAW_EXIT,        /* reason (8), qualification (8) */
    FUZZ_RAW_WRITE,       /* address (8), value (8) */
    FUZZ_RAW_LP,          /* index (1) */
    FUZZ_RAW_INTERRUPT,   /* 0 or 1 (1) */
    FUZZ_RAW_END,
};

#endif
