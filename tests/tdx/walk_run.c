/* SPDX-License-Identifier: MIT */
/* A walk from its fresh start to its end, and the operations on whole TDs. */
#include <stdlib.h>
#include <string.h>

#include "boot/cpu.h"
#include "boot/paging.h"
#include "mm/pages.h"
#include "tdx/keys.h"
#include "tdx/module.h"
#include "tdx/pamt.h"
#include "tdx/seamcall.h"
#include "tests/host/machine.h"
#include "tests/tdx/environment.h"
#include "tests/tdx/walk_parts.h"

#define MEMORY_BYTES (40 * MIB)
#define COMPARE_EVERY 250
#define PAGES_ADDED_AT_ONCE 4
#define REFUSALS_AT_ONCE 3

static const struct td_options options = {
    .max_vcpus = 1,
    .tsc_hz = 1000000000,
    .cpuid = environment_cpuid_nothing,
};

static void walk_destroy(struct walk_td *walk)
{
    enum error error = td_destroy(&walk->td);
    WALK_CHECK(walk, error == OK, "its end is error %d", error);
    if (!hpa_is_none(walk->shared_root))
        page_free(walk->shared_root);
    walk->shared_root = HPA_NONE;
    walk->life = LIFE_NONE;
    reference_clear(walk);
}

static void walk_create(struct walk_td *walk, const struct walk_op *op)
{
    enum error error = td_create(&walk->td, &options);
    walk_tally(op, error);
    if (error) {
        walk_error_check(walk, op, error);
        return;
    }
    walk->life = LIFE_BUILDING;
    walk->shared_root = HPA_NONE;
    error = page_allocate_zeroed(PAGE_DIRECT_TABLE, &walk->shared_root);
    if (!error)
        error = td_vcpu_create(&walk->td, &walk->vcpu, 0, walk->shared_root);
    if (error) {
        walk_error_check(walk, op, error);
        walk_destroy(walk);
    }
}

/* The content is as if the guest had written it. */
static void walk_add(struct walk_td *walk, const struct walk_op *op)
{
    u8 content[PAGE_BYTES] = {};
    for (u32 i = 0; i < PAGES_ADDED_AT_ONCE && op->frame + i < WALK_FRAMES; i++) {
        u32 frame = op->frame + i;
        enum error error = td_add_page(&walk->td, &walk->caches, gfn_to_gpa(gfn(frame)), content);
        walk_tally(op, error);
        if (error == ERR_EXISTS) {
            WALK_CHECK(walk, walk->frames[frame].state != FRAME_ABSENT, "frame %u is not there",
                       frame);
        } else if (error) {
            walk_error_check(walk, op, error);
        } else {
            WALK_CHECK(walk, walk->frames[frame].state == FRAME_ABSENT, "frame %u is there", frame);
            reference_set(walk, frame, FRAME_ACCEPTED, 0);
        }
    }
}

static void walk_finalize(struct walk_td *walk, const struct walk_op *op)
{
    enum error error = td_finalize(&walk->td);
    walk_tally(op, error);
    if (error)
        walk_error_check(walk, op, error);
    else
        walk->life = LIFE_RUNNING;
}

static void walk_audit(struct walk_td *walk)
{
    char message[AUDIT_MESSAGE_BYTES] = "";
    enum error error = mirror_audit(&walk->td.mirror, message);
    WALK_CHECK(walk, error == OK, "audit: %s", message);
}

/* Makes calls of the operations from here to the next such one fail. None of these costs pages. */
static void walk_refuse(const struct walk_op *op)
{
    static const char *const leaves[] = {
        "TDH.MEM.PAGE.AUG",      "TDH.MEM.SEPT.ADD",    "TDH.MEM.RANGE.BLOCK",
        "TDH.MEM.TRACK",         "TDH.MEM.PAGE.REMOVE", "TDH.MEM.PAGE.DEMOTE",
        "TDH.MEM.PAGE.PROMOTE",  "TDH.MEM.SEPT.REMOVE", "TDH.MEM.RANGE.UNBLOCK",
        "TDH.MEM.RANGE.UNBLOCK", "TDH.MEM.PAGE.ADD",    "TDH.MNG.CREATE",
        "TDH.MNG.INIT",          "TDH.VP.CREATE",       "TDH.MR.FINALIZE",
    };
    seamcall_inject_clear();
    for (u32 i = 0; i < REFUSALS_AT_ONCE; i++) {
        struct inject_config injection = {.nth = 1};
        u32 choice = op->extra >> i * 4;
        /* Mostly the first calls, sometimes one in the middle of a range. */
        injection.nth += op->length < 2 ? choice / 4 % 3 : op->length % 520;
        snprintf(injection.leaf, sizeof injection.leaf, "%s",
                 leaves[choice % ARRAY_LENGTH(leaves)]);
        snprintf(injection.status, sizeof injection.status, "%s",
                 choice & 1 ? "OPERAND_BUSY" : "OPERAND_INVALID");
        enum error error = seamcall_inject(&injection);
        WALK_CHECK(NULL, error == OK, "no refusal of %s", injection.leaf);
    }
}

