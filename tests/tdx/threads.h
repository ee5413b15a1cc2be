/* SPDX-License-Identifier: MIT */
/*
 * Threads that each play a processor with one vCPU: half of the time its VMM, half its guest. The
 * guest keeps translations as a processor does, until the module makes it forget them.
 */
#ifndef TESTS_TDX_THREADS_H
#define TESTS_TDX_THREADS_H

#include "tdx/td.h"
#include "tests/tdx/walk.h"

#define THREADS_MAX 8
#define THREADS_FRAMES 2048u /* of each TD: four large pages */
#define TRANSLATIONS 64

struct player {
    u32 number; /* of its processor */
    u32 td_number;
    struct td *td;
    struct td_vcpu vcpu;
    struct vcpu_caches caches;
    struct walk_random random;

    /* In the guest. */
    u64 eptp;
    struct {
        bool is_valid;
        u32 frame;
        u64 page;
    } translations[TRANSLATIONS];
    bool is_accepting;
    bool is_retrying;     /* the instruction that faulted */
    u32 accepts_in_a_row; /* that faulted */
    bool wants_small;     /* the large page was refused */
    u32 frame;            /* that it goes for */
    u64 accesses, accepts, kicks;

    /* In the VMM. */
    u64 operations, entries, faults, removals, removals_busy, promotions, demotions;
};

/* Ends the process. */
void player_fail(const struct player *player, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

u32 player_random(struct player *player, u32 limit);

/* The calling thread is this player from now on. */
void player_sit(struct player *player);
/* Makes the players' guests what the module runs. */
void players_install(void);
/* What an accepted page may hold: zero, or what its guest writes there. */
bool player_word_is_right(u32 td_number, u32 frame, u64 word);

/* One operation of the VMM, or one stay in the guest. */
void player_step(struct player *player);

#endif
