/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer's sequences without the fuzzer: the traces, bytes drawn at random, and changed ones,
 * the same in each run. And that the audit sees what it is there for.
 *
 *    fuzz [--seed N] [--runs N]      others, or more of them
 *    fuzz --seeds FOLDER TRACE...    writes the starts of traces as seeds for libFuzzer
 */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tdx/soft/sept.h"
#include "tdx/soft/system.h"
#include "tests/host/cmocka.h"
#include "tests/soft/fuzz.h"

#define SEED_BYTES_MAX (256 * 1024)
#define SEED_FILE_BYTES 2048 /* the fuzzer does better with many short ones */
#define BYTES_MIN 32
#define BYTES_MAX 512
#define CHANGES_MAX 8

static const char *const traces[] = {
    "tests/soft/traces/guest-1.trace",     "tests/soft/traces/guest-2.trace",
    "tests/soft/traces/lifecycle-1.trace", "tests/soft/traces/lifecycle-2.trace",
    "tests/soft/traces/pamt-1.trace",      "tests/soft/traces/sample.trace",
    "tests/soft/traces/sept-1.trace",      "tests/soft/traces/sept-2.trace",
};
static u64 random_state = 1;
static u32 runs = 16000;
static u8 seed_bytes[SEED_BYTES_MAX];

static u32 draw(u32 below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)(random_state >> 33) % below;
}

static void run_passes(const u8 *bytes, size_t len_bytes)
{
    char message[FUZZ_MESSAGE_BYTES];
    if (!fuzz_run(bytes, len_bytes, message))
        fail_msg("%s", message);
}

static size_t seed_of(u32 trace, enum fuzz_start start)
{
    size_t len = fuzz_seed(start, traces[trace], seed_bytes, sizeof seed_bytes);
    if (!len)
        fail_msg("%s is no trace", traces[trace]);
    return len;
}

static void traces_break_nothing(void **state)
{
    (void)state;
    for (u32 i = 0; i < ARRAY_LENGTH(traces); i++) {
        run_passes(seed_bytes, seed_of(i, FUZZ_READY));
        run_passes(seed_bytes, seed_of(i, FUZZ_NOTHING));
    }
}

static void changed_traces_break_nothing(void **state)
{
    (void)state;
    for (u32 i = 0; i < 2 * ARRAY_LENGTH(traces); i++) {
        size_t len = seed_of(i / 2, i % 2 ? FUZZ_NOTHING : FUZZ_READY);
        for (u32 change = 0; change < CHANGES_MAX; change++)
            seed_bytes[1 + draw((u32)len - 1)] ^= 1 << draw(8);
        run_passes(seed_bytes, len);
    }
}

static void random_calls_break_nothing(void **state)
{
    (void)state;
    for (u32 i = 0; i < runs; i++) {
        u32 len = BYTES_MIN + draw(BYTES_MAX - BYTES_MIN);
        for (u32 k = 0; k < len; k++)
            seed_bytes[k] = (u8)draw(256);
        run_passes(seed_bytes, len);
    }
}

/* --- The audit itself --------------------------------------------------------------------- */

static char found[SOFT_AUDIT_BYTES];

static struct tdr *tdr_started(enum fuzz_start start)
{
    fuzz_world_start((u8)start);
    assert_true(soft_audit(found));
    return seam_page(fuzz_world.tds[0]);
}

static void audit_says(const char *words)
{
    found[0] = 0;
    assert_false(soft_audit(found));
    if (!strstr(found, words))
        fail_msg("the audit says \"%s\", not \"%s\"", found, words);
}

static struct pamt_entry *entry_of(u64 page, u32 level)
{
    return pamt_entry_at(tdmr_of(page), page, level);
}

static u64 *leaf_entry(u64 gpa)
{
    struct td td = {.address = fuzz_world.tds[0], .tdr = seam_page(fuzz_world.tds[0])};
    struct sept_walk walk;
    td.tdcs = seam_page(td.tdr->tdcx[0]);
    assert_true(sept_walk(&td, gpa, LEVEL_4K, &walk));
    return (u64 *)walk.entry;
}

static void the_audit_sees_locks(void **state)
{
    (void)state;
    struct tdr *tdr = tdr_started(FUZZ_TWO);
    struct tdcs *tdcs = seam_page(tdr->tdcx[0]);
    trylock_t *const locks[] = {
        &soft_system.lock,
        &soft_system.keys_lock,
        &soft_system.tdmrs[0].lock,
        &soft_system.write_back[0].lock,
        &tdcs->op_state_lock,
        &tdcs->sept_lock,
        &tdcs->epoch_lock,
        &tdcs->rtmr_lock,
        &entry_of(fuzz_world.tds[0], LEVEL_4K)->lock,
        &entry_of(fuzz_world.vcpus[0], LEVEL_4K)->lock,
        &entry_of(fuzz_world.vcpus[0], LEVEL_2M)->lock,
        &entry_of(FUZZ_LARGE(2), LEVEL_4K)->lock,
    };
    for (u32 i = 0; i < ARRAY_LENGTH(locks); i++) {
        assert_true(trylock_share(locks[i]));
        audit_says("between calls");
        trylock_unshare(locks[i]);
        assert_true(soft_audit(found));
    }
    *leaf_entry(0) |= SEPT_ENTRY_LOCK;
    audit_says("is locked between calls");
}

