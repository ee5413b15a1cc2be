/* SPDX-License-Identifier: MIT */
/* A walk's operations on the memory of a running TD. */
#include <string.h>

#include "boot/phys.h"
#include "tests/host/machine.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/walk_parts.h"

#define PAGES_SCARCE 64

volatile struct walk_progress *walk_progress;

void walk_tally(const struct walk_op *op, enum error error)
{
    walk_progress->ends[op->kind][error]++;
}

bool walk_was_refused(void)
{
    return strstr(host_log(), "is made to fail") != NULL;
}

static u64 free_pages(void)
{
    struct pages_stats stats;
    pages_statistics(&stats);
    return stats.pages[PAGE_FREE];
}

void walk_error_check(const struct walk_td *walk, const struct walk_op *op, enum error error)
{
    bool is_scarce = error == ERR_NO_MEMORY && (op->level || free_pages() < PAGES_SCARCE);
    bool is_refused = (error == ERR_BUSY || error == ERR_REFUSED) && walk_was_refused();
    WALK_CHECK(walk, is_scarce || is_refused, "error %d without a cause", error);
}

static bool region_is_spoiled(const struct walk_td *walk, u32 frame)
{
    return walk->region_is_spoiled[frame / WALK_REGION];
}

/* A change takes up what one before it left blocked, also outside its range. */
static void regions_recover(struct walk_td *walk, u32 start, u32 end)
{
    start = (u32)align_down(start, WALK_REGION);
    end = (u32)align_up(end, WALK_REGION);
    for (u32 frame = start; frame < end && frame < WALK_FRAMES; frame++) {
        struct walk_frame *reference = &walk->frames[frame];
        if (region_is_spoiled(walk, frame) && reference->state != FRAME_ABSENT)
            reference->is_blocked = hpa_is_none(mirror_lookup(&walk->td.mirror, gfn(frame), NULL));
    }
}

/* After a refusal: what is blocked shows in the mirror, and can be there only now. */
static void regions_reread(struct walk_td *walk, u32 start, u32 end)
{
    u32 last = (u32)align_up(end, WALK_REGION) / WALK_REGION;
    for (u32 region = start / WALK_REGION; region < last && region < WALK_REGIONS; region++)
        walk->region_is_spoiled[region] = true;
    regions_recover(walk, start, end);
}

static void frames_appear(struct walk_td *walk, u32 frame)
{
    enum level level;
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(frame), &level);
    WALK_CHECK(walk, !hpa_is_none(page), "frame %u is mapped and not there", frame);
    if (walk->frames[frame].state != FRAME_ABSENT)
        return;
    u32 start = (u32)align_down(frame, level_pages(level));
    for (u32 i = start; i < start + level_pages(level); i++) {
        WALK_CHECK(walk, walk->frames[i].state == FRAME_ABSENT,
                   "a large page came over frame %u, which was there", i);
        reference_set(walk, i, FRAME_PENDING, 0);
        page_spoil(page.raw + ((u64)i - frame) * PAGE_BYTES);
    }
}

static void map_one(struct walk_td *walk, const struct walk_op *op, u32 frame)
{
    enum error error =
        mirror_map(&walk->td.mirror, &walk->caches, gfn(frame), (enum level)op->level);
    walk_tally(op, error);
    if (error == OK) {
        frames_appear(walk, frame);
        return;
    }
    if (error == ERR_EXISTS && op->level)
        return;
    if (error == ERR_REFUSED && region_is_spoiled(walk, frame))
        return;
    walk_error_check(walk, op, error);
    if (error != ERR_NO_MEMORY)
        regions_reread(walk, frame, frame + 1);
}

void walk_map(struct walk_td *walk, const struct walk_op *op)
{
    u32 frames = op->level ? WALK_REGION : 1, count = op->level ? 1 : op->length % 600;
    u32 first = (u32)align_down(op->frame, frames);
    for (u32 i = 0; i < count + !count && first + i < WALK_FRAMES; i++)
        map_one(walk, op, first + i);
}

