/* SPDX-License-Identifier: MIT */
#include "boot/lock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/cpu.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

#define ROUNDS 20000
#define THREADS 4

static struct lock lock = LOCK_INIT(RANK_PAGES, "test");
static struct shared_lock shared = SHARED_LOCK_INIT(RANK_MIRROR, "test shared");
static u64 counter, mirror_of_counter;

static void *count_under_lock(void *index)
{
    host_cpu_set((u32)(u64)index);
    for (u32 i = 0; i < ROUNDS; i++) {
        lock_take(&lock);
        counter++;
        lock_release(&lock);
    }
    return NULL;
}

static void run_threads(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    for (u64 i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, body, (void *)(i + 1));
    for (u32 i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void a_lock_excludes(void **state)
{
    (void)state;
    counter = 0;
    run_threads(count_under_lock);
    assert_int_equal(counter, THREADS * ROUNDS);
}

/* Sharers see the two counters equal; an excluder moves them one after the other. */
static void *share_and_exclude(void *index)
{
    host_cpu_set((u32)(u64)index);
    for (u32 i = 0; i < ROUNDS; i++) {
        if (i % 4 == 0) {
            lock_exclude(&shared);
            counter++;
            mirror_of_counter++;
            lock_unexclude(&shared);
        } else {
            lock_share(&shared);
            if (counter != mirror_of_counter)
                abort();
            lock_unshare(&shared);
        }
    }
    return NULL;
}

static void a_shared_lock_shares_and_excludes(void **state)
{
    (void)state;
    counter = mirror_of_counter = 0;
    run_threads(share_and_exclude);
    assert_int_equal(counter, THREADS * ROUNDS / 4);
    assert_int_equal(atomic_load(&shared.state), 0);
}

static void try_fails_while_taken(void **state)
{
    (void)state;
    lock_take(&lock);
    assert_int_equal(cpu_this()->locks_held, 1u << RANK_PAGES);
    assert_false(lock_try(&lock));
    lock_release(&lock);
    assert_true(lock_try(&lock));
    lock_release(&lock);
    assert_int_equal(cpu_this()->locks_held, 0);
}

static void the_wrong_order_panics(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        close(2);
        signal(SIGABRT, SIG_DFL);
        lock_take(&lock);
        lock_share(&shared); /* a lower rank while a higher one is held */
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_excludes),
        cmocka_unit_test(a_shared_lock_shares_and_excludes),
        cmocka_unit_test(try_fails_while_taken),
        cmocka_unit_test(the_wrong_order_panics),
    };
    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
