/* SPDX-License-Identifier: MIT */
/*
 * Up to 8 processors on the same memory of two TDs, the real driver and the software module below
 * them: faults, conversions, removals, promotions and demotions, with vCPUs in the guest all the
 * while. For the thread sanitizer: build/host-tsan/threads.
 *
 *    threads [--seconds N] [--seed N] [--threads N]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "boot/cpu.h"
#include "tdx/keys.h"
#include "tdx/module.h"
#include "tdx/seamcall.h"
#include "tdx/soft/td.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/threads.h"

#define TDS 2
#define ROUND_MS 250
#define HANG_S 100
#define OVERSEER THREADS_MAX /* the processor of the main thread */

static u32 seconds = 5, threads = THREADS_MAX;
static u64 seed = 1;

static const struct memory_range memory[] = {{MIB, 48 * MIB, MEMORY_FREE}};
static struct td tds[TDS];
static struct player players[THREADS_MAX];
static hpa_t shared_root;
static pthread_barrier_t round_starts, round_ends;
static _Atomic bool is_over, round_is_over;

static const struct td_options options = {
    .max_vcpus = THREADS_MAX,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static void player_create(u32 number)
{
    struct player *player = &players[number];
    memset(player, 0, sizeof *player);
    player->number = number;
    player->td_number = number % TDS;
    player->td = &tds[player->td_number];
    player->random.state = seed * 0x100000001b3 + number;
    vcpu_caches_init(&player->caches, 0);
    assert_int_equal(td_vcpu_create(player->td, &player->vcpu, 0, shared_root), OK);
    const struct tdcs *tdcs = host_memory_at(player->td->tdcs[0].raw);
    player->eptp = tdcs->eptp;
}

static void *player_run(void *argument)
{
    struct player *player = argument;
    player_sit(player);
    for (;;) {
        pthread_barrier_wait(&round_starts);
        if (is_over)
            return NULL;
        while (!round_is_over)
            player_step(player);
        pthread_barrier_wait(&round_ends);
    }
}

/* A quiescent point: both tables agree, and every page that a guest reaches holds what it may. */
static void td_check(u32 number)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    struct mirror *mirror = &tds[number].mirror;
    const struct tdcs *tdcs = host_memory_at(tds[number].tdcs[0].raw);
    enum error error = mirror_audit(mirror, message);
    assert_string_equal(message, "");
    assert_int_equal(error, OK);
    u64 present = 0;
    for (u32 frame = 0; frame < THREADS_FRAMES; frame++) {
        struct translation translation;
        hpa_t page = mirror_lookup(mirror, gfn(frame), NULL);
        present += !hpa_is_none(page);
        if (!guest_translate(tdcs->eptp, gfn_to_gpa(gfn(frame)).raw, &translation))
            continue;
        const u64 *words = host_memory_at(translation.page);
        assert_int_equal(translation.page, page.raw);
        assert_int_equal(page_owner(page), PAGE_PRIVATE);
        assert_true(player_word_is_right(number, frame, words[0]));
    }
    assert_int_equal(mirror_private_pages(mirror), present);
}

static void owners_check(void)
{
    struct pages_stats stats;
    u64 sum = 0, private_pages = 0, tables = 0;
    pages_statistics(&stats);
    for (u32 owner = 0; owner < PAGE_OWNER_KINDS; owner++)
        sum += stats.pages[owner];
    assert_int_equal(sum, stats.total_pages);
    for (u32 i = 0; i < threads; i++) {
        private_pages += players[i].caches.private_pages.count +
                         players[i].caches.private_large.count * level_pages(LEVEL_2M);
        tables += players[i].caches.mirror_tables.count;
    }
    for (u32 i = 0; i < TDS; i++) {
        private_pages += mirror_private_pages(&tds[i].mirror);
        tables += tds[i].mirror.stats.tables + 1;
    }
    assert_int_equal(stats.pages[PAGE_PRIVATE], private_pages);
    assert_int_equal(stats.pages[PAGE_MIRROR_TABLE], tables);
    assert_int_equal(stats.pages[PAGE_LEAKED], 0);
}

static void round_run(void)
{
    static const struct timespec length = {.tv_nsec = ROUND_MS * 1000000};
    round_is_over = false;
    pthread_barrier_wait(&round_starts);
    nanosleep(&length, NULL);
    round_is_over = true;
    pthread_barrier_wait(&round_ends);
    for (u32 i = 0; i < TDS; i++)
        td_check(i);
    owners_check();
}

