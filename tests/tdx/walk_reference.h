/* SPDX-License-Identifier: MIT */
/*
 * What a walk expects: of each frame of each TD whether it is there, whether the guest has
 * accepted it, and what was last written to it. At which level it is mapped is free.
 */
#ifndef TESTS_TDX_WALK_REFERENCE_H
#define TESTS_TDX_WALK_REFERENCE_H

#include "tdx/td.h"
#include "tests/tdx/walk.h"

#define WALK_REGION 512u /* frames of a large page */
#define WALK_REGIONS (WALK_FRAMES / WALK_REGION)

enum walk_frame_state {
    FRAME_ABSENT,
    FRAME_PENDING,
    FRAME_ACCEPTED,
};

struct walk_frame {
    u8 state;        /* enum walk_frame_state */
    bool is_blocked; /* a removal stopped there */
    u16 stamp;       /* what the guest wrote last; 0: zeros, as accepted */
};

enum walk_life {
    LIFE_NONE,
    LIFE_BUILDING,
    LIFE_RUNNING,
};

struct walk_td {
    u32 number;
    enum walk_life life;
    struct td td;
    struct td_vcpu vcpu;
    struct vcpu_caches caches;
    hpa_t shared_root;
    u64 present;
    struct walk_frame frames[WALK_FRAMES];
    /* A refusal left something blocked there: maps, promotions and the like may be refused. */
    bool region_is_spoiled[WALK_REGIONS];
};

extern struct walk_td walk_tds[WALK_TDS];

/* Ends the process: what the walk met is not what it expects. */
void walk_fail(const struct walk_td *walk, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
#define WALK_CHECK(walk, condition, ...)      \
    do {                                      \
        if (!(condition))                     \
            walk_fail((walk), ##__VA_ARGS__); \
    } while (0)

void reference_set(struct walk_td *walk, u32 frame, enum walk_frame_state state, u16 stamp);
void reference_clear(struct walk_td *walk);

/* The content of an accepted page, and junk in one that the guest has not seen yet. */
void page_stamp(const struct walk_td *walk, u32 frame, u64 page, u16 stamp);
void page_spoil(u64 page);
void page_check(const struct walk_td *walk, u32 frame, u64 page, u16 stamp);
/* All of it is zero. */
void page_check_zero(const struct walk_td *walk, u32 frame, u64 page);

/* The EPTP of the guest. */
u64 walk_eptp(const struct walk_td *walk);

/* Mirror, module and page counts against the reference: every page, and all counts. */
void reference_compare(void);
/* One frame on all three sides. */
void reference_compare_frame(struct walk_td *walk, u32 frame);

#endif
