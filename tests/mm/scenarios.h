/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the mirror do to it, each by name: a state to begin with, one operation, and
 * how it must end. Each runs alone, on the one `model`.
 */
#ifndef TESTS_MM_SCENARIOS_H
#define TESTS_MM_SCENARIOS_H

#include "tests/mm/external_model.h"

#define PAGES 4096
#define HUGE_PAGES (2 * HUGE) /* HOST_MEMORY_START and one GiB that is aligned */
#define LARGE 512ull
#define HUGE (512 * LARGE)
#define START (2 * HUGE) /* where the scenarios take place */

extern struct model model;

/* [SMALL, LARGE, HUGE] leaves and tables at the end; the tables of 3 levels lead to START. */
struct ending {
    u64 leaves[MIRROR_LEAF_LEVELS];
    u64 tables;
};

struct scenario {
    const char *name;
    void (*before)(void);
    enum error (*operation)(void);
    struct ending ending;
    u32 tracks; /* one for the whole of a removal, and one for each round of splits */
};

#define SCENARIOS 17
extern const struct scenario scenarios[SCENARIOS];

/* It maps leaves of 1 GiB, and needs HUGE_PAGES. */
bool scenario_is_huge(const struct scenario *scenario);
/* Fresh memory, and the state that the operation finds. */
void scenario_begin(const struct scenario *scenario);

enum failure {
    BUSY_ONCE,
    BUSY_TWICE,
    REFUSED,
    FAILURES,
};

/* Each call of the scenario's operation to the owner (of many alike, some), failing in each way. */
void scenario_failures(const struct scenario *scenario,
                       void (*fail_one)(const struct scenario *scenario, enum model_op op, u32 nth,
                                        enum failure failure));
/* Orders that failure for the operation that is to follow. */
void scenario_fail(enum model_op op, u32 nth, enum failure failure);

/* Maps that very memory. */
void map_at(u64 frame, enum level level, hpa_t page);
/* 2 MiB of memory in a row at START, in leaves of 4 KiB. */
void small_row(void);
enum error remove_frames(u64 start, u64 end);

#endif
