/* SPDX-License-Identifier: MIT */
/* Each call that can fail is made to fail in turn; after each, both tables must agree. */
#include "tests/mm/external_model.h"

#include "tests/host/cmocka.h"

#include <pthread.h>
#include <string.h>

#include "boot/cpu.h"
#include "tests/host/machine.h"

#define PAGES 4096
#define LEAVES 5
#define FIRST 510ull /* the range lies in two tables */

static struct model model;

static void map_all(void)
{
    for (u64 i = 0; i < LEAVES; i++)
        assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(FIRST + i), LEVEL_4K), OK);
}

static enum error set_one(gfn_t frame)
{
    return mirror_map(&model.mirror, &model.caches, frame, LEVEL_4K);
}

static enum error add_one(gfn_t frame)
{
    return mirror_add(&model.mirror, &model.caches, frame, hpa(HOST_MEMORY_START));
}

static void fail_each_map(enum error (*map)(gfn_t), enum model_op op, u32 calls)
{
    for (u32 nth = 1; nth <= calls; nth++) {
        for (enum error error = ERR_BUSY;; error = ERR_REFUSED) {
            model_create(&model, PAGES);
            model_fail(&model, op, nth, nth, error);
            assert_int_equal(map(gfn(FIRST)), error);
            assert_int_equal(model.calls[op], nth);
            assert_int_equal(model.mirror.stats.busy, error == ERR_BUSY);
            assert_true(hpa_is_none(mirror_lookup(&model.mirror, gfn(FIRST), NULL)));
            model_check(&model);
            model_calm(&model);
            assert_int_equal(map(gfn(FIRST)), OK);
            model_check(&model);
            model_destroy(&model);
            if (error == ERR_REFUSED)
                break;
        }
    }
}

static void a_failed_map_changes_nothing_invariants_3_10_22(void **state)
{
    (void)state;
    fail_each_map(set_one, OP_LINK, 3);
    fail_each_map(set_one, OP_SET, 1);
    fail_each_map(add_one, OP_LINK, 3);
    fail_each_map(add_one, OP_ADD, 1);
}

static void a_busy_removal_is_retried_once_with_vcpus_held_invariant_11(void **state)
{
    (void)state;
    const enum model_op ops[] = {OP_BLOCK, OP_TRACK, OP_REMOVE};
    for (u32 i = 0; i < 3; i++) {
        for (u32 nth = 1; nth <= (ops[i] == OP_TRACK ? 1 : LEAVES); nth++) {
            model_create(&model, PAGES);
            map_all();
            model_fail(&model, ops[i], nth, nth, ERR_BUSY);
            gfn_t done;
            assert_int_equal(mirror_remove_range(&model.mirror, &model.caches, gfn(FIRST),
                                                 gfn(FIRST + LEAVES), &done),
                             OK);
            assert_int_equal(model.calls[OP_HOLD], 1);
            assert_int_equal(model.calls[OP_RELEASE], 1);
            assert_int_equal(model.calls[ops[i]], (ops[i] == OP_TRACK ? 1 : LEAVES) + 1);
            u32 at = 0;
            while (model.history[at] != OP_HOLD)
                at++;
            assert_int_equal(model.history[at - 1], ops[i]);
            assert_int_equal(model.history[at + 1], ops[i]);
            assert_int_equal(model.history[at + 2], OP_RELEASE);
            assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], 0);
            model_check(&model);
            model_destroy(&model);
        }
    }
}

/* Whatever failed, the removal can be asked for again from *done. */
static void removal_fails(enum model_op op, u32 nth, enum error error)
{
    model_create(&model, PAGES);
    map_all();
    /* BUSY: the retry as well. */
    model_fail(&model, op, nth, error == ERR_BUSY ? nth + 1 : nth, error);
    gfn_t done, end = gfn(FIRST + LEAVES);
    assert_int_equal(mirror_remove_range(&model.mirror, &model.caches, gfn(FIRST), end, &done),
                     error);
    u64 removed = op == OP_TRACK ? 0 : nth - 1;
    assert_int_equal(done.raw, FIRST + removed);
    assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], LEAVES - removed);
    model_check(&model);
    for (u64 i = 0; i < LEAVES; i++) {
        struct model_entry *entry = model_entry_find(&model, gfn(FIRST + i), LEVEL_4K);
        assert_int_equal(entry != NULL, i >= removed);
        bool mapped = entry && !entry->blocked;
        assert_int_equal(!hpa_is_none(mirror_lookup(&model.mirror, gfn(FIRST + i), NULL)), mapped);
        /* Only a failed TRACK leaves something that cannot be unblocked. */
        assert_int_equal(mapped, i >= removed && op != OP_TRACK);
        if (entry && !mapped)
            assert_int_equal(mirror_map(&model.mirror, &model.caches, gfn(FIRST + i), LEVEL_4K),
                             ERR_REFUSED);
    }
    model_calm(&model);
    assert_int_equal(mirror_remove_range(&model.mirror, &model.caches, done, end, &done), OK);
    assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], 0);
    model_check(&model);
    model_destroy(&model);
}

static void a_failed_removal_is_honest_and_resumable_invariants_3_6(void **state)
{
    (void)state;
    for (u32 nth = 1; nth <= LEAVES; nth++) {
        removal_fails(OP_BLOCK, nth, ERR_REFUSED);
        removal_fails(OP_BLOCK, nth, ERR_BUSY);
        removal_fails(OP_REMOVE, nth, ERR_REFUSED);
        removal_fails(OP_REMOVE, nth, ERR_BUSY);
    }
    removal_fails(OP_TRACK, 1, ERR_REFUSED);
    removal_fails(OP_TRACK, 1, ERR_BUSY);
}