static void accept_check_done(struct walk_td *walk, u32 frame, enum level level)
{
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(frame), NULL);
    for (u32 i = 0; i < level_pages(level); i++) {
        WALK_CHECK(walk, walk->frames[frame + i].state == FRAME_PENDING,
                   "frame %u was accepted and is not pending", frame + i);
        reference_set(walk, frame + i, FRAME_ACCEPTED, 0);
        page_check_zero(walk, frame + i, page.raw + i * PAGE_BYTES);
    }
}

/* What TDG.MEM.PAGE.ACCEPT answers the guest, by the state and level that the frame has. */
static void accept_one(struct walk_td *walk, u32 frame, enum level asked)
{
    const struct walk_frame *reference = &walk->frames[frame];
    struct td_exit exit;
    enum level level;
    u64 status;
    bool is_usable = !hpa_is_none(mirror_lookup(&walk->td.mirror, gfn(frame), &level));
    bool is_answered = guest_accept(&walk->vcpu, gfn(frame), asked, &status, &exit);
    u32 code = is_answered ? (u32)(status >> 32) : 0;
    if (!is_answered)
        WALK_CHECK(walk,
                   exit.kind == TD_EXIT_EPT_VIOLATION ||
                       (exit.kind == TD_EXIT_RETRY && walk_was_refused()),
                   "frame %u: accept ends with exit %u", frame, exit.kind);
    if (exit.kind == TD_EXIT_RETRY || (!is_answered && !is_usable))
        return;
    WALK_CHECK(walk, is_usable || code == TDX_PAGE_SIZE_MISMATCH,
               "frame %u is not there, and accept answers %#x", frame, code);
    if (!is_usable)
        return;
    if (level < asked)
        WALK_CHECK(walk, code == TDX_PAGE_SIZE_MISMATCH, "frame %u: no size mismatch", frame);
    else if (reference->state == FRAME_ACCEPTED)
        WALK_CHECK(walk, code == TDX_PAGE_ALREADY_ACCEPTED, "frame %u: not accepted yet", frame);
    else if (level > asked)
        WALK_CHECK(walk, !is_answered, "frame %u is pending above, and accept answers", frame);
    else
        WALK_CHECK(walk, is_answered && code == 0, "frame %u: accept answers %#x", frame, code);
    walk_progress->accepted_large += is_answered && code == 0 && asked;
    if (is_answered && code == 0)
        accept_check_done(walk, frame, asked);
}

/* As a guest does it: the level it would like, then the smaller one; often the one that fits. */
void walk_accept(struct walk_td *walk, const struct walk_op *op)
{
    u32 count = op->length % 600;
    for (u32 i = 0; i < count + !count && op->frame + i < WALK_FRAMES; i++) {
        u32 frame = op->frame + i;
        enum level level = (enum level)op->level;
        if (op->extra & 3 && hpa_is_none(mirror_lookup(&walk->td.mirror, gfn(frame), &level)))
            level = LEVEL_4K;
        accept_one(walk, (u32)align_down(frame, level_pages(level)), level);
    }
}

void walk_write(struct walk_td *walk, const struct walk_op *op)
{
    u64 eptp = walk_eptp(walk);
    u32 count = op->length % 64;
    for (u32 i = 0; i < count + !count && op->frame + i < WALK_FRAMES; i++) {
        struct translation translation;
        u32 frame = op->frame + i;
        if (!guest_translate(eptp, gfn_to_gpa(gfn(frame)).raw, &translation))
            continue;
        WALK_CHECK(walk, walk->frames[frame].state == FRAME_ACCEPTED, "frame %u can be written",
                   frame);
        walk->frames[frame].stamp = (u16)op->extra;
        page_stamp(walk, frame, translation.page, (u16)op->extra);
    }
}

