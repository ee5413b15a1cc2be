/* SPDX-License-Identifier: MIT */
/* Until the mirror has levels: the calls of a walk, at LEVEL_4K alone. */
#ifndef TESTS_TDX_WALK_ENGINE_H
#define TESTS_TDX_WALK_ENGINE_H

#include "mm/mirror.h"

static inline enum error engine_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                                    enum level level)
{
    (void)level;
    return mirror_map(mirror, caches, frame);
}
static inline hpa_t engine_lookup(struct mirror *mirror, gfn_t frame, enum level *level)
{
    if (level)
        *level = LEVEL_4K;
    return mirror_lookup(mirror, frame);
}
static inline enum error mirror_demote(struct mirror *mirror, struct vcpu_caches *caches,
                                       gfn_t frame, enum level level)
{
    (void)mirror, (void)caches, (void)frame, (void)level;
    return OK;
}
static inline enum error mirror_promote(struct mirror *mirror, gfn_t frame, enum level level)
{
    (void)mirror, (void)frame, (void)level;
    return ERR_STATE;
}
static inline u64 mirror_private_pages(const struct mirror *mirror)
{
    return mirror->stats.leaves;
}
#define mirror_map(mirror, caches, frame, level) engine_map(mirror, caches, frame, level)
#define mirror_lookup(mirror, frame, level) engine_lookup(mirror, frame, level)
#define caches_private_pages(caches) ((caches)->private_pages.count)

#endif
