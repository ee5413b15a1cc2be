/* SPDX-License-Identifier: MIT */
/*
 * Mirror against external table, both ways: every entry of every linked table is read on both, the
 * owners of all pages are looked at, and what is found is counted.
 */
#include "mm/mirror.h"

#include "boot/log.h"
#include "mm/mirror_entry.h"

#define READ_TRIES 100

struct audit {
    struct mirror *mirror;
    char *message;
    u64 leaves[MIRROR_LEAF_LEVELS];
    u64 tables;
    u64 mapped, pending; /* pages of 4 KiB, as the external table has them */
};

static const char *external_name(enum external_state state)
{
    switch (state) {
    case EXTERNAL_FREE:
        return "free";
    case EXTERNAL_TABLE:
        return "a table";
    case EXTERNAL_PENDING:
        return "pending";
    case EXTERNAL_MAPPED:
        return "mapped";
    case EXTERNAL_BLOCKED:
        return "blocked";
    }
    return "in no known state";
}

static const char *entry_name(struct mirror_entry entry, enum level level)
{
    if (entry_is_frozen(entry))
        return "frozen";
    if (entry_is_absent(entry))
        return "absent";
    if (entry_is_blocked(entry))
        return "blocked";
    return entry_is_leaf(entry, level) ? "mapped" : "a table";
}

/* The guest may be accepting this very page: then again, with the guest held. */
static enum error external_read(struct mirror *mirror, gfn_t frame, enum level level,
                                struct external_entry *external)
{
    enum error error = mirror->ops->read_entry(mirror->owner, frame, level, external);
    if (error != ERR_BUSY)
        return error;
    mirror->ops->hold_vcpus(mirror->owner);
    for (u32 tries = 0; error == ERR_BUSY && tries < READ_TRIES; tries++)
        error = mirror->ops->read_entry(mirror->owner, frame, level, external);
    mirror->ops->release_vcpus(mirror->owner);
    return error;
}

static bool states_agree(struct mirror_entry entry, enum level level, enum external_state state)
{
    if (entry_is_frozen(entry))
        return false;
    if (entry_is_absent(entry))
        return state == EXTERNAL_FREE;
    if (entry_is_blocked(entry))
        return state == EXTERNAL_BLOCKED;
    if (entry_is_leaf(entry, level))
        return state == EXTERNAL_MAPPED || state == EXTERNAL_PENDING;
    return state == EXTERNAL_TABLE;
}

static enum error entry_audit(struct audit *audit, gfn_t frame, enum level level,
                              struct mirror_entry entry)
{
    struct mirror *mirror = audit->mirror;
    struct external_entry external = {.page = HPA_NONE};
    unsigned long long address = gfn_to_gpa(frame).raw;
    enum error error = external_read(mirror, frame, level, &external);
    if (error)
        format_string(audit->message, AUDIT_MESSAGE_BYTES,
                      "GPA 0x%llx, level %u: the external entry cannot be read", address, level);
    else if (!states_agree(entry, level, external.state))
        format_string(audit->message, AUDIT_MESSAGE_BYTES,
                      "GPA 0x%llx, level %u: the mirror's entry is %s, the external one is %s",
                      address, level, entry_name(entry, level), external_name(external.state));
    else if (entry_is_leaf(entry, level) && !hpa_equal(entry_page(entry), external.page))
        format_string(
            audit->message, AUDIT_MESSAGE_BYTES,
            "GPA 0x%llx, level %u: the mirror maps page 0x%llx, the external table 0x%llx", address,
            level, (unsigned long long)entry_page(entry).raw,
            (unsigned long long)external.page.raw);
    else {
        audit->mapped += external.state == EXTERNAL_MAPPED ? level_pages(level) : 0;
        audit->pending += external.state == EXTERNAL_PENDING ? level_pages(level) : 0;
        return OK;
    }
    return ERR_STATE;
}