static void the_audit_sees_wrong_counts(void **state)
{
    (void)state;
    struct tdr *tdr = tdr_started(FUZZ_TWO);
    struct tdcs *tdcs = seam_page(tdr->tdcx[0]);
    tdr->chldcnt++;
    audit_says("pages, it has");
    tdr->chldcnt--;
    tdcs->num_vcpus++;
    audit_says("counts 2 vCPUs");
    tdcs->num_vcpus--;
    tdcs->num_assoc_vcpus--;
    audit_says("0 associated");
    tdcs->num_assoc_vcpus++;
    tdcs->epoch_refcount[0]++;
    audit_says("in epochs of parity 0");
    tdcs->epoch_refcount[0]--;
    assert_true(soft_audit(found));
    ((struct tdvps *)seam_page(fuzz_world.vcpus[0]))->state = 2;
    audit_says("is in its guest");
}

static void the_audit_sees_pages_in_two_places_and_in_none(void **state)
{
    (void)state;
    u64 kept;
    tdr_started(FUZZ_RUNNABLE);
    kept = *leaf_entry(0);
    *leaf_entry(0) = *leaf_entry(PAGE_BYTES);
    audit_says("is in two places");
    *leaf_entry(0) = SEPT_ENTRY_FREE;
    audit_says("leads to its page");
    *leaf_entry(0) = sept_entry_leaf(FUZZ_LARGE(1), SEPT_MAPPED);
    audit_says("leads to the free page");
    *leaf_entry(0) = sept_entry_leaf(fuzz_world.vcpus[0], SEPT_MAPPED);
    audit_says("leads to page");
    *leaf_entry(0) = kept;
    entry_of(fuzz_world.tds[0], LEVEL_2M)->type = PT_REG;
    audit_says("");
}

static void the_audit_sees_pages_described_twice_or_in_a_pair(void **state)
{
    (void)state;
    tdr_started(FUZZ_RUNNABLE);
    entry_of(FUZZ_LARGE(0), LEVEL_2M)->type = PT_REG;
    entry_of(FUZZ_LARGE(0), LEVEL_4K)->type = PT_REG;
    audit_says("is in a page of level 1");
    tdr_started(FUZZ_DYNAMIC);
    pamt_page_mark(tdmr_of(FUZZ_PAIR(0)), FUZZ_PAIR(0), false);
    audit_says("is not marked");
    pamt_page_mark(tdmr_of(FUZZ_PAIR(0)), FUZZ_PAIR(0), true);
    pamt_page_mark(tdmr_of(fuzz_world.tds[0]), fuzz_world.tds[0], true);
    audit_says("is in use and in a pair");
}

static void the_audit_sees_keys_that_are_nobodys_or_twos(void **state)
{
    (void)state;
    struct tdr *tdr = tdr_started(FUZZ_TWO);
    soft_system.keyids[FUZZ_KEYID].state = KEYID_FREE;
    audit_says("its TD wants");
    soft_system.keyids[FUZZ_KEYID].state = KEYID_ASSIGNED;
    soft_system.keyids[FUZZ_KEYID + 2].state = KEYID_FLUSHED;
    audit_says("its TD wants");
    soft_system.keyids[FUZZ_KEYID + 2].state = KEYID_FREE;
    soft_system.keyids[FUZZ_KEYID - 1].state = KEYID_FREE;
    audit_says("no KeyID of its own");
    soft_system.keyids[FUZZ_KEYID - 1].state = KEYID_RESERVED;
    soft_system.keyids[FUZZ_KEYID].state = KEYID_RESERVED;
    audit_says("the module's own, and a TD's");
    soft_system.keyids[FUZZ_KEYID].state = KEYID_ASSIGNED;
    tdr->hkid = FUZZ_KEYID + 1;
    audit_says("not its alone");
}

static bool seed_write(const char *folder, const char *path, enum fuzz_start start)
{
    char copy[4096], name[8192];
    size_t len = fuzz_seed(start, path, seed_bytes, SEED_FILE_BYTES);
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(name, sizeof name, "%s/%s-%u", folder, basename(copy), start);
    FILE *file = len ? fopen(name, "wb") : NULL;
    bool is_written = file && fwrite(seed_bytes, 1, len, file) == len;
    if (file && fclose(file))
        is_written = false;
    if (!is_written)
        fprintf(stderr, "fuzz: no seed of %s in %s\n", path, folder);
    return is_written;
}

static int seeds_write(const char *folder, char **paths)
{
    for (; *paths; paths++)
        if (!seed_write(folder, *paths, FUZZ_NOTHING) || !seed_write(folder, *paths, FUZZ_READY))
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_audit_sees_locks),
        cmocka_unit_test(the_audit_sees_wrong_counts),
        cmocka_unit_test(the_audit_sees_pages_in_two_places_and_in_none),
        cmocka_unit_test(the_audit_sees_pages_described_twice_or_in_a_pair),
        cmocka_unit_test(the_audit_sees_keys_that_are_nobodys_or_twos),
        cmocka_unit_test(traces_break_nothing),
        cmocka_unit_test(changed_traces_break_nothing),
        cmocka_unit_test(random_calls_break_nothing),
    };
    if (argc > 2 && !strcmp(argv[1], "--seeds"))
        return seeds_write(argv[2], argv + 3);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seed"))
            random_state = strtoull(argv[i + 1], NULL, 0);
        else if (!strcmp(argv[i], "--runs"))
            runs = (u32)strtoul(argv[i + 1], NULL, 0);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
