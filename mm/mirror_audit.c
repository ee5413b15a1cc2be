/* SPDX-License-Identifier: MIT */
/* Mirror against external table, entry by entry, the latter read through its owner. */
#include "mm/mirror.h"

#include "boot/log.h"
#include "mm/mirror_table.h"

struct audit {
    struct mirror *mirror;
    char *message;
    u64 leaves, tables;
};

static const char *external_state_name(enum external_state state)
{
    static const char *const names[] = {
        [EXTERNAL_FREE] = "free",       [EXTERNAL_TABLE] = "a table",
        [EXTERNAL_PENDING] = "pending", [EXTERNAL_MAPPED] = "mapped",
        [EXTERNAL_BLOCKED] = "blocked",
    };
    return names[state];
}

static enum error differ(struct audit *audit, gfn_t frame, enum level level, const char *mirror,
                         const struct external_entry *external)
{
    format_string(
        audit->message, AUDIT_MESSAGE_BYTES,
        "GPA 0x%llx, level %u: the mirror has %s, the external table has %s (page 0x%llx)",
        (unsigned long long)gfn_to_gpa(frame).raw, level, mirror,
        external_state_name(external->state), (unsigned long long)external->page.raw);
    return ERR_STATE;
}

static enum error leaf_check(struct audit *audit, gfn_t frame, struct mirror_entry entry,
                             const struct external_entry *external)
{
    char ours[48];
    if (external->state != EXTERNAL_PENDING && external->state != EXTERNAL_MAPPED)
        return differ(audit, frame, LEVEL_4K, "a page", external);
    if (!hpa_equal(external->page, mirror_entry_address(entry))) {
        format_string(ours, sizeof ours, "page 0x%llx",
                      (unsigned long long)mirror_entry_address(entry).raw);
        return differ(audit, frame, LEVEL_4K, ours, external);
    }
    if (page_owner(external->page) != PAGE_PRIVATE)
        return differ(audit, frame, LEVEL_4K, "a page of another owner", external);
    audit->leaves++;
    return OK;
}

static enum error entry_check(struct audit *audit, gfn_t frame, enum level level,
                              struct mirror_entry entry)
{
    struct external_entry external = {EXTERNAL_FREE, HPA_NONE};
    enum error error =
        audit->mirror->ops->read_entry(audit->mirror->owner, frame, level, &external);
    if (error) {
        format_string(audit->message, AUDIT_MESSAGE_BYTES,
                      "GPA 0x%llx, level %u: the external entry cannot be read (%s)",
                      (unsigned long long)gfn_to_gpa(frame).raw, level, error_name(error));
        return ERR_STATE;
    }
    if (mirror_entry_is_frozen(entry))
        return differ(audit, frame, level, "a frozen entry", &external);
    if (!mirror_entry_is_present(entry))
        return external.state == EXTERNAL_FREE ? OK
                                               : differ(audit, frame, level, "nothing", &external);
    if (level == LEVEL_4K)
        return leaf_check(audit, frame, entry, &external);
    if (external.state != EXTERNAL_TABLE)
        return differ(audit, frame, level, "a table", &external);
    audit->tables++;
    return OK;
}

/* One table and all below it; three calls deep at most. */
static enum error table_check(struct audit *audit, gfn_t first, hpa_t table, enum level level)
{
    for (u32 i = 0; i < TABLE_ENTRIES; i++) {
        gfn_t frame = gfn(first.raw + i * level_pages(level));
        if (frame.raw >= audit->mirror->frames)
            break;
        struct mirror_entry entry = mirror_slot_read(mirror_slot(table, i));
        enum error error = entry_check(audit, frame, level, entry);
        if (!error && level > LEVEL_4K && mirror_entry_is_present(entry))
            error = table_check(audit, frame, mirror_entry_address(entry), level - 1);
        if (error)
            return error;
    }
    return OK;
}

enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES])
{
    struct audit audit = {.mirror = mirror, .message = message};
    message[0] = 0;
    lock_exclude(&mirror->lock);
    enum error error = table_check(&audit, gfn(0), mirror->root, MIRROR_ROOT_LEVEL);
    lock_unexclude(&mirror->lock);
    if (error)
        return error;
    u64 outstanding = mirror->stats.external_taken - mirror->stats.external_returned;
    if (audit.leaves == mirror->stats.leaves && audit.tables == mirror->stats.tables &&
        audit.tables == outstanding)
        return OK;
    format_string(
        message, AUDIT_MESSAGE_BYTES,
        "%llu leaves and %llu tables found; counted were %llu and %llu, with %llu external "
        "pages handed over",
        (unsigned long long)audit.leaves, (unsigned long long)audit.tables,
        (unsigned long long)mirror->stats.leaves, (unsigned long long)mirror->stats.tables,
        (unsigned long long)outstanding);
    return ERR_STATE;
}
