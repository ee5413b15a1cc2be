/* SPDX-License-Identifier: MIT */
/*
 * A page that was given to the module and is touched all the same, by a pointer that was kept: each
 * kind of page, in a process of its own that dies of it and says which page, what it is and who
 * touched it.
 */
#include "tdx/td.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/paging.h"
#include "boot/phys.h"
#include "mm/pages.h"
#include "tdx/handover.h"
#include "tdx/module.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/soft_module.h"

#define FRAME 0x40000ull
#define LARGE_FRAME 0x40200ull
#define REPORT_BYTES 65536

static const struct memory_range memory[] = {{MIB, 64 * MIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpu;
static struct vcpu_caches caches;

static const struct td_options options = {
    .max_vcpus = 1,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static int start(void **state)
{
    (void)state;
    environment_start(1, 1, memory, ARRAY_LENGTH(memory));
    assert_int_equal(tdx_module_start(), OK);
    vcpu_caches_init(&caches, 0);
    assert_int_equal(td_create(&td, &options), OK);
    assert_int_equal(td_vcpu_create(&td, &vcpu, 0, hpa(0x200000)), OK);
    assert_int_equal(td_finalize(&td), OK);
    assert_int_equal(mirror_map(&td.mirror, &caches, gfn(FRAME), LEVEL_4K), OK);
    assert_int_equal(mirror_map(&td.mirror, &caches, gfn(LARGE_FRAME), LEVEL_2M), OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(td_destroy(&td), OK);
    vcpu_caches_drain(&caches);
    environment_stop();
    return 0;
}

/* All memory is one piece here: a pointer that was right before the page was given. */
static u8 *pointer_kept(hpa_t page)
{
    u8 *visible = phys_to_virt(td.descriptors);
    return visible + (page.raw - td.descriptors.raw);
}

__attribute__((noinline)) static void pointer_is_written(u8 *byte)
{
    *(volatile u8 *)byte = 1;
}

__attribute__((noinline)) static void pointer_is_read(u8 *byte)
{
    (void)*(volatile u8 *)byte;
}

__attribute__((noinline)) static void page_is_cleared(u8 *byte)
{
    memset((u8 *)align_down((u64)byte, PAGE_BYTES), 0, PAGE_BYTES);
}

__attribute__((noinline)) static void page_is_found_again(u8 *byte)
{
    (void)phys_to_virt(virt_to_phys(byte));
}

/* What a child said before it died; "" if it lived. */
static void death_of(void (*touch)(u8 *), u8 *byte, char report[REPORT_BYTES])
{
    int ends[2], status;
    size_t len = 0;
    ssize_t got;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        touch(byte);
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], report + len, REPORT_BYTES - 1 - len)) > 0)
        len += (size_t)got;
    report[len] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        report[0] = 0;
}

static void death_is(void (*touch)(u8 *), hpa_t page, u32 offset, const char *who,
                     const char *whose)
{
    static char report[REPORT_BYTES];
    char line[256];
    death_of(touch, pointer_kept(page) + offset, report);
    snprintf(line, sizeof line, "0x%llx: %s", (unsigned long long)page.raw + offset, who);
    const char *found = strstr(report, line);
    snprintf(line, sizeof line, "touched a page that the VMM gave to the TDX module: %s", whose);
    if (!found || !strstr(found, line))
        fail_msg("no line '0x%llx: %s ... %s' in:\n%s", (unsigned long long)page.raw + offset, who,
                 line, report);
}

static hpa_t external_table(void)
{
    for (hpa_t page = hpa(MIB); page.raw < 64 * MIB; page.raw += PAGE_BYTES)
        if (page_owner(page) == PAGE_EXTERNAL && paging_page_is_hidden(page))
            return page;
    fail_msg("no external table");
    return HPA_NONE;
}

static void every_kind_of_page_is_named(void **state)
{
    (void)state;
    const struct {
        hpa_t page;
        const char *ours, *type;
    } rows[] = {
        {mirror_lookup(&td.mirror, gfn(FRAME), NULL), "private", "private memory"},
        {mirror_lookup(&td.mirror, gfn(LARGE_FRAME + 300), NULL), "private", "private memory"},
        {td.tdr, "TD control", "a TDR"},
        {td.tdcs[0], "TD control", "a TDCS or TDVPS page"},
        {vcpu.tdvpr, "TD control", "a TDVPR"},
        {vcpu.tdcx[1], "TD control", "a TDCS or TDVPS page"},
        {external_table(), "external table", "a secure EPT table"},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        char whose[HIDDEN_PAGE_TEXT_BYTES];
        snprintf(whose, sizeof whose, "%s to us, %s of TD 0x%llx to the module", rows[i].ours,
                 rows[i].type, (unsigned long long)td.tdr.raw);
        death_is(pointer_is_written, rows[i].page, 0x123, "pointer_is_written", whose);
    }
}

static void whoever_touches_is_named(void **state)
{
    (void)state;
    hpa_t page = mirror_lookup(&td.mirror, gfn(FRAME), NULL);
    death_is(pointer_is_read, page, PAGE_BYTES - 1, "pointer_is_read", "private to us");
    death_is(page_is_cleared, page, 0, "page_is_cleared", "private to us");
    death_is(page_is_found_again, page, 0, "", "private to us");
}

/* The module has looked at it in between: it is closed again. */
static void a_call_of_the_module_leaves_no_page_open(void **state)
{
    (void)state;
    struct tdx_regs regs = {};
    regs.gpr[GPR_RCX] = td.tdr.raw;
    assert_int_equal(seamcall(TDH_MEM_TRACK, &regs).raw, 0);
    death_is(pointer_is_written, td.tdr, 0, "pointer_is_written", "TD control to us");
}

static void what_is_ours_again_may_be_touched(void **state)
{
    (void)state;
    static char report[REPORT_BYTES];
    gfn_t done;
    hpa_t page = mirror_lookup(&td.mirror, gfn(FRAME), NULL);
    death_is(pointer_is_written, page, 0, "pointer_is_written", "private to us");
    assert_int_equal(mirror_remove_range(&td.mirror, &caches, gfn(FRAME), gfn(FRAME + 1), &done),
                     OK);
    death_of(page_is_cleared, pointer_kept(page), report);
    assert_string_equal(report, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_page_is_named, start, stop),
        cmocka_unit_test_setup_teardown(whoever_touches_is_named, start, stop),
        cmocka_unit_test_setup_teardown(a_call_of_the_module_leaves_no_page_open, start, stop),
        cmocka_unit_test_setup_teardown(what_is_ours_again_may_be_touched, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
