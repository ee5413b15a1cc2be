/* SPDX-License-Identifier: MIT */
#include "tests/host/machine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/paging.h"
#include "boot/phys.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

enum page_sight {
    PAGE_SEEN,
    PAGE_HIDDEN,
    PAGE_OPEN, /* hidden from the VMM; the module looks at it now */
};

static u8 *memory;
static u64 memory_bytes;
static u8 *sight;   /* enum page_sight, one byte a page */
static u32 *opened; /* indexes of pages that were opened since the last close */
static u32 opened_count;
static struct cpu cpus[CPU_MAX];
static u32 cpus_used = 1, packages_used = 1;
static _Thread_local u32 cpu_index;

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 20];
static size_t log_len;
static bool log_echo;

static void page_sight_set(u64 index, enum page_sight now)
{
    sight[index] = (u8)now;
    if (now == PAGE_HIDDEN)
        ASAN_POISON_MEMORY_REGION(memory + index * PAGE_BYTES, PAGE_BYTES);
    else
        ASAN_UNPOISON_MEMORY_REGION(memory + index * PAGE_BYTES, PAGE_BYTES);
}

/* The owner is mm/'s and tdx/'s to say, where a test has them. */
__attribute__((weak)) void hidden_page_describe(hpa_t page, char *text, size_t text_bytes)
{
    (void)page;
    format_string(text, text_bytes, "?");
}

static void touch_report(u64 address, const char *who)
{
    char whose[HIDDEN_PAGE_TEXT_BYTES];
    hidden_page_describe(hpa(align_down(address, PAGE_BYTES)), whose, sizeof whose);
    fprintf(stderr, "0x%llx: %s touched a page that the VMM gave to the TDX module: %s\n",
            (unsigned long long)address, who, whose);
}

#ifdef __SANITIZE_ADDRESS__
/* The first frame of the report that is not the sanitizer's own: "function file:line". */
static void frame_find(const char *report, char *frame, size_t bytes)
{
    snprintf(frame, bytes, "?");
    for (const char *line = strstr(report, "    #"); line; line = strstr(line + 1, "\n    #")) {
        const char *in = strstr(line, " in "), *end = strchr(line + 1, '\n');
        if (!in || !end || in > end)
            return;
        snprintf(frame, bytes, "%.*s", (int)(end - in - 4), in + 4);
        if (!strstr(frame, "sanitizer") && !strstr(frame, "libasan"))
            return;
    }
}

static void asan_reports(const char *report)
{
    char frame[512];
    u64 offset = (u64)((u8 *)__asan_get_report_address() - memory);
    if (offset >= memory_bytes || sight[offset / PAGE_BYTES] != PAGE_HIDDEN)
        return;
    frame_find(report, frame, sizeof frame);
    touch_report(HOST_MEMORY_START + offset, frame);
}

static void touches_report(void)
{
    __asan_set_error_report_callback(asan_reports);
}
#else
static void touches_report(void) {}
#endif

void host_memory_create(u64 bytes)
{
    host_memory_destroy();
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    memory_bytes = bytes;
    sight = calloc(bytes / PAGE_BYTES, 1);
    opened = calloc(bytes / PAGE_BYTES, sizeof *opened);
    opened_count = 0;
    touches_report();
}

void host_memory_destroy(void)
{
    for (u64 i = 0; i < memory_bytes / PAGE_BYTES; i++)
        if (sight[i])
            page_sight_set(i, PAGE_SEEN);
    if (memory)
        munmap(memory, memory_bytes);
    free(sight);
    free(opened);
    memory = NULL;
    sight = NULL;
    opened = NULL;
    memory_bytes = 0;
}

/* Threads have no ASan, and need no open pages. */
static void page_open(u64 index)
{
#ifdef __SANITIZE_ADDRESS__
    if (sight[index] != PAGE_HIDDEN)
        return;
    page_sight_set(index, PAGE_OPEN);
    opened[opened_count++] = (u32)index;
#else
    (void)index;
#endif
}

void *host_memory_at(u64 address)
{
    if (address - HOST_MEMORY_START >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)address);
    u64 index = (address - HOST_MEMORY_START) / PAGE_BYTES;
    page_open(index);
    return memory + (address - HOST_MEMORY_START);
}

