/* SPDX-License-Identifier: MIT */
/*
 * Pairs of PAMT pages: the regions' counts against the software module, at their edges, when calls
 * fail, and across DEMOTE and PROMOTE. Then the module's own answers to what our driver never asks.
 */
#include "tdx/pamt.h"

#include <pthread.h>
#include <string.h>

#include "boot/cpu.h"
#include "mm/pages.h"
#include "tdx/handover.h"
#include "tdx/module.h"
#include "tdx/operands.h"
#include "tdx/td.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/soft_module.h"

#define REGION_BYTES (2 * MIB)
#define ROUNDS 2000
#define LARGE_GPA (4 * REGION_BYTES)

static const struct memory_range plain[] = {{MIB, 64 * MIB, MEMORY_FREE}};
static const hpa_t nowhere[PAMT_PAIR_PAGES];
static struct pages_stats before;
static struct td td;
static struct td_vcpu vcpu;
static struct vcpu_caches caches;

static void start(u32 cpus)
{
    environment_newer_module = true;
    environment_start(cpus, 1, plain, ARRAY_LENGTH(plain));
    assert_int_equal(tdx_module_start(), OK);
    assert_true(pamt_is_dynamic());
    soft_module_counts_clear();
    host_log_clear();
    pages_statistics(&before);
}

static struct pamt_stats stats(void)
{
    struct pamt_stats now;
    pamt_statistics(&now);
    return now;
}

static void audit_check(void)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    enum error error = pamt_audit(message);
    assert_string_equal(message, "");
    assert_int_equal(error, OK);
}

static void end_check(u64 pairs)
{
    struct pages_stats now;
    pages_statistics(&now);
    audit_check();
    assert_int_equal(stats().pairs_now, pairs);
    assert_int_equal(now.pages[PAGE_PAMT], before.pages[PAGE_PAMT] + PAMT_PAIR_PAGES * pairs);
    assert_int_equal(now.pages[PAGE_LEAKED], 0);
    assert_int_equal(host_hidden_pages(), now.pages[PAGE_PAMT]);
    environment_stop();
}

static struct pamt_region region_at(hpa_t page)
{
    struct pamt_region region;
    for (u64 i = 0; pamt_region(i, &region); i++)
        if (region.start.raw == align_down(page.raw, REGION_BYTES))
            return region;
    fail();
    return region;
}

/* A TDR: the one page that the module takes without a TD. */
static hpa_t tdr_create(u16 *hkid)
{
    hpa_t page;
    assert_int_equal(tdx_key_allocate(hkid), OK);
    assert_int_equal(control_page_create(TDH_MNG_CREATE, *hkid, "a TDR", &page), OK);
    return page;
}

static void the_first_page_brings_the_pair_and_the_last_takes_it(void **state)
{
    (void)state;
    hpa_t pages[3];
    start(1);
    for (u32 i = 0; i < ARRAY_LENGTH(pages); i++) {
        assert_int_equal(page_allocate(PAGE_PRIVATE, &pages[i]), OK);
        assert_int_equal(page_hand_over(pages[i], LEVEL_4K, NULL), OK);
        assert_int_equal(region_at(pages[i]).pages, i + 1);
    }
    assert_true(region_at(pages[0]).has_pair);
    for (u32 i = 0; i < ARRAY_LENGTH(pages); i++) {
        assert_int_equal(stats().pairs_now, 1);
        page_keep(pages[i], LEVEL_4K, NULL);
        page_free(pages[i]);
    }
    assert_int_equal(stats().pairs_added, 1);
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_ADD), 1);
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_REMOVE), 1);
    end_check(0);
}

static void a_pair_comes_from_the_cache_and_goes_there(void **state)
{
    (void)state;
    struct page_cache pairs = {.owner = PAGE_PAMT, .capacity = PAGE_CACHE_CAPACITY};
    hpa_t page;
    start(1);
    assert_int_equal(page_allocate(PAGE_PRIVATE, &page), OK);
    assert_int_equal(page_hand_over(page, LEVEL_4K, &pairs), ERR_NO_MEMORY);
    assert_int_equal(host_hidden_pages(), before.pages[PAGE_PAMT]);
    for (u32 i = 0; i < PAMT_PAIR_PAGES; i++)
        assert_int_equal(page_allocate(PAGE_PAMT, &pairs.pages[pairs.count++]), OK);
    assert_int_equal(page_hand_over(page, LEVEL_4K, &pairs), OK);
    assert_int_equal(pairs.count, 0);
    page_keep(page, LEVEL_4K, &pairs);
    assert_int_equal(pairs.count, PAMT_PAIR_PAGES);
    while (pairs.count)
        page_free(page_cache_take(&pairs));
    page_free(page);
    end_check(0);
}