void walk_read(struct walk_td *walk, const struct walk_op *op)
{
    u32 count = op->length % 64;
    for (u32 i = 0; i < count + !count && op->frame + i < WALK_FRAMES; i++)
        reference_compare_frame(walk, op->frame + i);
}

void walk_remove(struct walk_td *walk, const struct walk_op *op)
{
    u32 start = op->frame, end = start + op->length;
    gfn_t done;
    enum error error =
        mirror_remove_range(&walk->td.mirror, &walk->caches, gfn(start), gfn(end), &done);
    walk_tally(op, error);
    if (error) {
        bool is_spoiled = region_is_spoiled(walk, start) || region_is_spoiled(walk, end - 1);
        if (!is_spoiled || error == ERR_NO_MEMORY)
            walk_error_check(walk, op, error);
        WALK_CHECK(walk, done.raw >= start && done.raw <= end, "done is %llu",
                   (unsigned long long)done.raw);
    }
    u32 removed = error ? (u32)done.raw : end;
    for (u32 frame = start; frame < removed; frame++)
        reference_set(walk, frame, FRAME_ABSENT, 0);
    if (error)
        regions_reread(walk, start, end);
    else
        regions_recover(walk, start, end);
    for (u32 frame = start; !error && frame + WALK_REGION <= end; frame++)
        if (frame % WALK_REGION == 0)
            walk->region_is_spoiled[frame / WALK_REGION] = false;
}

void walk_demote(struct walk_td *walk, const struct walk_op *op)
{
    enum level level;
    enum error error = mirror_demote(&walk->td.mirror, &walk->caches, gfn(op->frame), LEVEL_4K);
    walk_tally(op, error);
    if (error) {
        if (!region_is_spoiled(walk, op->frame) || error == ERR_NO_MEMORY)
            walk_error_check(walk, op, error);
        regions_reread(walk, op->frame, op->frame + 1);
        return;
    }
    regions_recover(walk, op->frame, op->frame + 1);
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(op->frame), &level);
    WALK_CHECK(walk, hpa_is_none(page) || level == LEVEL_4K, "frame %u is still large", op->frame);
    reference_compare_frame(walk, op->frame);
}

/* All 512 frames alike, and their pages one large page; or none there. */
static bool promote_is_possible(struct walk_td *walk, u32 first)
{
    u8 state = walk->frames[first].state;
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(first), NULL);
    if (state != FRAME_ABSENT && page.raw % level_bytes(LEVEL_2M))
        return false;
    for (u32 i = 0; i < WALK_REGION; i++) {
        if (walk->frames[first + i].state != state)
            return false;
        hpa_t next = mirror_lookup(&walk->td.mirror, gfn(first + i), NULL);
        if (state != FRAME_ABSENT && next.raw != page.raw + i * PAGE_BYTES)
            return false;
    }
    return true;
}

void walk_promote(struct walk_td *walk, const struct walk_op *op)
{
    u32 first = (u32)align_down(op->frame, WALK_REGION);
    bool is_possible = promote_is_possible(walk, first);
    enum level level;
    enum error error = mirror_promote(&walk->td.mirror, gfn(first), LEVEL_2M);
    walk_tally(op, error);
    if (error == ERR_STATE && (!is_possible || walk->frames[first].state == FRAME_ABSENT)) {
        regions_recover(walk, first, first + 1);
        return;
    }
    if (error) {
        if (!region_is_spoiled(walk, first))
            walk_error_check(walk, op, error);
        regions_reread(walk, first, first + 1);
        return;
    }
    WALK_CHECK(walk, is_possible || region_is_spoiled(walk, first), "frame %u is promoted", first);
    regions_recover(walk, first, first + 1);
    hpa_t page = mirror_lookup(&walk->td.mirror, gfn(first), &level);
    WALK_CHECK(walk, hpa_is_none(page) || level == LEVEL_2M, "frame %u is promoted and small",
               first);
    reference_compare_frame(walk, first + op->extra % WALK_REGION);
}