/* Whose pages the entry stands for: what is the module's must not be anybody else's. */
static enum error owners_audit(struct audit *audit, gfn_t frame, enum level level,
                               struct mirror_entry entry)
{
    hpa_t page = entry_page(entry);
    enum page_owner wanted = PAGE_PRIVATE;
    if (!entry_is_leaf(entry, level)) {
        page = page_partner(page);
        level = LEVEL_4K;
        wanted = PAGE_EXTERNAL;
    }
    if (!hpa_is_none(page) && page_is_owned(page, level, wanted))
        return OK;
    format_string(audit->message, AUDIT_MESSAGE_BYTES,
                  "GPA 0x%llx: page 0x%llx of the external table is not owned as '%s'",
                  (unsigned long long)gfn_to_gpa(frame).raw, (unsigned long long)page.raw,
                  page_owner_name(wanted));
    return ERR_STATE;
}

static enum error table_audit(struct audit *audit, hpa_t table, gfn_t start, enum level level,
                              bool is_reachable);

/* `is_reachable`: no table above is blocked, so that the entry can be read on the other side. */
static enum error slot_audit(struct audit *audit, mirror_slot *slot, gfn_t frame, enum level level,
                             bool is_reachable)
{
    struct mirror_entry entry = slot_read(slot);
    enum error error = is_reachable ? entry_audit(audit, frame, level, entry) : OK;
    if (error || entry_is_absent(entry))
        return error;
    error = owners_audit(audit, frame, level, entry);
    if (error)
        return error;
    if (entry_is_leaf(entry, level)) {
        audit->leaves[level]++;
        return OK;
    }
    audit->tables++;
    return table_audit(audit, entry_page(entry), frame, level - 1,
                       is_reachable && !entry_is_blocked(entry));
}

/* Comes back here once a level at most. */
static enum error table_audit(struct audit *audit, hpa_t table, gfn_t start, enum level level,
                              bool is_reachable)
{
    mirror_slot *slots = phys_to_virt(table);
    enum error error = OK;
    for (u32 i = 0; i < TABLE_ENTRIES && !error; i++) {
        gfn_t frame = gfn(start.raw + i * level_pages(level));
        if (frame.raw >= audit->mirror->frames)
            break;
        error = slot_audit(audit, &slots[i], frame, level, is_reachable);
    }
    return error;
}

static enum error count_audit(const struct audit *audit, const char *what, u64 counted, u64 found)
{
    if (counted == found)
        return OK;
    format_string(audit->message, AUDIT_MESSAGE_BYTES, "counted %llu %s, found %llu",
                  (unsigned long long)counted, what, (unsigned long long)found);
    return ERR_STATE;
}

static enum error counts_audit(const struct audit *audit)
{
    static const char *const names[MIRROR_LEAF_LEVELS] = {"leaves of 4 KiB", "leaves of 2 MiB",
                                                          "leaves of 1 GiB"};
    const struct mirror_stats *stats = &audit->mirror->stats;
    enum error error = count_audit(audit, "tables", stats->tables, audit->tables);
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS && !error; level++)
        error = count_audit(audit, names[level], stats->leaves[level], audit->leaves[level]);
    if (!error)
        error =
            count_audit(audit, "external pages taken and not given back",
                        stats->external_taken - stats->external_returned - stats->external_leaked,
                        audit->tables);
    return error;
}

enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES])
{
    struct audit audit = {.mirror = mirror, .message = message};
    message[0] = 0;
    lock_exclude(&mirror->lock);
    enum error error = OK;
    if (!hpa_is_none(mirror->root))
        error = table_audit(&audit, mirror->root, gfn(0), LEVEL_512G, true);
    if (!error)
        error = counts_audit(&audit);
    mirror->stats.audited_mapped = audit.mapped;
    mirror->stats.audited_pending = audit.pending;
    lock_unexclude(&mirror->lock);
    return error;
}

/* The flag, not the page: a teardown that follows still gives back what was taken. */
enum error mirror_corrupt_for_test(struct mirror *mirror, gfn_t frame)
{
    enum error error = ERR_NOT_FOUND;
    lock_exclude(&mirror->lock);
    struct leaf_cursor at = {.mirror = mirror, .frame = frame, .end = gfn(frame.raw + 1)};
    if (!hpa_is_none(mirror->root) && frame.raw < mirror->frames && leaf_cursor_find(&at)) {
        atomic_fetch_xor(at.slot, ENTRY_BLOCKED);
        error = OK;
    }
    lock_unexclude(&mirror->lock);
    return error;
}
