/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/tdx/walk.h"

#define HANG_S 60

static volatile struct walk_progress *progress_shared(void)
{
    static volatile struct walk_progress *progress;
    if (!progress) {
        void *page =
            mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            abort();
        progress = page;
    }
    return progress;
}

bool walk_survives(const struct walk_op *ops, u32 count, bool verbose,
                   struct walk_progress *progress)
{
    volatile struct walk_progress *shared = progress_shared();
    *shared = (struct walk_progress){};
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        alarm(HANG_S);
        if (!verbose) {
            int nowhere = open("/dev/null", O_WRONLY);
            dup2(nowhere, STDOUT_FILENO);
            dup2(nowhere, STDERR_FILENO);
        }
        walk_run(ops, count, shared);
        fflush(NULL);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        abort();
    *progress = *shared;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Tries the walk without [start, start + len). True: it still fails, and is that much shorter. */
static bool part_leave_out(struct walk_op *ops, u32 *count, u32 start, u32 len)
{
    struct walk_progress progress;
    u32 left = *count - len;
    struct walk_op *shorter = malloc((left + 1) * sizeof *shorter);
    memcpy(shorter, ops, start * sizeof *ops);
    memcpy(shorter + start, ops + start + len, (left - start) * sizeof *ops);
    bool survives = walk_survives(shorter, left, false, &progress);
    if (!survives) {
        *count = progress.begun < left ? progress.begun : left;
        memcpy(ops, shorter, *count * sizeof *ops);
    }
    free(shorter);
    return !survives;
}

static u64 seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec;
}

/* Parts of half the walk, then of a quarter, and so on, down to single operations. */
u32 walk_shrink(struct walk_op *ops, u32 count, u32 limit_s)
{
    u64 end = seconds_now() + limit_s;
    u32 len = count / 2 ? count / 2 : 1;
    bool again = true;
    while (again && seconds_now() < end) {
        bool shorter = false;
        /* From the end: what is left out there breaks nothing before it. */
        for (u32 at = count; at > 0 && seconds_now() < end;) {
            u32 part = len < at ? len : at;
            at -= part;
            if (at + part <= count)
                shorter |= part_leave_out(ops, &count, at, part);
            if (at > count)
                at = count;
        }
        again = len > 1 || shorter;
        len = len > 1 ? len / 2 : 1;
    }
    return count;
}