static void running_do(struct walk_td *walk, const struct walk_op *op)
{
    switch (op->kind) {
    case WALK_MAP:
        walk_map(walk, op);
        break;
    case WALK_ACCEPT:
        walk_accept(walk, op);
        break;
    case WALK_WRITE:
        walk_write(walk, op);
        break;
    case WALK_READ:
        walk_read(walk, op);
        break;
    case WALK_REMOVE:
        walk_remove(walk, op);
        break;
    case WALK_DEMOTE:
        walk_demote(walk, op);
        break;
    case WALK_PROMOTE:
        walk_promote(walk, op);
        break;
    case WALK_LOOKUP:
        reference_compare_frame(walk, op->frame);
        break;
    case WALK_AUDIT:
        walk_audit(walk);
        break;
    case WALK_DESTROY:
        walk_destroy(walk);
        break;
    default:
        break;
    }
}

static void op_do(const struct walk_op *op)
{
    struct walk_td *walk = &walk_tds[op->td];
    if (op->kind == WALK_DRAIN)
        vcpu_caches_drain(&walk->caches);
    else if (walk->life == LIFE_RUNNING)
        running_do(walk, op);
    else if (op->kind == WALK_CREATE && walk->life == LIFE_NONE)
        walk_create(walk, op);
    else if (walk->life == LIFE_NONE)
        return;
    else if (op->kind == WALK_ADD)
        walk_add(walk, op);
    else if (op->kind == WALK_REMOVE)
        walk_remove(walk, op);
    else if (op->kind == WALK_FINALIZE)
        walk_finalize(walk, op);
    else if (op->kind == WALK_AUDIT)
        walk_audit(walk);
    else if (op->kind == WALK_DESTROY)
        walk_destroy(walk);
}

bool walk_pamt_is_dynamic;

static void start(struct pages_stats *before)
{
    static const struct memory_range memory[] = {{MIB, MEMORY_BYTES, MEMORY_FREE}};
    environment_newer_module = walk_pamt_is_dynamic;
    environment_start(1, 1, memory, ARRAY_LENGTH(memory));
    enum error error = tdx_module_start();
    WALK_CHECK(NULL, error == OK, "the module does not start");
    pages_statistics(before);
    for (u32 i = 0; i < WALK_TDS; i++) {
        walk_tds[i].number = i;
        walk_tds[i].life = LIFE_NONE;
        reference_clear(&walk_tds[i]);
        vcpu_caches_init(&walk_tds[i].caches, pamt_is_dynamic() ? METADATA_PAGES_MINIMUM : 0);
    }
}

/* Everything is given back: as many pages are free as at the start, and none is hidden. */
static void stop(const struct pages_stats *before)
{
    struct pages_stats after;
    reference_compare();
    for (u32 i = 0; i < WALK_TDS; i++) {
        if (walk_tds[i].life != LIFE_NONE) {
            walk_audit(&walk_tds[i]);
            walk_destroy(&walk_tds[i]);
        }
        vcpu_caches_drain(&walk_tds[i].caches);
    }
    char message[AUDIT_MESSAGE_BYTES];
    WALK_CHECK(NULL, pamt_audit(message) == OK, "%s", message);
    pages_statistics(&after);
    for (u32 owner = 0; owner < PAGE_OWNER_KINDS; owner++)
        WALK_CHECK(NULL, after.pages[owner] == before->pages[owner],
                   "%llu pages are %s at the end, expected %llu",
                   (unsigned long long)after.pages[owner], page_owner_name(owner),
                   (unsigned long long)before->pages[owner]);
    WALK_CHECK(NULL, host_hidden_pages() == after.pages[PAGE_PAMT], "pages stay hidden");
    WALK_CHECK(NULL, keys_in_use() == 0, "KeyIDs stay in use");
    struct broken_rules broken;
    WALK_CHECK(NULL, tdx_broken_rules(&broken) && broken.sum == 0, "the module's rules are broken");
    environment_stop();
}

void walk_run(const struct walk_op *ops, u32 count, volatile struct walk_progress *progress)
{
    struct pages_stats before;
    walk_progress = progress;
    start(&before);
    for (u32 i = 0; i < count; i++) {
        progress->begun = i + 1;
        if (ops[i].kind == WALK_REFUSE) {
            walk_refuse(&ops[i]);
            continue;
        }
        op_do(&ops[i]);
        progress->refusals += walk_was_refused();
        host_log_clear();
        WALK_CHECK(NULL, cpu_this()->locks_held == 0, "a lock is held");
        if (i % COMPARE_EVERY == COMPARE_EVERY - 1)
            reference_compare();
    }
    stop(&before);
}