static void page_hand_over_fails(const char *status, enum error expected)
{
    struct inject_config injection = {.leaf = "TDH.PHYMEM.PAMT.ADD", .nth = 1};
    hpa_t page;
    strcpy(injection.status, status);
    start(1);
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(page_allocate(PAGE_PRIVATE, &page), OK);
    assert_int_equal(page_hand_over(page, LEVEL_4K, NULL), expected);
    assert_non_null(strstr(host_log(), "is made to fail"));
    if (!expected)
        page_keep(page, LEVEL_4K, NULL);
    page_free(page);
    end_check(0);
}

static void a_refused_pair_changes_nothing(void **state)
{
    (void)state;
    page_hand_over_fails("OPERAND_INVALID", ERR_REFUSED);
    page_hand_over_fails("OPERAND_BUSY", OK);
}

/* Somebody else's pair is as good, and not ours to take away. */
static void a_region_that_has_a_pair_is_no_error(void **state)
{
    (void)state;
    page_hand_over_fails("HPA_RANGE_NOT_FREE", OK);
}

static void a_pair_that_stays_serves_the_next_page_and_yields_to_a_large_one(void **state)
{
    (void)state;
    struct inject_config injection = {"TDH.PHYMEM.PAMT.REMOVE", 1, "OPERAND_INVALID", 1};
    hpa_t first, large;
    start(1);
    assert_int_equal(pages_allocate(PAGE_PRIVATE, 512, 512, &large), OK);
    first = hpa(large.raw + 5 * PAGE_BYTES);
    assert_int_equal(seamcall_inject(&injection), OK);
    for (u32 i = 0; i < 2; i++) {
        assert_int_equal(page_hand_over(first, LEVEL_4K, NULL), OK);
        page_keep(first, LEVEL_4K, NULL);
        assert_int_equal(stats().pairs_now, 1 - i);
        assert_int_equal(region_at(first).has_pair, i == 0);
        audit_check();
    }
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_ADD), 1);
    seamcall_inject_clear();
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(page_hand_over(first, LEVEL_4K, NULL), OK);
    page_keep(first, LEVEL_4K, NULL);
    assert_int_equal(stats().pairs_now, 1);
    assert_int_equal(page_hand_over(large, LEVEL_2M, NULL), OK);
    assert_int_equal(stats().pairs_now, 0);
    page_keep(large, LEVEL_2M, NULL);
    pages_free(large, 512);
    end_check(0);
}

struct hammer {
    hpa_t page;
    u32 cpu;
    u64 busy;
};

static void *hammer_run(void *argument)
{
    struct hammer *hammer = argument;
    host_cpu_set(hammer->cpu);
    for (u32 i = 0; i < ROUNDS; i++) {
        enum error error;
        while ((error = page_hand_over(hammer->page, LEVEL_4K, NULL)) == ERR_BUSY)
            hammer->busy++;
        assert_int_equal(error, OK);
        page_keep(hammer->page, LEVEL_4K, NULL);
    }
    return NULL;
}

static void two_processors_meet_at_the_edge(void **state)
{
    (void)state;
    struct hammer hammers[2];
    pthread_t threads[2];
    hpa_t pages;
    start(2);
    assert_int_equal(pages_allocate(PAGE_PRIVATE, 2, 2, &pages), OK);
    for (u32 i = 0; i < 2; i++)
        hammers[i] = (struct hammer){.page = hpa(pages.raw + i * PAGE_BYTES), .cpu = i};
    for (u32 i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_run, &hammers[i]), 0);
    for (u32 i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stats().pairs_added, stats().pairs_removed);
    assert_in_range(stats().pairs_added, 1, 2 * ROUNDS);
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_ADD), stats().pairs_added);
    assert_string_equal(host_log(), "");
    pages_free(pages, 2);
    end_check(0);
}

