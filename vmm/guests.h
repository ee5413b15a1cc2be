/* SPDX-License-Identifier: MIT */
/*
 * The guests of tain.cfg: which of them run, and their way from start to end. On processor 0 alone,
 * and never from within a slice.
 */
#ifndef VMM_GUESTS_H
#define VMM_GUESTS_H

#include "vmm/summary.h"
#include "vmm/vm.h"

enum guest_state {
    GUEST_ABSENT,
    GUEST_BUILDING,
    GUEST_RUNNING,
    GUEST_PAUSED,
    GUEST_STATES,
};

struct guest {
    const struct guest_config *config;
    enum guest_state state;
    struct vm vm; /* unless absent */
    struct vm_result result;
    u32 starts;
};

/* Takes the guests of the configuration, all absent. */
void guests_init(const struct config *config);
u32 guests_count(void);
struct guest *guest_at(u32 index);
/* Null: there is none of that name. */
struct guest *guest_find(const char *name);
const char *guest_state_name(enum guest_state state);
/* Of those that are not absent, the first behind `after` in the order of tain.cfg; null: none. */
struct guest *guest_next(const struct guest *after);

/* It runs or is paused: guest->vm is there, with its vCPUs. */
bool guest_has_vm(const struct guest *guest);
/* One is being built: until that is done, nothing else may be started or stopped. */
bool guests_are_busy(void);

/* Builds it and lets it run. What goes wrong is said in one line. ERR_STATE: it is not absent. */
enum error guest_start(struct guest *guest);
/* ERR_STATE: it does not run, or is not paused. */
enum error guest_pause(struct guest *guest);
enum error guest_resume(struct guest *guest);
/* Ends it now, and takes it down. ERR_STATE: it is absent, or being built. */
enum error guest_stop(struct guest *guest);

/* Takes down every guest that has ended: audit, teardown, summary. True if there was one. */
bool guests_collect(void);
/* False once a guest was not built, ended badly, or left something behind. */
bool guests_were_good(void);

#endif