static const struct model_entry *only_entry(void)
{
    const struct model_entry *found = NULL;
    for (u32 i = 0; i < MODEL_ENTRIES_MAX; i++) {
        if (!model.entries[i].used)
            continue;
        assert_null(found);
        found = &model.entries[i];
    }
    assert_non_null(found);
    return found;
}

static void what_is_not_reclaimed_is_leaked_and_counted_invariant_21(void **state)
{
    (void)state;
    /* 5 leaves, 2 leaf tables, 2 tables above. */
    for (u32 nth = 1; nth <= LEAVES + 4; nth++) {
        model_create(&model, PAGES);
        map_all();
        model.key_freed = true;
        host_log_clear();
        model_fail(&model, OP_RECLAIM, nth, nth, ERR_REFUSED);
        assert_int_equal(mirror_destroy(&model.mirror), ERR_REFUSED);
        vcpu_caches_drain(&model.caches);
        const struct model_entry *left = only_entry();
        assert_int_equal(page_owner(left->page), PAGE_LEAKED);
        const struct mirror_stats *stats = &model.mirror.stats;
        assert_int_equal(stats->private_leaked + stats->external_leaked, 1);
        assert_int_equal(stats->external_leaked, left->state == EXTERNAL_TABLE);
        assert_int_equal(stats->external_returned + stats->external_leaked, 4);
        assert_int_equal(stats->external_taken, 4);
        assert_non_null(strstr(host_log(), "mirror: leaked"));
        struct pages_stats pages;
        pages_statistics(&pages);
        assert_int_equal(pages.pages[PAGE_LEAKED], 1);
        assert_int_equal(pages.pages[PAGE_PRIVATE] + pages.pages[PAGE_EXTERNAL] +
                             pages.pages[PAGE_MIRROR_TABLE],
                         0);
        host_memory_destroy();
    }
}

static void without_memory_a_map_fails_before_the_lock_invariant_15(void **state)
{
    (void)state;
    for (u64 left = 0; left < 4ull * PAGE_CACHE_CAPACITY; left++) {
        model_create(&model, 512);
        static hpa_t held[512];
        u64 count = 0;
        while (page_allocate(PAGE_VMM, &held[count]) == OK)
            count++;
        for (u64 i = 0; i < left; i++)
            page_free(held[--count]);
        enum error error = mirror_map(&model.mirror, &model.caches, gfn(FIRST), LEVEL_4K);
        assert_true(error == OK || error == ERR_NO_MEMORY);
        assert_int_equal(model.history_len, error ? 0 : 4);
        model_check(&model);
        while (count)
            page_free(held[--count]);
        model_destroy(&model);
    }
}

/* --- Two processors ----------------------------------------------------------------------------
 */

#define CONTENDED 600ull
static pthread_mutex_t owner_lock = PTHREAD_MUTEX_INITIALIZER;

static enum error link_locked(void *owner, struct vcpu_caches *caches, gfn_t frame,
                              enum level level, hpa_t table)
{
    pthread_mutex_lock(&owner_lock);
    enum error error = model_ops.link_table(owner, caches, frame, level, table);
    pthread_mutex_unlock(&owner_lock);
    return error;
}

static enum error set_locked(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t page)
{
    pthread_mutex_lock(&owner_lock);
    enum error error = model_ops.set_leaf(owner, caches, frame, level, page);
    pthread_mutex_unlock(&owner_lock);
    return error;
}

static void *fault_all(void *index)
{
    static struct vcpu_caches caches[2];
    u32 cpu = (u32)(uintptr_t)index;
    host_cpu_set(cpu);
    vcpu_caches_init(&caches[cpu], 0);
    for (u64 i = 0; i < CONTENDED; i++) {
        enum error error;
        while ((error = mirror_map(&model.mirror, &caches[cpu], gfn(i), LEVEL_4K)) == ERR_BUSY)
            cpu_relax();
        if (error)
            return (void *)1;
    }
    vcpu_caches_drain(&caches[cpu]);
    return NULL;
}

static void two_processors_map_each_frame_once_invariants_4_14(void **state)
{
    (void)state;
    static struct mirror_ops locked;
    model_create(&model, PAGES);
    host_cpu_count_set(2, 1);
    locked = model_ops;
    locked.link_table = link_locked;
    locked.set_leaf = set_locked;
    model.mirror.ops = &locked;
    pthread_t threads[2];
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fault_all, (void *)i), 0);
    for (u32 i = 0; i < 2; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(model.mirror.stats.leaves[LEVEL_4K], CONTENDED);
    assert_int_equal(model.calls[OP_SET], CONTENDED);
    model_check(&model);
    model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_map_changes_nothing_invariants_3_10_22),
        cmocka_unit_test(a_busy_removal_is_retried_once_with_vcpus_held_invariant_11),
        cmocka_unit_test(a_failed_removal_is_honest_and_resumable_invariants_3_6),
        cmocka_unit_test(what_is_not_reclaimed_is_leaked_and_counted_invariant_21),
        cmocka_unit_test(without_memory_a_map_fails_before_the_lock_invariant_15),
        cmocka_unit_test(two_processors_map_each_frame_once_invariants_4_14),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
