/* SPDX-License-Identifier: MIT */
/*
 * Processors that make SEAMCALLs of the same objects at the same time, past the driver: each answer
 * is one of contention.def, a busy one names an operand that it may be busy with; afterwards no
 * lock is held and no page is lost. For the thread sanitizer: build/host-tsan/contention.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/cpu.h"
#include "boot/vmx.h"
#include "mm/pages.h"
#include "tdx/handover.h"
#include "tdx/module.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/soft_locks.h"
#include "tests/tdx/soft_module.h"

#define THREADS 4
#define PACKAGES 2
#define CALLS 60000 /* of each thread */
#define POOL 64     /* pages that a thread may have; it begins with a quarter */
#define FRAME 0x40000ull
#define FRAMES 6
#define LARGE_FRAME 0x40200ull
#define TABLE_FRAME 0x40400ull /* a table comes and goes, empty */
#define TDRS 2
#define VCPUS 2
#define HANG_S 100

static const struct memory_range memory[] = {{MIB, 32 * MIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpus[VCPUS];
static hpa_t large_page;
static struct {
    hpa_t page;
    u16 keyid;
} tdrs[TDRS];

struct player {
    u32 number;
    u64 random;
    hpa_t pool[POOL];
    u32 pool_count;
};
static struct player players[THREADS];
static _Atomic u64 busy_answers, successes[TDH_LEAF_LIMIT];

static const struct td_options options = {
    .max_vcpus = VCPUS,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static const struct {
    enum tdh_leaf leaf;
    const char *busy, *others;
} rows[] = {
#define CONTENTION(leaf, busy, others) {leaf, busy, others},
#include "tests/tdx/contention.def"
#undef CONTENTION
};

static bool word_is_in(const char *word, const char *list)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at++)
        if ((at == list || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
            return true;
    return false;
}

static void answer_check(enum tdh_leaf leaf, struct tdx_status status)
{
    const char *name = tdx_status_name(status), *operand = tdx_operand_name((u32)status.raw);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (rows[i].leaf != leaf)
            continue;
        if (tdx_status_code(status) == TDX_OPERAND_BUSY) {
            atomic_fetch_add(&busy_answers, 1);
            if (word_is_in(operand, rows[i].busy))
                return;
        } else if (!tdx_status_is_error(status)) {
            atomic_fetch_add(&successes[leaf], 1);
            return;
        } else if (word_is_in(name, rows[i].others)) {
            return;
        }
    }
    fprintf(stderr, "contention: %s answered %s (%s), 0x%llx\n", tdh_leaf_name(leaf), name, operand,
            (unsigned long long)status.raw);
    abort();
}

static u32 draw(struct player *player, u32 limit)
{
    player->random = player->random * 6364136223846793005 + 1442695040888963407;
    return (u32)(player->random >> 33) % limit;
}

static bool call(enum tdh_leaf leaf, struct tdx_regs *regs)
{
    struct tdx_status status = seamcall(leaf, regs);
    answer_check(leaf, status);
    return !tdx_status_is_error(status);
}

static bool call_with(enum tdh_leaf leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = rdx;
    regs.gpr[GPR_R8] = r8;
    return call(leaf, &regs);
}

/* A page of the pool for an entry. */
static void page_place(struct player *player, enum tdh_leaf leaf, u64 rcx)
{
    if (player->pool_count == 0)
        return;
    hpa_t page = player->pool[player->pool_count - 1];
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = td.tdr.raw;
    regs.gpr[GPR_R8] = page.raw;
    regs.gpr[GPR_R9] = regs.gpr[GPR_R10] = regs.gpr[GPR_R11] = ~0ull;
    if (call(leaf, &regs))
        player->pool_count--;
}

/* A page, or a table, comes out of an entry: into the pool. */
static void page_take(struct player *player, enum tdh_leaf leaf, u64 rcx)
{
    if (player->pool_count == POOL)
        return;
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = td.tdr.raw;
    if (!call(leaf, &regs))
        return;
    hpa_t page = hpa(regs.gpr[GPR_RCX]);
    while (!call_with(TDH_PHYMEM_PAGE_WBINVD, page.raw | (u64)td.hkid << tdx_module()->hkid_shift,
                      0, 0))
        ;
    player->pool[player->pool_count++] = page;
}

static void memory_step(struct player *player)
{
    u64 small = (FRAME + draw(player, FRAMES)) << PAGE_SHIFT, table = TABLE_FRAME << PAGE_SHIFT | 1;
    u64 large = LARGE_FRAME << PAGE_SHIFT | 1;
    u64 any = draw(player, 3) ? draw(player, 2) ? large : small : table;
    switch (draw(player, 12)) {
    case 0:
    case 1:
        page_place(player, TDH_MEM_PAGE_AUG, small);
        break;
    case 2:
        call_with(TDH_MEM_PAGE_AUG, large, td.tdr.raw, large_page.raw);
        break;
    case 3:
        page_place(player, TDH_MEM_SEPT_ADD, table);
        break;
    case 4:
        page_take(player, TDH_MEM_SEPT_REMOVE, table);
        break;
    case 5:
        page_take(player, TDH_MEM_PAGE_REMOVE, small);
        break;
    case 6:
        page_place(player, TDH_MEM_PAGE_DEMOTE, large);
        break;
    case 7:
        page_take(player, TDH_MEM_PAGE_PROMOTE, large);
        break;
    case 8:
        call_with(TDH_MEM_SEPT_RD, any, td.tdr.raw, 0);
        break;
    case 9:
        call_with(TDH_MEM_RANGE_UNBLOCK, any, td.tdr.raw, 0);
        break;
    default:
        call_with(TDH_MEM_RANGE_BLOCK, any, td.tdr.raw, 0);
        break;
    }
}

static void vcpu_step(struct player *player)
{
    u64 tdvpr = vcpus[draw(player, VCPUS)].tdvpr.raw;
    switch (draw(player, 4)) {
    case 0:
        call_with(TDH_VP_RD, tdvpr, MD_VP_STATE_DETAILS, 0);
        break;
    case 1:
        call_with(TDH_VP_FLUSH, tdvpr, 0, 0);
        break;
    default:
        call_with(TDH_VP_ENTER, tdvpr, 0, 0);
        break;
    }
}

/* Lives of TDs that are nothing but a TDR, and of their keys. */
static void key_step(struct player *player)
{
    u32 i = draw(player, TDRS);
    u64 tdr = tdrs[i].page.raw;
    switch (draw(player, 6)) {
    case 0:
        call_with(TDH_MNG_CREATE, tdr, tdrs[i].keyid, 0);
        break;
    case 1:
        call_with(TDH_MNG_KEY_CONFIG, tdr, 0, 0);
        break;
    case 2:
        call_with(TDH_MNG_VPFLUSHDONE, tdr, 0, 0);
        break;
    case 3:
        call_with(TDH_PHYMEM_CACHE_WB, 0, 0, 0);
        break;
    case 4:
        call_with(TDH_MNG_KEY_FREEID, tdr, 0, 0);
        break;
    default:
        call_with(TDH_PHYMEM_PAGE_RECLAIM, tdr, 0, 0);
        break;
    }
}

static void player_step(struct player *player)
{
    u32 kind = draw(player, 100);
    if (kind < 55)
        memory_step(player);
    else if (kind < 70)
        call_with(TDH_MEM_TRACK, td.tdr.raw, 0, 0);
    else if (kind < 82)
        vcpu_step(player);
    else if (kind < 94)
        key_step(player);
    else if (kind < 97)
        call_with(TDH_PHYMEM_PAGE_RDMD, draw(player, 2) ? large_page.raw : td.tdr.raw, 0, 0);
    else
        call_with(TDH_MNG_RD, td.tdr.raw, MD_TD_TSC_OFFSET, 0);
}

static void *player_run(void *argument)
{
    struct player *player = argument;
    host_cpu_set(player->number);
    for (u32 i = 0; i < CALLS; i++)
        player_step(player);
    return NULL;
}

/*
 * Accepts, faults until the module suspects zero-stepping, or is interrupted. The large page is
 * accepted whole: in part, and split, it could never be promoted again.
 */
static void guest_play(struct tdvps *vcpu, struct guest_exit *exit)
{
    struct player *player = &players[cpu_this()->index];
    bool is_large = draw(player, 2);
    u64 frame = is_large ? LARGE_FRAME + draw(player, 64) : FRAME + draw(player, FRAMES);
    switch (draw(player, 8)) {
    case 0:
        guest_interrupted(exit);
        break;
    case 1:
        guest_accept_begin(vcpu, exit, gfn(is_large ? LARGE_FRAME : frame),
                           is_large ? LEVEL_2M : LEVEL_4K);
        break;
    default:
        *exit = (struct guest_exit){
            .reason = EXIT_EPT_VIOLATION, .qualification = 2, .address = frame << PAGE_SHIFT};
        break;
    }
}

static void pages_take(void)
{
    for (u32 i = 0; i < TDRS; i++) {
        assert_int_equal(page_allocate(PAGE_TD_CONTROL, &tdrs[i].page), OK);
        assert_int_equal(page_hand_over(tdrs[i].page, LEVEL_4K, NULL), OK);
        assert_int_equal(tdx_key_allocate(&tdrs[i].keyid), OK);
    }
    assert_int_equal(page_allocate_level(PAGE_PRIVATE, LEVEL_2M, &large_page), OK);
    assert_int_equal(page_hand_over(large_page, LEVEL_2M, NULL), OK);
    for (u32 i = 0; i < THREADS; i++) {
        players[i] = (struct player){.number = i, .random = i + 1};
        for (; players[i].pool_count < POOL / 4; players[i].pool_count++) {
            hpa_t *page = &players[i].pool[players[i].pool_count];
            assert_int_equal(page_allocate(PAGE_PRIVATE, page), OK);
            assert_int_equal(page_hand_over(*page, LEVEL_4K, NULL), OK);
        }
    }
}

static void start(void)
{
    environment_start(THREADS, PACKAGES, memory, ARRAY_LENGTH(memory));
    assert_int_equal(tdx_module_start(), OK);
    struct vcpu_caches caches;
    vcpu_caches_init(&caches, 0);
    assert_int_equal(td_create(&td, &options), OK);
    for (u32 i = 0; i < VCPUS; i++)
        assert_int_equal(td_vcpu_create(&td, &vcpus[i], 0, hpa(0x200000)), OK);
    assert_int_equal(td_finalize(&td), OK);
    /* Tables down to the entries that are fought for. */
    assert_int_equal(mirror_map(&td.mirror, &caches, gfn(FRAME), LEVEL_4K), OK);
    soft_module_guest = guest_play;
    pages_take();
}

/* Of what threads may hold: the large page is in the table or in nobody's hands. */
static u64 pages_count(void)
{
    u64 sum = soft_sept_pages(td.tdr.raw);
    for (u32 i = 0; i < THREADS; i++)
        sum += players[i].pool_count;
    return sum;
}

static void processors_contend_for_the_same_objects(void **state)
{
    (void)state;
    pthread_t handles[THREADS];
    start();
    u64 pages = pages_count();
    for (u32 i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&handles[i], NULL, player_run, &players[i]), 0);
    for (u32 i = 0; i < THREADS; i++)
        pthread_join(handles[i], NULL);
    const char *held = soft_lock_held(td.tdr.raw);
    if (held)
        fail_msg("a lock is held: %s", held);
    assert_int_equal((pages_count() - pages) % level_pages(LEVEL_2M), 0);
    /* Nobody was kept out all the time, and somebody was kept out. */
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        if (!successes[rows[i].leaf])
            fail_msg("%s never succeeded", tdh_leaf_name(rows[i].leaf));
    assert_true(busy_answers > 0);
    print_message("%llu of %u calls were busy\n", (unsigned long long)busy_answers,
                  THREADS * CALLS);
    environment_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processors_contend_for_the_same_objects),
    };
    alarm(HANG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