static void the_audit_names_the_first_difference(void **state)
{
    (void)state;
    char message[AUDIT_MESSAGE_BYTES];
    hpa_t page;
    start(1);
    assert_int_equal(page_allocate(PAGE_PRIVATE, &page), OK);
    assert_int_equal(page_hand_over(page, LEVEL_4K, NULL), OK);
    assert_int_equal(pamt_audit(message), ERR_STATE);
    assert_non_null(strstr(message, "we count 1 pages of 4 KiB, the module has 0"));
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = region_at(page).start.raw | LEVEL_2M;
    assert_int_equal(seamcall(TDH_PHYMEM_PAMT_REMOVE, &regs).raw, 0);
    assert_int_equal(pamt_audit(message), ERR_STATE);
    assert_non_null(strstr(message, "we count a PAMT pair, the module has none"));
    environment_stop();
}

/* A TD with one large page at LARGE_GPA, and the table for a demotion. */
static u64 entry_call(enum tdh_leaf leaf, hpa_t page, const hpa_t pair[PAMT_PAIR_PAGES],
                      struct tdx_regs *regs)
{
    *regs = (struct tdx_regs){};
    regs->gpr[GPR_RCX] = LARGE_GPA | LEVEL_2M;
    regs->gpr[GPR_RDX] = td.tdr.raw;
    regs->gpr[GPR_R8] = page.raw;
    for (u32 i = GPR_R9; i <= GPR_R11; i++)
        regs->gpr[i] = ~0ull;
    regs->gpr[GPR_R12] = pair[0].raw;
    regs->gpr[GPR_R13] = pair[1].raw;
    return seamcall(leaf, regs).raw;
}

static void td_start(hpa_t *large)
{
    static const struct td_options options = {
        .max_vcpus = 1, .tsc_hz = 1000000000, .cpuid = environment_cpuid_nothing};
    static const u8 content[PAGE_BYTES];
    struct tdx_regs regs;
    start(1);
    vcpu_caches_init(&caches, METADATA_PAGES_MINIMUM);
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpu, 0, hpa(0x200000)), OK);
    /* Its neighbour's tables are the large page's, too. */
    assert_int_equal(td_add_page(&td, &caches, gpa(0), content), OK);
    assert_int_equal(td_finalize(&td), OK);
    assert_int_equal(pages_allocate(PAGE_PRIVATE, 512, 512, large), OK);
    assert_int_equal(page_hand_over(*large, LEVEL_2M, NULL), OK);
    u64 adds = soft_module_count(TDH_PHYMEM_PAMT_ADD);
    assert_int_equal(entry_call(TDH_MEM_PAGE_AUG, *large, nowhere, &regs), 0);
    assert_int_equal(soft_module_count(TDH_PHYMEM_PAMT_ADD), adds);
    audit_check();
}

static void track(void)
{
    struct tdx_regs regs = {};
    assert_int_equal(entry_call(TDH_MEM_RANGE_BLOCK, hpa(0), nowhere, &regs), 0);
    regs = (struct tdx_regs){};
    regs.gpr[GPR_RCX] = td.tdr.raw;
    assert_int_equal(seamcall(TDH_MEM_TRACK, &regs).raw, 0);
}

/* The TD goes, then what the mirror knows nothing of. */
static void td_stop(hpa_t large, hpa_t table)
{
    assert_int_equal(td_destroy(&td), OK);
    vcpu_caches_drain(&caches);
    if (!hpa_is_none(table))
        page_free(table);
    pages_free(large, 512);
}

