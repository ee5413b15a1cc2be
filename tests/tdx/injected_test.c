/* SPDX-License-Identifier: MIT */
/*
 * A life with every leaf that the driver makes, from the module's start to its last TD's end. Each
 * call of each leaf is answered, once and several times in a row, by each kind of status: the VMM
 * comes through, or says so in one line; pages and keys come back, and no rule is broken.
 */
#include "tdx/td.h"

#include <stdio.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/paging.h"
#include "mm/pages.h"
#include "tdx/keys.h"
#include "tdx/module.h"
#include "tdx/pamt.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/soft_module.h"

#define CPUS 4
#define PACKAGES 2
#define VCPUS 2
#define ADDED 4
#define FRAME 0x40000ull
#define MAPPED 6
#define LARGE_FRAME 0x41000ull
#define CUT 3
#define PATIENCE 8 /* how often a guest faults, or the VMM tries again */

static const struct memory_range memory[] = {{MIB, 40 * MIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpus[VCPUS];
static struct vcpu_caches caches;

/* What an answer is to the VMM. */
enum verdict {
    VERDICT_AGAIN, /* nothing is wrong: ask again, and nobody is told */
    VERDICT_REFUSED,
};

static const struct {
    const char *name;
    enum verdict verdict;
    u32 in_a_row;
} answers[] = {
    {"OPERAND_BUSY", VERDICT_AGAIN, 1},
    {"OPERAND_BUSY", VERDICT_AGAIN, 3},
    {"SYS_BUSY", VERDICT_AGAIN, 1},
    {"OPERAND_BUSY_HOST_PRIORITY", VERDICT_AGAIN, 1},
    {"PREVIOUS_TLB_EPOCH_BUSY", VERDICT_AGAIN, 1},
    {"INTERRUPTED_RESUMABLE", VERDICT_AGAIN, 1},
    {"INTERRUPTED_RESUMABLE", VERDICT_AGAIN, 3},
    {"INTERRUPTED_RESTARTABLE", VERDICT_AGAIN, 1},
    {"RND_NO_ENTROPY", VERDICT_AGAIN, 1},
    {"RND_NO_ENTROPY", VERDICT_AGAIN, 3},
    {"OPERAND_INVALID", VERDICT_REFUSED, 1},
    {"TD_FATAL", VERDICT_REFUSED, 1},
};

static const struct td_options options = {
    .max_vcpus = VCPUS,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static enum error td_build(void)
{
    u8 content[PAGE_BYTES] = {1}, mrtd[TD_MEASUREMENT_BYTES];
    enum error error = td_create(&td, &options);
    for (u32 i = 0; !error && i < VCPUS; i++)
        error = td_vcpu_create(&td, &vcpus[i], 0x1000, hpa(0x200000));
    for (u64 i = 0; !error && i < ADDED; i++)
        error = td_add_page(&td, &caches, gpa(i * PAGE_BYTES), content);
    if (!error)
        error = td_finalize(&td);
    return error ? error : td_measurement(&td, mrtd);
}

static enum error map(u64 frame, enum level level)
{
    enum error error = ERR_BUSY;
    for (u32 i = 0; error == ERR_BUSY && i < PATIENCE; i++)
        error = mirror_map(&td.mirror, &caches, gfn(frame), level);
    return error;
}

static enum error cut(u64 start, u64 end)
{
    gfn_t done = gfn(start);
    enum error error = ERR_BUSY;
    for (u32 i = 0; error == ERR_BUSY && i < PATIENCE; i++)
        error = mirror_remove_range(&td.mirror, &caches, done, gfn(end), &done);
    return error;
}

static enum error resize(u64 frame, enum level level)
{
    enum error error = ERR_BUSY;
    for (u32 i = 0; error == ERR_BUSY && i < PATIENCE; i++)
        error = level == LEVEL_4K ? mirror_demote(&td.mirror, &caches, gfn(frame), level)
                                  : mirror_promote(&td.mirror, gfn(frame), level);
    return error;
}

static enum error accept_page(u64 frame)
{
    struct td_exit exit = {.kind = TD_EXIT_RETRY};
    u64 status;
    for (u32 i = 0; exit.kind == TD_EXIT_RETRY && i < PATIENCE; i++)
        if (guest_accept(&vcpus[0], gfn(frame), LEVEL_4K, &status, &exit))
            return status ? ERR_STATE : OK;
    return exit.kind == TD_EXIT_RETRY ? ERR_BUSY : ERR_REFUSED;
}

/* A guest on one processor, and then on another, where it is asked for interrupts. */
static enum error guest_live(void)
{
    enum error error = accept_page(FRAME);
    host_cpu_set(1);
    if (!error)
        error = accept_page(FRAME + 1);
    /* There is none; but who cannot know wakes the guest. */
    bool is_pending = td_vcpu_interrupt_is_pending(&vcpus[0]);
    host_cpu_set(0);
    assert_int_equal(is_pending, strstr(host_log(), "TDH.VP.RD refused") != NULL);
    return error;
}

static enum error memory_live(void)
{
    enum error error = map(LARGE_FRAME, LEVEL_2M);
    if (!error)
        error = resize(LARGE_FRAME, LEVEL_4K);
    if (!error)
        error = resize(LARGE_FRAME, LEVEL_2M);
    if (!error)
        error = cut(LARGE_FRAME, LARGE_FRAME + CUT);
    if (!error)
        error = cut(FRAME, FRAME + MAPPED);
    /* What is empty now is taken away. */
    return error ? error : resize(FRAME, LEVEL_2M);
}

static enum error td_live(void)
{
    enum error error = td_build();
    for (u64 i = 0; !error && i < MAPPED; i++)
        error = map(FRAME + i, LEVEL_4K);
    if (!error)
        error = guest_live();
    if (!error)
        error = memory_live();
    return error;
}

/* What failed left both tables as they were, unless that was told as a TD that cannot go on. */
static enum error td_audit(void)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    if (!td.has_mirror || td.broken)
        return OK;
    enum error error = mirror_audit(&td.mirror, message);
    return error ? error : pamt_audit(message);
}

struct life {
    enum error started, lived, audited, ended;
    u64 leaked;
};

static struct pages_stats pages_at_start, pages_up;

static void life_begin(void)
{
    environment_start(CPUS, PACKAGES, memory, ARRAY_LENGTH(memory));
    soft_module_counts_clear();
    host_log_clear();
    pages_statistics(&pages_at_start);
    memset(&td, 0, sizeof td);
}

static struct life life_live(void)
{
    struct life life = {.started = tdx_module_start()};
    if (life.started)
        return life;
    pages_statistics(&pages_up);
    vcpu_caches_init(&caches, pamt_is_dynamic() ? METADATA_PAGES_MINIMUM : 0);
    life.lived = td_live();
    life.audited = td_audit();
    life.ended = td_destroy(&td);
    vcpu_caches_drain(&caches);
    struct pages_stats now;
    pages_statistics(&now);
    life.leaked = now.pages[PAGE_LEAKED];
    return life;
}

static u32 lines_with(const char *text)
{
    u32 sum = 0;
    for (const char *at = host_log(); (at = strstr(at, text)) != NULL; at++)
        sum++;
    return sum;
}

/* Pages of PAMT pairs that stay, because they could not be taken back or serve a page that is lost.
 */
static u64 pair_pages(void)
{
    struct pamt_stats pamt;
    pamt_statistics(&pamt);
    return PAMT_PAIR_PAGES * pamt.pairs_now + pamt.pages_lost;
}

static void pages_check(const struct life *life)
{
    struct pages_stats now;
    pages_statistics(&now);
    if (life->started) {
        /* The PAMTs are the module's once it was told of them. */
        assert_int_equal(now.pages[PAGE_FREE] + now.pages[PAGE_PAMT],
                         pages_at_start.pages[PAGE_FREE]);
        return;
    }
    assert_int_equal(now.pages[PAGE_FREE] + now.pages[PAGE_LEAKED] + pair_pages(),
                     pages_up.pages[PAGE_FREE]);
    assert_int_equal(host_hidden_pages(),
                     now.pages[PAGE_LEAKED] + pair_pages() + pages_up.pages[PAGE_PAMT]);
    assert_int_equal(cpu_this()->locks_held, 0);
}

static void rules_check(void)
{
    struct broken_rules broken;
    seamcall_inject_clear();
    assert_true(tdx_broken_rules(&broken));
    if (broken.sum)
        fail_msg("rules broken %llu times:\n%s", (unsigned long long)broken.sum, host_log());
}

/* Whose refusal may cost pages: those that the module would not give back. */
static bool leaf_may_leak(u32 leaf)
{
    return leaf == TDH_VP_FLUSH || leaf == TDH_MNG_VPFLUSHDONE || leaf == TDH_PHYMEM_CACHE_WB ||
           leaf == TDH_MNG_KEY_FREEID || leaf == TDH_PHYMEM_PAGE_RECLAIM ||
           leaf == TDH_PHYMEM_PAGE_WBINVD;
}

/* Whose refusal the VMM can live with, having told of it. */
static bool leaf_is_survived(u32 leaf)
{
    return leaf == TDH_PHYMEM_PAMT_REMOVE || leaf == TDH_PHYMEM_PAGE_WBINVD || leaf == TDH_VP_RD;
}

static void trouble_free(const struct life *life)
{
    assert_int_equal(life->started, OK);
    assert_int_equal(life->lived, OK);
    assert_int_equal(life->audited, OK);
    assert_int_equal(life->ended, OK);
    assert_int_equal(life->leaked, 0);
    assert_int_equal(keys_in_use(), 0);
    assert_int_equal(lines_with(" refused: "), 0);
}

static void refusal_told(const struct life *life, u32 leaf, const char *status)
{
    char line[128];
    snprintf(line, sizeof line, "tdx: %s refused: %s", tdh_leaf_name(leaf), status);
    assert_int_equal(lines_with(line), 1);
    if (!leaf_is_survived(leaf))
        assert_true(life->started || life->lived || life->audited || life->ended);
    /* An audit that cannot read says so. */
    if (leaf != TDH_MEM_SEPT_RD)
        assert_int_equal(life->audited, OK);
    if (leaf_may_leak(leaf))
        return;
    assert_int_equal(life->ended, OK);
    assert_int_equal(life->leaked, 0);
    if (!life->started)
        assert_int_equal(keys_in_use(), 0);
}

static void inject(u32 leaf, u32 nth, const char *status)
{
    struct inject_config injection = {.nth = nth};
    snprintf(injection.leaf, sizeof injection.leaf, "%s", tdh_leaf_name(leaf));
    snprintf(injection.status, sizeof injection.status, "%s", status);
    assert_int_equal(seamcall_inject(&injection), OK);
}

/* What is being tried, for who reads of a failure. */
static struct {
    bool is_on;
    u32 leaf, nth, answer;
} trial;

static int trial_tell(void **state)
{
    (void)state;
    if (trial.is_on)
        print_message("%s, call %u, answered %s, %u in a row:\n%s\n", tdh_leaf_name(trial.leaf),
                      trial.nth, answers[trial.answer].name, answers[trial.answer].in_a_row,
                      host_log());
    return 0;
}

static void nth_call_is_answered(u32 leaf, u32 nth, u32 answer)
{
    const char *status = answers[answer].name;
    enum verdict verdict = answers[answer].verdict;
    trial = (typeof(trial)){true, leaf, nth, answer};
    life_begin();
    /* Of those that are due at a call the first answers, and the next at the next. */
    for (u32 i = 0; i < answers[answer].in_a_row; i++)
        inject(leaf, nth, status);
    struct life life = life_live();
    assert_true(lines_with("is made to fail") >= 1);
    if (verdict == VERDICT_AGAIN)
        trouble_free(&life);
    else
        refusal_told(&life, leaf, status);
    pages_check(&life);
    if (!life.started)
        rules_check();
    environment_stop();
    trial.is_on = false;
}

static bool leaf_is_of_the_life(u32 leaf)
{
    switch (leaf) {
    case TDH_PHYMEM_PAMT_ADD:
    case TDH_PHYMEM_PAMT_REMOVE:
    case TDH_PHYMEM_PAGE_RDMD:
        return environment_newer_module;
    case TDH_SYS_INIT:
    case TDH_SYS_LP_INIT:
    case TDH_SYS_RD:
    case TDH_SYS_CONFIG:
    case TDH_SYS_KEY_CONFIG:
    case TDH_SYS_TDMR_INIT:
    case TDH_MNG_CREATE:
    case TDH_MNG_KEY_CONFIG:
    case TDH_MNG_ADDCX:
    case TDH_MNG_INIT:
    case TDH_MNG_RD:
    case TDH_MNG_VPFLUSHDONE:
    case TDH_MNG_KEY_FREEID:
    case TDH_VP_CREATE:
    case TDH_VP_ADDCX:
    case TDH_VP_INIT:
    case TDH_VP_WR:
    case TDH_VP_RD:
    case TDH_VP_ENTER:
    case TDH_VP_FLUSH:
    case TDH_MEM_SEPT_ADD:
    case TDH_MEM_SEPT_RD:
    case TDH_MEM_SEPT_REMOVE:
    case TDH_MEM_PAGE_ADD:
    case TDH_MEM_PAGE_AUG:
    case TDH_MEM_PAGE_DEMOTE:
    case TDH_MEM_PAGE_PROMOTE:
    case TDH_MEM_PAGE_REMOVE:
    case TDH_MEM_RANGE_BLOCK:
    case TDH_MEM_TRACK:
    case TDH_MR_EXTEND:
    case TDH_MR_FINALIZE:
    case TDH_PHYMEM_CACHE_WB:
    case TDH_PHYMEM_PAGE_RECLAIM:
    case TDH_PHYMEM_PAGE_WBINVD:
        return true;
    default:
        return false;
    }
}

/*
 * Of many alike, the first ones, a middle one and the last. A refused PAGE.RDMD is an answer, and
 * nobody's but the audit's: the page is in no TDMR.
 */
static bool call_is_tried(u32 leaf, u32 nth, u32 count, enum verdict verdict)
{
    if (leaf == TDH_PHYMEM_PAGE_RDMD && verdict == VERDICT_REFUSED)
        return false;
    return nth <= 6 || nth == count / 2 || nth == count;
}

static void every_call_is_answered_in_each_way(void **state)
{
    (void)state;
    u32 counts[TDH_LEAF_LIMIT];
    life_begin();
    struct life life = life_live();
    trouble_free(&life);
    for (u32 leaf = 0; leaf < TDH_LEAF_LIMIT; leaf++) {
        counts[leaf] = soft_module_count(leaf);
        assert_int_equal(counts[leaf] > 0, leaf_is_of_the_life(leaf));
    }
    pages_check(&life);
    rules_check();
    environment_stop();
    for (u32 leaf = 0; leaf < TDH_LEAF_LIMIT; leaf++)
        for (u32 nth = 1; nth <= counts[leaf]; nth++)
            for (u32 i = 0; i < ARRAY_LENGTH(answers); i++)
                if (call_is_tried(leaf, nth, counts[leaf], answers[i].verdict))
                    nth_call_is_answered(leaf, nth, i);
}

/*
 * A removal is refused in its middle, and each call of the way back is answered in each way: both
 * tables agree, whether the rest is the guest's again or stays blocked.
 */
static void every_way_back_is_answered_in_each_way(void **state)
{
    (void)state;
    for (u32 nth = 1; nth < MAPPED; nth++) {
        for (u32 i = 0; i < ARRAY_LENGTH(answers); i++) {
            trial = (typeof(trial)){true, TDH_MEM_RANGE_UNBLOCK, nth, i};
            life_begin();
            inject(TDH_MEM_PAGE_REMOVE, CUT + 2, "OPERAND_INVALID");
            for (u32 k = 0; k < answers[i].in_a_row; k++)
                inject(TDH_MEM_RANGE_UNBLOCK, nth, answers[i].name);
            struct life life = life_live();
            assert_int_equal(lines_with("TDH.MEM.RANGE.UNBLOCK is made to fail") > 0, true);
            assert_int_equal(lines_with("TDH.MEM.RANGE.UNBLOCK refused"),
                             answers[i].verdict == VERDICT_REFUSED);
            refusal_told(&life, TDH_MEM_PAGE_REMOVE, "OPERAND_INVALID");
            pages_check(&life);
            rules_check();
            environment_stop();
            trial.is_on = false;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_call_is_answered_in_each_way, trial_tell),
        cmocka_unit_test_teardown(every_way_back_is_answered_in_each_way, trial_tell),
    };
    int failed = cmocka_run_group_tests_name("static PAMT", tests, NULL, NULL);
    environment_newer_module = true;
    return failed + cmocka_run_group_tests_name("dynamic PAMT", tests, NULL, NULL);
}
