/* SPDX-License-Identifier: MIT */
/*
 * One SEAMCALL: registers in, registers out, status. Whether Intel's module or the software
 * module answers is decided by the one pointer `tdx_entry`, at run time.
 */
#ifndef TDX_SEAMCALL_H
#define TDX_SEAMCALL_H

#include "boot/config.h"
#include "boot/error.h"
#include "tdx/abi/abi.h"

/* A completion status; becomes one of our errors in tdx_status_error alone. */
struct [[nodiscard]] tdx_status {
    u64 raw;
};

static inline u32 tdx_status_code(struct tdx_status s)
{
    return (u32)(s.raw >> 32);
}
static inline bool tdx_status_is_error(struct tdx_status s)
{
    return (s.raw & TDX_STATUS_ERROR) != 0;
}
/* *_BUSY, INTERRUPTED_* and RND_NO_ENTROPY: nothing is wrong, ask again. */
bool tdx_status_is_busy(struct tdx_status status);
/* One of the pseudo statuses: nobody answered. */
bool tdx_status_is_unanswered(struct tdx_status status);
const char *tdx_status_name(struct tdx_status status);
const char *tdh_leaf_name(u32 leaf);
/* "?" for an id that no row names. */
const char *tdx_operand_name(u32 operand);

/*
 * Where a SEAMCALL goes: registers as SEAMCALL has them, all of them in and out; carry set for
 * VMfailInvalid. `seamcall_hardware` (the instruction; a #GP or #UD comes back as
 * TDX_STATUS_SEAMCALL_*) or the software module's entry.
 */
extern void (*tdx_entry)(void);
void seamcall_hardware(void);
/* Calls tdx_entry with all registers but RSP; true if carry was set. (tdx/seamcall.asm) */
bool tdx_call(struct tdx_regs *regs);
/* The same with four of them, for the leaves that are called once a page. */
struct tdx_short {
    u64 rax, rcx, rdx, r8;
};
bool tdx_call_short(struct tdx_short *regs);
/* One leaf for a row of pages: RCX is `operand`, then that much further, `left` times. */
struct tdx_each {
    u64 leaf, operand, rdx, step, left;
    u64 status; /* of the last call */
};
bool tdx_call_each(struct tdx_each *each);
void tdx_entry_idle(void);

/*
 * Makes the call on this processor, retries RND_NO_ENTROPY, counts it, applies injection.
 * regs->gpr[GPR_RAX] is set from `leaf` (and its version) here.
 */
struct tdx_status seamcall(enum tdh_leaf leaf, struct tdx_regs *regs);
struct tdx_status seamcall_version(enum tdh_leaf leaf, u8 version, struct tdx_regs *regs);

/* With RCX, RDX and R8 alone, in and out; never for a leaf that draws a random number. */
struct tdx_status seamcall_short(enum tdh_leaf leaf, struct tdx_short *regs);

/* tdx_call_each, until an answer is an error: `each` says how far it got. Otherwise the same. */
struct tdx_status seamcall_each(struct tdx_each *each);

/*
 * seamcall, made again with the same operands while the answer is busy, for the places where
 * nobody else can wait; a bound stands in for "for ever". For leaves whose operands an
 * INTERRUPTED_* does not move.
 */
struct tdx_status seamcall_patient(enum tdh_leaf leaf, struct tdx_regs *regs);
struct tdx_status seamcall_patient_version(enum tdh_leaf leaf, u8 version, struct tdx_regs *regs);

/*
 * The one place where a status becomes an error. Success (and the informational successes) is
 * OK; those of tdx_status_is_busy are ERR_BUSY and are not logged; everything else is ERR_REFUSED
 * and logged with leaf, status, operand and `where`.
 */
enum error tdx_status_error(struct tdx_status status, enum tdh_leaf leaf, const char *where);
/* For seamcall_patient's answers: busy to the end is a refusal too, and logged. */
enum error tdx_status_error_final(struct tdx_status status, enum tdh_leaf leaf, const char *where);

struct seamcall_count {
    _Atomic u64 calls;
    _Atomic u64 failures; /* error statuses */
    _Atomic u64 busy;     /* of those, tdx_status_is_busy */
};
const struct seamcall_count *seamcall_counts(void); /* by leaf, TDH_LEAF_LIMIT rows */

/* Where a processor's time with the module went; it runs while seamcall_measure says so. */
struct seamcall_clock {
    u64 module_ticks;          /* inside every call but VP.ENTER, summed */
    u64 enter_tsc, return_tsc; /* of the last VP.ENTER */
};
void seamcall_measure(bool on);
const struct seamcall_clock *seamcall_clock(void); /* this processor's */

/*
 * From then on the nth call of the leaf (by name) answers the status (by name) instead, once.
 * ERR_INVALID with one line that names what is unknown.
 */
enum error seamcall_inject(const struct inject_config *injection);
void seamcall_inject_clear(void);

#endif