static void a_split_page_has_512_and_a_joined_one_none(void **state)
{
    (void)state;
    struct tdx_regs regs;
    hpa_t large, table, pair[PAMT_PAIR_PAGES];
    td_start(&large);
    u64 pairs = stats().pairs_now;
    assert_int_equal(page_allocate(PAGE_EXTERNAL, &table), OK);
    assert_int_equal(page_hand_over(table, LEVEL_4K, NULL), OK);
    u64 pairs_with_table = stats().pairs_now;
    track();

    /* Without a pair, and with an interrupt: as if nothing had been asked. */
    assert_int_equal(entry_call(TDH_MEM_PAGE_DEMOTE, table, nowhere, &regs) >> 32,
                     TDX_PAGE_NOT_FREE);
    assert_int_equal(pamt_demote_begin(large, LEVEL_2M, NULL, pair), OK);
    soft_module_interrupts = 1;
    assert_int_equal(entry_call(TDH_MEM_PAGE_DEMOTE, table, pair, &regs) >> 32,
                     TDX_INTERRUPTED_RESTARTABLE);
    assert_int_equal(regs.gpr[GPR_RCX], LARGE_GPA | LEVEL_2M);
    assert_int_equal(regs.gpr[GPR_RDX], td.tdr.raw);
    pamt_demote_end(large, LEVEL_2M, NULL, ERR_BUSY);
    assert_int_equal(stats().pairs_now, pairs_with_table);

    assert_int_equal(pamt_demote_begin(large, LEVEL_2M, NULL, pair), OK);
    assert_int_equal(entry_call(TDH_MEM_PAGE_DEMOTE, table, pair, &regs), 0);
    pamt_demote_end(large, LEVEL_2M, NULL, OK);
    assert_int_equal(region_at(large).pages, 512);
    assert_int_equal(region_at(large).pair[1].raw, pair[1].raw);
    assert_int_equal(stats().pairs_now, pairs_with_table + 1);
    audit_check();

    track();
    soft_module_interrupts = 1;
    assert_int_equal(entry_call(TDH_MEM_PAGE_PROMOTE, hpa(0), nowhere, &regs) >> 32,
                     TDX_INTERRUPTED_RESTARTABLE);
    assert_int_equal(regs.gpr[GPR_RCX], LARGE_GPA | LEVEL_2M);
    audit_check();
    assert_int_equal(entry_call(TDH_MEM_PAGE_PROMOTE, hpa(0), nowhere, &regs), 0);
    assert_int_equal(regs.gpr[GPR_RCX], table.raw);
    assert_int_equal(regs.gpr[GPR_R12], pair[0].raw);
    assert_int_equal(regs.gpr[GPR_R13], pair[1].raw);
    pamt_promoted(large, LEVEL_2M, NULL);
    page_take_back(table, LEVEL_4K);
    assert_int_equal(stats().pairs_now, pairs);
    audit_check();

    track();
    assert_int_equal(entry_call(TDH_MEM_PAGE_REMOVE, hpa(0), nowhere, &regs), 0);
    u64 written;
    assert_int_equal(
        pages_write_back(large, level_pages(LEVEL_2M), td.hkid, "the large page", &written), OK);
    assert_int_equal(written, level_pages(LEVEL_2M));
    page_take_back(large, LEVEL_2M);
    td_stop(large, table);
    end_check(0);
}

static u64 pamt_call(enum tdh_leaf leaf, u64 rcx, u64 rdx, u64 r8)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = rdx;
    regs.gpr[GPR_R8] = r8;
    return seamcall(leaf, &regs).raw;
}

static u64 answer(enum tdx_status_code code, u64 operand)
{
    return (u64)code << 32 | operand;
}

static void the_module_refuses_what_is_no_pair(void **state)
{
    (void)state;
    u64 region = 16 * MIB, page = 32 * MIB, other = page + PAGE_BYTES;
    const struct {
        u64 rcx, rdx, r8, expected;
    } rows[] = {
        {region, page, other, answer(TDX_OPERAND_INVALID, OPERAND_RCX)},
        {(region + PAGE_BYTES) | 1, page, other, answer(TDX_OPERAND_INVALID, OPERAND_RCX)},
        {region | 2, page, other, answer(TDX_OPERAND_INVALID, OPERAND_RCX)},
        {region | 1, page + 8, other, answer(TDX_OPERAND_INVALID, OPERAND_RDX)},
        {region | 1, page, 1ull << 50, answer(TDX_OPERAND_INVALID, OPERAND_R8)},
        {region | 1, 4 * GIB, other, answer(TDX_OPERAND_ADDR_RANGE_ERROR, OPERAND_RDX)},
        {region | 1, page, 4 * GIB, answer(TDX_OPERAND_ADDR_RANGE_ERROR, OPERAND_R8)},
        {4 * GIB | 1, page, other, answer(TDX_OPERAND_ADDR_RANGE_ERROR, OPERAND_RCX)},
        {region | 1, page, page, answer(TDX_PAGE_NOT_FREE, OPERAND_R8)},
        {region | 1, 100 * MIB, page, answer(TDX_PAGE_NOT_FREE, OPERAND_RDX)}, /* reserved */
        {region | 1, page, other, 0},
        {region | 1, page + MIB, other + MIB, answer(TDX_HPA_RANGE_NOT_FREE, OPERAND_RCX)},
        {(region + REGION_BYTES) | 1, page, other + MIB, answer(TDX_PAGE_NOT_FREE, OPERAND_RDX)},
    };
    start(1);
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++)
        assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_ADD, rows[i].rcx, rows[i].rdx, rows[i].r8),
                         rows[i].expected);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_REMOVE, (region + REGION_BYTES) | 1, 0, 0),
                     answer(TDX_NO_PAMT_PAGE_PAIR, OPERAND_RCX));
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_REMOVE, region | 1, 0, 0), 0);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_REMOVE, region | 1, 0, 0),
                     answer(TDX_NO_PAMT_PAGE_PAIR, OPERAND_RCX));
    end_check(0);
}

