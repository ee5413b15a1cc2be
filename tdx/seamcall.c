/* SPDX-License-Identifier: MIT */
#include "tdx/seamcall.h"

#include <stdatomic.h>

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/string.h"
#include "boot/x86.h"
#include "tdx/seamcall_once.h"

/* tdx/seamcall.asm loads the registers by these indexes. */
_Static_assert(GPR_RAX == 0 && GPR_RCX == 1 && GPR_RDX == 2 && GPR_RBX == 3 && GPR_RBP == 5 &&
                   GPR_RSI == 6 && GPR_RDI == 7 && GPR_R8 == 8 && GPR_R15 == 15,
               "order of struct tdx_regs");

#define ENTROPY_TRIES 10
#define BUSY_TRIES 10000

void (*tdx_entry)(void) = seamcall_hardware;

struct seamcall_count seamcall_count_table[TDH_LEAF_LIMIT];

bool seamcall_is_measured; /* written before the first call */
struct seamcall_clock seamcall_clocks[CPU_MAX];
static u64 each_ticks; /* of tdx_call_each's own, a call */

struct injection {
    u32 leaf;
    struct tdx_status status;
    _Atomic u64 calls_left; /* until the one that fails; 0: spent */
};
/* Written before the calls that they spoil, by one processor. */
static struct injection injections[CONFIG_INJECT_MAX];
_Atomic u32 seamcall_injections;

const struct seamcall_count *seamcall_counts(void)
{
    return seamcall_count_table;
}

static bool leaf_find(const char *name, u32 *leaf)
{
    for (*leaf = 0; *leaf < TDH_LEAF_LIMIT; ++*leaf)
        if (strcmp(tdh_leaf_name(*leaf), name) == 0)
            return true;
    return false;
}

static bool status_find(const char *name, struct tdx_status *status)
{
    static const u32 codes[] = {
#define TDX_STATUS(status_, value) value,
#include "tdx/abi/status.def"
#undef TDX_STATUS
    };
    for (u32 i = 0; i < ARRAY_LENGTH(codes); i++) {
        *status = (struct tdx_status){(u64)codes[i] << 32};
        if (strcmp(tdx_status_name(*status), name) == 0)
            return true;
    }
    return false;
}

enum error seamcall_inject(const struct inject_config *injection)
{
    u32 leaf;
    struct tdx_status status;
    if (!leaf_find(injection->leaf, &leaf)) {
        log_line("tdx: tain.cfg:%u: inject: no leaf is named %s", injection->line, injection->leaf);
        return ERR_INVALID;
    }
    /* A success that was never made would be a lie to the driver, not a failure to survive. */
    if (!status_find(injection->status, &status) ||
        !(status.raw & (TDX_STATUS_ERROR | TDX_STATUS_NON_RECOVERABLE))) {
        log_line("tdx: tain.cfg:%u: inject: no error status is named %s", injection->line,
                 injection->status);
        return ERR_INVALID;
    }
    u32 index = atomic_load(&seamcall_injections);
    if (injection->nth == 0 || index == CONFIG_INJECT_MAX) {
        log_line("tdx: tain.cfg:%u: inject: %s", injection->line,
                 injection->nth == 0 ? "calls are counted from 1" : "too many injections");
        return ERR_INVALID;
    }
    injections[index].leaf = leaf;
    injections[index].status = status;
    atomic_store(&injections[index].calls_left, injection->nth);
    atomic_store(&seamcall_injections, index + 1);
    return OK;
}

void seamcall_inject_clear(void)
{
    atomic_store(&seamcall_injections, 0);
}

struct tdx_status seamcall_injection_find(u32 leaf)
{
    u32 count = atomic_load_explicit(&seamcall_injections, memory_order_acquire);
    for (u32 i = 0; i < count; i++) {
        struct injection *injection = &injections[i];
        u64 left = atomic_load(&injection->calls_left);
        if (injection->leaf != leaf || left == 0)
            continue;
        while (left != 0 && !atomic_compare_exchange_weak(&injection->calls_left, &left, left - 1))
            ;
        if (left != 1)
            continue;
        log_line("tdx: %s is made to fail: %s (inject)", tdh_leaf_name(leaf),
                 tdx_status_name(injection->status));
        return injection->status;
    }
    return (struct tdx_status){0};
}

#define IDLE_CALLS 64

/* What tdx_call_each itself takes for one call: it counts as ours. */
static u64 each_own_ticks(void)
{
    struct tdx_each each = {.step = PAGE_BYTES, .left = IDLE_CALLS};
    void (*module)(void) = tdx_entry;
    tdx_entry = tdx_entry_idle;
    u64 start = tsc_read();
    (void)tdx_call_each(&each);
    u64 ticks = tsc_read() - start;
    tdx_entry = module;
    return ticks / IDLE_CALLS;
}

void seamcall_measure(bool on)
{
    each_ticks = on ? each_own_ticks() : 0;
    seamcall_is_measured = on;
}

const struct seamcall_clock *seamcall_clock(void)
{
    return &seamcall_clocks[cpu_this()->index];
}

void seamcall_failure_count(enum tdh_leaf leaf, struct tdx_status status)
{
    atomic_fetch_add_explicit(&seamcall_count_table[leaf].failures, 1, memory_order_relaxed);
    if (tdx_status_is_busy(status))
        atomic_fetch_add_explicit(&seamcall_count_table[leaf].busy, 1, memory_order_relaxed);
}

