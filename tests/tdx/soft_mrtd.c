/* SPDX-License-Identifier: MIT */
/*
 * What the software module measures: reads what initial_pages writes, builds a TD of each guest's
 * pieces by the driver's calls, and prints "MRTD  NAME" for each, as mrtd.py does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/phys.h"
#include "mm/pages.h"
#include "tdx/td.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"

#define LINE_BYTES 256

static const struct memory_range memory[] = {{MIB, GIB, MEMORY_FREE}};
static struct td td;
static struct td_vcpu vcpu;
static struct vcpu_caches caches;

static void must(enum error error, const char *what)
{
    if (!error)
        return;
    fprintf(stderr, "soft_mrtd: %s: %s\n%s", what, error_name(error), host_log());
    exit(1);
}

static void add_piece(const char *line)
{
    unsigned long long start, len;
    if (sscanf(line, "piece %llx %llx", &start, &len) != 2)
        must(ERR_INVALID, line);
    for (u64 offset = 0; offset < len; offset += PAGE_BYTES) {
        u8 page[PAGE_BYTES] = {0};
        size_t left = len - offset < PAGE_BYTES ? len - offset : PAGE_BYTES;
        if (fread(page, 1, left, stdin) != left)
            must(ERR_INVALID, "the input ends inside a piece");
        must(td_add_page(&td, &caches, gpa(start + offset), page), "a page is not added");
    }
}

static void measure(const char *name)
{
    const struct td_options options = {
        .max_vcpus = 1, .tsc_hz = 1000000000, .cpuid = environment_cpuid_nothing};
    u8 mrtd[TD_MEASUREMENT_BYTES];
    char line[LINE_BYTES];
    must(td_create(&td, &options), "the TD is not created");
    must(td_vcpu_create(&td, &vcpu, 0, hpa(0x200000)), "its vCPU is not created");
    while (fgets(line, sizeof line, stdin) && strcmp(line, "end\n") != 0)
        add_piece(line);
    must(td_finalize(&td), "the TD is not finalized");
    must(td_measurement(&td, mrtd), "its measurement is not read");
    must(td_destroy(&td), "the TD is not destroyed");
    for (u32 i = 0; i < sizeof mrtd; i++)
        printf("%02x", mrtd[i]);
    printf("  %s\n", name);
}

int main(void)
{
    char line[LINE_BYTES], name[LINE_BYTES];
    environment_start(1, 1, memory, ARRAY_LENGTH(memory));
    must(tdx_module_start(), "the software module does not start");
    vcpu_caches_init(&caches, 0);
    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "%*[a-z] %255[^\n]", name) == 1 && strncmp(line, "vm ", 3) != 0)
            measure(name);
    vcpu_caches_drain(&caches);
    environment_stop();
    return 0;
}