static u64 busy_answers(void)
{
    u64 sum = 0;
    for (u32 leaf = 0; leaf < TDH_LEAF_LIMIT; leaf++)
        sum += seamcall_counts()[leaf].busy;
    return sum;
}

/* What the threads were to meet they have met. */
static void totals_check(void)
{
    struct player sum = {};
    for (u32 i = 0; i < threads; i++) {
        const struct player *player = &players[i];
        sum.operations += player->operations;
        sum.entries += player->entries;
        sum.accesses += player->accesses;
        sum.accepts += player->accepts;
        sum.kicks += player->kicks;
        sum.faults += player->faults;
        sum.removals += player->removals;
        sum.removals_busy += player->removals_busy;
        sum.promotions += player->promotions;
        sum.demotions += player->demotions;
    }
    print_message("threads: seed %llu: %llu operations, %llu stays in the guest, %llu accesses, "
                  "%llu accepts, %llu faults\n",
                  (unsigned long long)seed, (unsigned long long)sum.operations,
                  (unsigned long long)sum.entries, (unsigned long long)sum.accesses,
                  (unsigned long long)sum.accepts, (unsigned long long)sum.faults);
    print_message("threads: %llu removals (%llu busy), %llu promotions, %llu demotions, %llu "
                  "kicks taken, %llu busy answers\n",
                  (unsigned long long)sum.removals, (unsigned long long)sum.removals_busy,
                  (unsigned long long)sum.promotions, (unsigned long long)sum.demotions,
                  (unsigned long long)sum.kicks, (unsigned long long)busy_answers());
    assert_true(sum.accesses > 0 && sum.accepts > 0 && sum.faults > 0 && sum.kicks > 0);
    assert_true(busy_answers() > 0);
}

static void start(void)
{
    environment_start(THREADS_MAX + 1, 1, memory, ARRAY_LENGTH(memory));
    host_cpu_set(OVERSEER);
    assert_int_equal(tdx_module_start(), OK);
    assert_int_equal(page_allocate_zeroed(PAGE_DIRECT_TABLE, &shared_root), OK);
    for (u32 i = 0; i < TDS; i++)
        assert_int_equal(td_create(&tds[i], &options), OK);
    for (u32 i = 0; i < threads; i++)
        player_create(i);
    for (u32 i = 0; i < TDS; i++)
        assert_int_equal(td_finalize(&tds[i]), OK);
    players_install();
}

static void stop(const struct pages_stats *before)
{
    struct pages_stats after;
    for (u32 i = 0; i < TDS; i++)
        assert_int_equal(td_destroy(&tds[i]), OK);
    for (u32 i = 0; i < threads; i++)
        vcpu_caches_drain(&players[i].caches);
    page_free(shared_root);
    pages_statistics(&after);
    assert_int_equal(after.pages[PAGE_FREE] + after.pages[PAGE_PAMT], before->pages[PAGE_FREE]);
    assert_int_equal(keys_in_use(), 0);
    struct broken_rules broken;
    assert_true(tdx_broken_rules(&broken));
    if (broken.sum)
        fail_msg("rules broken %llu times:\n%s", (unsigned long long)broken.sum, host_log());
    environment_stop();
}

static void processors_share_the_memory_of_two_tds(void **state)
{
    (void)state;
    pthread_t handles[THREADS_MAX];
    environment_start(1, 1, memory, ARRAY_LENGTH(memory));
    struct pages_stats before;
    pages_statistics(&before);
    start();
    pthread_barrier_init(&round_starts, NULL, threads + 1);
    pthread_barrier_init(&round_ends, NULL, threads + 1);
    for (u32 i = 0; i < threads; i++)
        assert_int_equal(pthread_create(&handles[i], NULL, player_run, &players[i]), 0);
    for (u32 round = 0; round < seconds * 1000 / ROUND_MS; round++)
        round_run();
    is_over = true;
    pthread_barrier_wait(&round_starts);
    for (u32 i = 0; i < threads; i++)
        pthread_join(handles[i], NULL);
    totals_check();
    stop(&before);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processors_share_the_memory_of_two_tds),
    };
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = (u32)strtoul(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--threads") == 0)
            threads = (u32)strtoul(argv[i + 1], NULL, 0);
    }
    if (threads < 1 || threads > THREADS_MAX)
        return 1;
    alarm(seconds + HANG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