/* Leaves that a guest's exits and memory need, none of which draws a random number. */
#define LEAF_BIT(leaf) (1ull << (leaf))
#define LEAVES_WITHOUT_ENTROPY                                                                    \
    (LEAF_BIT(TDH_VP_ENTER) | LEAF_BIT(TDH_MEM_PAGE_ADD) | LEAF_BIT(TDH_MEM_SEPT_ADD) |           \
     LEAF_BIT(TDH_MEM_PAGE_AUG) | LEAF_BIT(TDH_MEM_RANGE_BLOCK) | LEAF_BIT(TDH_MEM_PAGE_DEMOTE) | \
     LEAF_BIT(TDH_MEM_PAGE_PROMOTE) | LEAF_BIT(TDH_MEM_SEPT_RD) | LEAF_BIT(TDH_MEM_TRACK) |       \
     LEAF_BIT(TDH_MEM_RANGE_UNBLOCK) | LEAF_BIT(TDH_MEM_PAGE_REMOVE) |                            \
     LEAF_BIT(TDH_MEM_SEPT_REMOVE) | LEAF_BIT(TDH_PHYMEM_PAGE_WBINVD) |                           \
     LEAF_BIT(TDH_PHYMEM_PAGE_RECLAIM) | LEAF_BIT(TDH_MR_EXTEND))

static bool leaf_wants_entropy(enum tdh_leaf leaf)
{
    return leaf >= 64 || !(LEAVES_WITHOUT_ENTROPY & LEAF_BIT(leaf));
}

static struct tdx_status call_full(enum tdh_leaf leaf, struct tdx_regs *regs)
{
    return seamcall_once(leaf, false, (union seamcall_registers){.all = regs});
}

/* Where no answer can be RND_NO_ENTROPY, a copy of all operands would be for nothing. */
__attribute__((noinline)) static struct tdx_status call_with_entropy(enum tdh_leaf leaf, u64 rax,
                                                                     struct tdx_regs *regs)
{
    const struct tdx_regs operands = *regs;
    struct tdx_status status;
    u32 tries = 0;
    do {
        *regs = operands;
        regs->gpr[GPR_RAX] = rax;
        status = call_full(leaf, regs);
    } while (tdx_status_code(status) == TDX_RND_NO_ENTROPY && ++tries < ENTROPY_TRIES);
    return status;
}

struct tdx_status seamcall_version(enum tdh_leaf leaf, u8 version, struct tdx_regs *regs)
{
    u64 rax = leaf | (u64)version << TDX_VERSION_SHIFT;
    if (leaf_wants_entropy(leaf))
        return call_with_entropy(leaf, rax, regs);
    regs->gpr[GPR_RAX] = rax;
    return call_full(leaf, regs);
}

/* Until an answer is not 0. One by one, where there are injections: each is for one call. */
static struct tdx_status each_injected(struct tdx_each *each)
{
    struct tdx_status status = {0};
    while (each->left && status.raw == 0) {
        struct tdx_short regs = {.rcx = each->operand, .rdx = each->rdx};
        status = seamcall_short((enum tdh_leaf)each->leaf, &regs);
        each->operand += status.raw == 0 ? each->step : 0;
        each->left -= status.raw == 0;
    }
    return status;
}

static struct tdx_status each_plain(struct tdx_each *each)
{
    u64 left = each->left, start = seamcall_is_measured ? tsc_read() : 0;
    bool carry = tdx_call_each(each);
    struct tdx_status status = {carry ? TDX_STATUS_NO_MODULE : each->status};
    u64 calls = left - each->left + (status.raw != 0);
    if (seamcall_is_measured)
        seamcall_clocks[cpu_this()->index].module_ticks += tsc_read() - start - calls * each_ticks;
    atomic_fetch_add_explicit(&seamcall_count_table[each->leaf].calls, calls, memory_order_relaxed);
    if (tdx_status_is_error(status))
        seamcall_failure_count((enum tdh_leaf)each->leaf, status);
    return status;
}

struct tdx_status seamcall_each(struct tdx_each *each)
{
    for (;;) {
        bool injected = atomic_load_explicit(&seamcall_injections, memory_order_acquire);
        struct tdx_status status = injected ? each_injected(each) : each_plain(each);
        if (each->left == 0 || (status.raw & (TDX_STATUS_ERROR | TDX_STATUS_NON_RECOVERABLE)))
            return status;
        /* Done, with something to say. */
        each->operand += each->step;
        if (--each->left == 0)
            return status;
    }
}

struct tdx_status seamcall_short(enum tdh_leaf leaf, struct tdx_short *regs)
{
    regs->rax = leaf;
    return seamcall_once(leaf, true, (union seamcall_registers){.few = regs});
}

struct tdx_status seamcall(enum tdh_leaf leaf, struct tdx_regs *regs)
{
    return seamcall_version(leaf, 0, regs);
}

struct tdx_status seamcall_patient_version(enum tdh_leaf leaf, u8 version, struct tdx_regs *regs)
{
    const struct tdx_regs operands = *regs;
    struct tdx_status status = seamcall_version(leaf, version, regs);
    for (u32 tries = 0; tdx_status_is_busy(status) && tries < BUSY_TRIES; tries++) {
        cpu_relax();
        *regs = operands;
        status = seamcall_version(leaf, version, regs);
    }
    return status;
}

struct tdx_status seamcall_patient(enum tdh_leaf leaf, struct tdx_regs *regs)
{
    return seamcall_patient_version(leaf, 0, regs);
}