void host_memory_close(void)
{
    while (opened_count) {
        u32 index = opened[--opened_count];
        if (sight[index] == PAGE_OPEN)
            page_sight_set(index, PAGE_HIDDEN);
    }
}

void *phys_to_virt(hpa_t address)
{
    u64 offset = address.raw - HOST_MEMORY_START;
    if (offset >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)address.raw);
    if (sight[offset / PAGE_BYTES]) {
        touch_report(address.raw, "somebody");
        panic("page %#llx is hidden", (unsigned long long)address.raw);
    }
    return memory + offset;
}

hpa_t virt_to_phys(const void *pointer)
{
    return hpa((u64)((const u8 *)pointer - memory) + HOST_MEMORY_START);
}

bool paging_is_strict(void)
{
    return true;
}

static u64 page_index(hpa_t page)
{
    u64 offset = page.raw - HOST_MEMORY_START;
    if (offset >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)page.raw);
    return offset / PAGE_BYTES;
}

void paging_hide_page(hpa_t page, enum level level)
{
    for (u64 i = 0; i < level_pages(level); i++)
        page_sight_set(page_index(page) + i, PAGE_HIDDEN);
}
void paging_show_page(hpa_t page, enum level level)
{
    for (u64 i = 0; i < level_pages(level); i++)
        page_sight_set(page_index(page) + i, PAGE_SEEN);
}
bool paging_page_is_hidden(hpa_t page)
{
    return sight[page_index(page)] != PAGE_SEEN;
}

u64 host_hidden_pages(void)
{
    u64 sum = 0;
    for (u64 i = 0; i < memory_bytes / PAGE_BYTES; i++)
        sum += sight[i] != PAGE_SEEN;
    return sum;
}

void host_cpu_set(u32 index)
{
    cpu_index = index;
}

void host_cpu_count_set(u32 count, u32 packages)
{
    cpus_used = count;
    packages_used = packages;
    for (u32 i = 0; i < count; i++)
        cpus[i].package = i * packages / count;
}

struct cpu *cpu_this(void)
{
    cpus[cpu_index].index = cpu_index;
    return &cpus[cpu_index];
}

struct cpu *cpu_at(u32 index)
{
    return &cpus[index];
}
u32 cpu_count(void)
{
    return cpus_used;
}
u32 cpu_package_count(void)
{
    return packages_used;
}

void cpu_run_on(u32 index, void (*call)(void *), void *argument)
{
    u32 mine = cpu_index;
    cpu_index = index;
    call(argument);
    cpu_index = mine;
}

void cpu_run_on_all(void (*call)(void *), void *argument)
{
    for (u32 i = 0; i < cpus_used; i++)
        cpu_run_on(i, call, argument);
}

/* Calls are made at once: none ever waits. */
void cpu_serve_call(void) {}
bool cpu_call_is_waiting(void)
{
    return false;
}
void cpu_set_work(bool (*work)(void))
{
    (void)work;
}

void cpu_kick(u32 index)
{
    cpus[index].kicked = true;
}

void host_log_clear(void)
{
    log_len = 0;
    log_text[0] = 0;
}

const char *host_log(void)
{
    return log_text;
}
void host_log_echo(bool on)
{
    log_echo = on;
}

void log_line(const char *format, ...)
{
    va_list arguments;
    char line[512];
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&log_lock);
    if (log_len + strlen(line) + 2 < sizeof log_text)
        log_len += (size_t)snprintf(log_text + log_len, sizeof log_text - log_len, "%s\n", line);
    if (log_echo)
        fprintf(stderr, "%s\n", line);
    pthread_mutex_unlock(&log_lock);
}

void log_console(const char *bytes, size_t len_bytes)
{
    log_line("%.*s", (int)len_bytes, bytes);
}

__attribute__((weak)) int format_string_v(char *out, size_t out_bytes, const char *format,
                                          va_list arguments)
{
    return vsnprintf(out, out_bytes, format, arguments);
}

__attribute__((weak)) int format_string(char *out, size_t out_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(out, out_bytes, format, arguments);
    va_end(arguments);
    return len;
}

void panic(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "panic: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}
