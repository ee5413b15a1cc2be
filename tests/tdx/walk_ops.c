/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "tests/tdx/walk.h"

static const struct {
    const char *name;
    u32 weight;
} kinds[WALK_KINDS] = {
#define WALK_OP(kind, name, weight) [WALK_##kind] = {name, weight},
#include "tests/tdx/walk.def"
#undef WALK_OP
};

u64 walk_random_next(struct walk_random *random)
{
    u64 value = random->state += 0x9e3779b97f4a7c15;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
    value = (value ^ value >> 27) * 0x94d049bb133111eb;
    return value ^ value >> 31;
}

static u32 below(struct walk_random *random, u32 limit)
{
    return (u32)(walk_random_next(random) % limit);
}

/* Few frames often, so that operations meet; a few large pages; and anywhere. */
static u32 frame_generate(struct walk_random *random)
{
    u32 where = below(random, 10);
    if (where < 4)
        return below(random, 48);
    if (where < 7)
        return 512 + below(random, 512);
    if (where < 9)
        return below(random, 16) * 512 + (below(random, 4) ? below(random, 512) : 0);
    return below(random, WALK_FRAMES);
}

static u32 length_generate(struct walk_random *random)
{
    u32 kind = below(random, 100);
    if (kind < 60)
        return 1;
    if (kind < 85)
        return 1 + below(random, 8);
    if (kind < 97)
        return 1 + below(random, 600);
    return 1 + below(random, 8192);
}

void walk_op_generate(struct walk_random *random, struct walk_op *op)
{
    u32 total = 0, kind = 0;
    for (u32 i = 0; i < WALK_KINDS; i++)
        total += kinds[i].weight;
    for (u32 ticket = below(random, total); ticket >= kinds[kind].weight; kind++)
        ticket -= kinds[kind].weight;
    op->kind = (enum walk_kind)kind;
    op->td = below(random, WALK_TDS);
    op->frame = frame_generate(random);
    op->length = length_generate(random);
    if (op->length > WALK_FRAMES - op->frame)
        op->length = WALK_FRAMES - op->frame;
    op->level = below(random, 10) == 0;
    op->extra = (u32)walk_random_next(random) & 0xffff;
}

const char *walk_kind_name(enum walk_kind kind)
{
    return kinds[kind].name;
}

void walk_op_print(FILE *file, const struct walk_op *op)
{
    fprintf(file, "%s %u %u %u %u %u\n", kinds[op->kind].name, op->td, op->frame, op->length,
            op->level, op->extra);
}

bool walk_op_parse(const char *line, struct walk_op *op)
{
    char name[16];
    if (sscanf(line, "%15s %u %u %u %u %u", name, &op->td, &op->frame, &op->length, &op->level,
               &op->extra) != 6)
        return false;
    for (u32 i = 0; i < WALK_KINDS; i++) {
        op->kind = (enum walk_kind)i;
        if (strcmp(name, kinds[i].name) == 0)
            return op->td < WALK_TDS && op->frame < WALK_FRAMES &&
                   op->length <= WALK_FRAMES - op->frame && op->level <= 1;
    }
    return false;
}
