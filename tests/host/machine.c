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

static u8 *memory;
static u64 memory_bytes;
static u8 *hidden; /* one byte a page */
static struct cpu cpus[CPU_MAX];
static u32 cpus_used = 1, packages_used = 1;
static _Thread_local u32 cpu_index;

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 20];
static size_t log_len;
static bool log_echo;

void host_memory_create(u64 bytes)
{
    host_memory_destroy();
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    memory_bytes = bytes;
    hidden = calloc(bytes / PAGE_BYTES, 1);
}

void host_memory_destroy(void)
{
    if (memory)
        munmap(memory, memory_bytes);
    free(hidden);
    memory = NULL;
    hidden = NULL;
    memory_bytes = 0;
}

void *host_memory_at(u64 address)
{
    if (address - HOST_MEMORY_START >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)address);
    return memory + (address - HOST_MEMORY_START);
}

void *phys_to_virt(hpa_t address)
{
    u64 offset = address.raw - HOST_MEMORY_START;
    if (offset >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)address.raw);
    if (hidden[offset / PAGE_BYTES])
        panic("page %#llx is hidden", (unsigned long long)address.raw);
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

static u8 *hidden_flag(hpa_t page)
{
    u64 offset = page.raw - HOST_MEMORY_START;
    if (offset >= memory_bytes)
        panic("no memory at %#llx", (unsigned long long)page.raw);
    return &hidden[offset / PAGE_BYTES];
}

void paging_hide_page(hpa_t page, enum level level)
{
    memset(hidden_flag(page), 1, level_pages(level));
}
void paging_show_page(hpa_t page, enum level level)
{
    memset(hidden_flag(page), 0, level_pages(level));
}
bool paging_page_is_hidden(hpa_t page)
{
    return *hidden_flag(page) != 0;
}

u64 host_hidden_pages(void)
{
    u64 sum = 0;
    for (u64 i = 0; i < memory_bytes / PAGE_BYTES; i++)
        sum += hidden[i];
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
