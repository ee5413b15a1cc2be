/* SPDX-License-Identifier: MIT */
/* The VMM of a player: faults of its vCPU, and changes to the memory that all vCPUs share. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/host/machine.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/threads.h"

void player_fail(const struct player *player, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "threads: processor %u, TD %u: ", player->number, player->td_number);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n%s", host_log());
    va_end(arguments);
    abort();
}

/* What others on the same frames, or too little memory, may do to an operation. */
static void error_check(const struct player *player, const char *what, enum error error)
{
    if (error && error != ERR_BUSY && error != ERR_NO_MEMORY)
        player_fail(player, "%s: error %d", what, error);
}

static enum error frame_map(struct player *player, u32 frame)
{
    enum level level = LEVEL_4K;
    struct mirror *mirror = &player->td->mirror;
    if (frame >= 512 && player_random(player, 4))
        level = LEVEL_2M;
    gfn_t aligned = gfn(align_down(frame, level_pages(level)));
    enum error error = mirror_map(mirror, &player->caches, aligned, level);
    if (level == LEVEL_2M && (error == ERR_EXISTS || error == ERR_NO_MEMORY))
        error = mirror_map(mirror, &player->caches, gfn(frame), LEVEL_4K);
    error_check(player, "a map", error);
    return error;
}

static enum error frame_demote(struct player *player, u32 frame)
{
    player->demotions++;
    enum error error = mirror_demote(&player->td->mirror, &player->caches, gfn(frame), LEVEL_4K);
    error_check(player, "a demotion", error);
    return error;
}

static void frames_remove(struct player *player, u32 start, u32 end)
{
    gfn_t done;
    enum error error =
        mirror_remove_range(&player->td->mirror, &player->caches, gfn(start), gfn(end), &done);
    error_check(player, "a removal", error);
    player->removals++;
    player->removals_busy += error == ERR_BUSY;
}

static void region_promote(struct player *player, u32 frame)
{
    gfn_t first = gfn(align_down(frame, 512));
    enum error error = mirror_promote(&player->td->mirror, first, LEVEL_2M);
    player->promotions += error == OK;
    if (error != ERR_STATE)
        error_check(player, "a promotion", error);
}

static void fault_serve(struct player *player, const struct td_exit *exit)
{
    u32 frame = (u32)gpa_to_gfn(exit->address).raw;
    enum level level;
    player->faults++;
    player->is_retrying = player->is_accepting;
    player->is_accepting = false;
    /* There, and the guest cannot use it: it wants a smaller page. What is busy is tried again: the
     * module keeps the entry for us, and the guest would wait for it in vain. */
    enum error error;
    do {
        bool is_large =
            !hpa_is_none(mirror_lookup(&player->td->mirror, gfn(frame), &level)) && level;
        error = is_large ? frame_demote(player, frame) : frame_map(player, frame);
    } while (error == ERR_BUSY);
}

static void guest_enter(struct player *player)
{
    struct td_exit exit;
    td_vcpu_enter(&player->vcpu, &exit);
    player->entries++;
    switch (exit.kind) {
    case TD_EXIT_EPT_VIOLATION:
        fault_serve(player, &exit);
        break;
    case TD_EXIT_RETRY:
    case TD_EXIT_INTERRUPT:
        break;
    default:
        player_fail(player, "the guest ends with exit %u", exit.kind);
    }
}

static u32 length_choose(struct player *player)
{
    u32 kind = player_random(player, 8);
    return 1 + (kind < 5 ? 0 : player_random(player, kind < 7 ? 16 : 600));
}

void player_step(struct player *player)
{
    u32 kind = player_random(player, 100);
    u32 frame = player_random(player, 2) ? player_random(player, 32)
                                         : 512 + player_random(player, THREADS_FRAMES - 512);
    u32 end = frame + length_choose(player);
    if (end > THREADS_FRAMES)
        end = THREADS_FRAMES;
    player->operations++;
    if (kind < 70)
        guest_enter(player);
    else if (kind < 80)
        frames_remove(player, frame, end);
    else if (kind < 84)
        (void)frame_demote(player, frame);
    else if (kind < 90)
        region_promote(player, frame);
    else if (kind < 95)
        (void)frame_map(player, frame);
    else if (kind < 96)
        vcpu_caches_drain(&player->caches);
    else
        (void)mirror_lookup(&player->td->mirror, gfn(frame), NULL);
}
