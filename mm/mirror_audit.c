/* SPDX-License-Identifier: MIT */
/* Mirror against external table, both ways: every entry of every linked table is read on both. */
#include "mm/mirror.h"

#include "boot/log.h"
#include "mm/mirror_entry.h"

struct audit {
    struct mirror *mirror;
    char *message;
    u64 leaves;
    u64 tables;
    u64 mapped, pending; /* of the leaves, as the external table has them */
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
    enum error error = mirror->ops->read_entry(mirror->owner, frame, level, &external);
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
        audit->mapped += external.state == EXTERNAL_MAPPED;
        audit->pending += external.state == EXTERNAL_PENDING;
        return OK;
    }
    return ERR_STATE;
}

/* Calls itself once a level at most. */
static enum error table_audit(struct audit *audit, hpa_t table, gfn_t start, enum level level)
{
    mirror_slot *slots = phys_to_virt(table);
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        gfn_t frame = gfn(start.raw + i * level_pages(level));
        if (frame.raw >= audit->mirror->frames)
            break;
        struct mirror_entry entry = slot_read(&slots[i]);
        enum error error = entry_audit(audit, frame, level, entry);
        if (error)
            return error;
        if (entry_is_leaf(entry, level)) {
            audit->leaves++;
        } else if (entry_is_present(entry)) {
            audit->tables++;
            error = table_audit(audit, entry_page(entry), frame, level - 1);
            if (error)
                return error;
        }
    }
    return OK;
}

static enum error counts_audit(const struct audit *audit)
{
    u64 leaves = audit->mirror->stats.leaves, tables = audit->mirror->stats.tables;
    if (leaves == audit->leaves && tables == audit->tables)
        return OK;
    format_string(audit->message, AUDIT_MESSAGE_BYTES,
                  "counted %llu leaves and %llu tables, found %llu and %llu",
                  (unsigned long long)leaves, (unsigned long long)tables,
                  (unsigned long long)audit->leaves, (unsigned long long)audit->tables);
    return ERR_STATE;
}

enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES])
{
    struct audit audit = {.mirror = mirror, .message = message};
    message[0] = 0;
    lock_exclude(&mirror->lock);
    enum error error = OK;
    if (!hpa_is_none(mirror->root))
        error = table_audit(&audit, mirror->root, gfn(0), LEVEL_512G);
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
    gfn_t at = frame;
    mirror_slot *slot = NULL;
    if (!hpa_is_none(mirror->root) && frame.raw < mirror->frames)
        slot = mirror_leaf_find(mirror, &at, gfn(frame.raw + 1));
    if (slot) {
        atomic_fetch_xor(slot, ENTRY_BLOCKED);
        error = OK;
    }
    lock_unexclude(&mirror->lock);
    return error;
}