/* Page types as RDMD tells them; what is missing, what is in use. */
static void the_module_knows_pages_by_their_pairs(void **state)
{
    (void)state;
    u16 hkid;
    struct tdx_regs regs = {};
    start(1);
    u64 far = 48 * MIB;
    assert_int_equal(pamt_call(TDH_MNG_CREATE, far, tdx_module()->hkid_first + 1, 0),
                     answer(TDX_MISSING_PAMT_PAGE_PAIR, OPERAND_RCX));
    assert_int_equal(pamt_call(TDH_PHYMEM_PAGE_WBINVD, far, 0, 0), 0);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAGE_RECLAIM, far, 0, 0),
                     answer(TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX));
    hpa_t tdr = tdr_create(&hkid);
    struct pamt_region region = region_at(tdr);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_REMOVE, region.start.raw | LEVEL_2M, 0, 0),
                     answer(TDX_PAMT_PAGE_NOT_EMPTY, tdr.raw % REGION_BYTES / MIB));
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_ADD, 16 * MIB | 1, tdr.raw, far),
                     answer(TDX_PAGE_NOT_FREE, OPERAND_RDX));
    regs.gpr[GPR_RCX] = region.start.raw | LEVEL_2M;
    assert_int_equal(seamcall(TDH_PHYMEM_PAGE_RDMD, &regs).raw, 0);
    assert_int_equal(regs.gpr[GPR_RCX], PT_PAMT);
    assert_int_equal(regs.gpr[GPR_R8], LEVEL_2M);
    assert_int_equal(regs.gpr[GPR_R10], region.pair[0].raw);
    assert_int_equal(regs.gpr[GPR_R11], region.pair[1].raw);
    regs.gpr[GPR_RCX] = region.pair[1].raw;
    assert_int_equal(seamcall(TDH_PHYMEM_PAGE_RDMD, &regs).raw, 0);
    assert_int_equal(regs.gpr[GPR_RCX], PT_PAMT);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAGE_WBINVD, region.pair[1].raw, 0, 0),
                     answer(TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX));
    regs.gpr[GPR_RCX] = tdr.raw;
    assert_int_equal(seamcall(TDH_PHYMEM_PAGE_RDMD, &regs).raw, 0);
    assert_int_equal(regs.gpr[GPR_RCX], PT_TDR);
    audit_check();
    environment_stop();
}

/* It does not have the leaves, the field, nor the flag of SYS.CONFIG. */
static void a_static_module_knows_nothing_of_it(void **state)
{
    (void)state;
    environment_newer_module = false;
    environment_start(1, 1, plain, ARRAY_LENGTH(plain));
    assert_int_equal(tdx_module_start(), OK);
    assert_false(pamt_is_dynamic());
    assert_int_equal(tdx_module()->features0 & TDX_FEATURE_DYNAMIC_PAMT, 0);
    assert_int_equal(pamt_call(TDH_PHYMEM_PAMT_ADD, 16 * MIB | 1, 32 * MIB, 33 * MIB),
                     answer(TDX_OPERAND_INVALID, OPERAND_RAX));
    assert_int_equal(pamt_call(TDH_SYS_RD, 0, MD_SYS_PAMT_PAGE_BITMAP_ENTRY_BITS, 0),
                     answer(TDX_METADATA_FIELD_ID_INCORRECT, 0));
    environment_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_page_brings_the_pair_and_the_last_takes_it),
        cmocka_unit_test(a_pair_comes_from_the_cache_and_goes_there),
        cmocka_unit_test(a_refused_pair_changes_nothing),
        cmocka_unit_test(a_region_that_has_a_pair_is_no_error),
        cmocka_unit_test(a_pair_that_stays_serves_the_next_page_and_yields_to_a_large_one),
        cmocka_unit_test(two_processors_meet_at_the_edge),
        cmocka_unit_test(the_audit_names_the_first_difference),
        cmocka_unit_test(a_split_page_has_512_and_a_joined_one_none),
        cmocka_unit_test(the_module_refuses_what_is_no_pair),
        cmocka_unit_test(the_module_knows_pages_by_their_pairs),
        cmocka_unit_test(a_static_module_knows_nothing_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
