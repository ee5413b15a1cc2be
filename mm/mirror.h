/* SPDX-License-Identifier: MIT */
/*
 * The mirror EPT of one TD: a page table in the VMM's own memory for the TD's private GPAs. The
 * processor never walks it; each change is first made in the *external* table by its owner,
 * through mirror_ops, and only then published here.
 *
 * Protocol of every change: freeze the entry (compare-exchange), ask the owner, publish the new
 * entry, or restore the old one if the owner refused. A walker that meets a frozen entry goes
 * away without side effects (ERR_BUSY).
 *
 * GFNs here never carry the SHARED bit. Levels are those of the entry (LEVEL_4K: a page-table
 * entry). Every function takes RANK_MIRROR: maps and lookups share it, the others exclude.
 */
#ifndef MM_MIRROR_H
#define MM_MIRROR_H

#include "boot/lock.h"
#include "mm/caches.h"

/* An external entry as its owner reports it, for the audit. */
struct external_entry {
    enum external_state {
        EXTERNAL_FREE,
        EXTERNAL_TABLE,
        EXTERNAL_PENDING, /* leaf, not yet accepted by the guest */
        EXTERNAL_MAPPED,  /* leaf, accepted */
        EXTERNAL_BLOCKED, /* leaf or table, blocked */
    } state;
    hpa_t page; /* of a leaf */
};

/*
 * Neighbouring entries of one table. Leaves are on memory in a row, the first at `page`; of a table
 * it is the mirror's, and alone. Who is given a row takes off its front what is done.
 */
struct entry_row {
    gfn_t frame;
    enum level level;
    u32 count;
    hpa_t page;
};

static inline void entry_row_advance(struct entry_row *row, u32 count)
{
    row->frame.raw += count * level_pages(row->level);
    row->page.raw += count * level_bytes(row->level);
    row->count -= count;
}

/*
 * What the owner of the external table does for us; implemented by tdx/. Each returns OK,
 * ERR_BUSY (nothing changed; try again) or ERR_REFUSED (nothing changed; logged): of a row, that
 * is of the entry at its front. `owner` is what mirror_init was given; `caches` are the caller's,
 * for the owner's own metadata.
 */
struct mirror_ops {
    /* Links the external table `table` under the entry of `frame` at `level` (1...3). */
    enum error (*link_table)(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                             hpa_t table);
    /* Before finalize: maps `page` with the content of `source`, measured. */
    enum error (*add_leaf)(void *owner, struct vcpu_caches *caches, gfn_t frame, hpa_t page,
                           hpa_t source);
    /* After finalize: maps `page`, pending until the guest accepts it. */
    enum error (*set_leaf)(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                           hpa_t page);
    /* Leaves, or a table with all below it. */
    enum error (*block)(void *owner, struct entry_row *row);
    /* Starts a new TLB epoch and makes every vCPU leave the guest: one serialised unit. */
    enum error (*track)(void *owner);
    /* Undoes a block that was tracked. May be null: the entry then stays blocked. */
    enum error (*unblock)(void *owner, gfn_t frame, enum level level);
    /* Unmaps blocked, tracked leaves; afterwards their memory is the VMM's again and clean. */
    enum error (*remove)(void *owner, struct entry_row *row);
    /* The same for a table without entries. */
    enum error (*unlink_table)(void *owner, gfn_t frame, enum level level, hpa_t table);
    /* A blocked, tracked leaf becomes `table`: 512 leaves of the same memory, not blocked. */
    enum error (*demote)(void *owner, struct vcpu_caches *caches, gfn_t frame, enum level level,
                         hpa_t page, hpa_t table);
    /*
     * A blocked, tracked table of 512 leaves in a row, the first at `page`, becomes one leaf, not
     * blocked; `table` is the VMM's again and clean. ERR_STATE: they are not all alike.
     */
    enum error (*promote)(void *owner, gfn_t frame, enum level level, hpa_t page, hpa_t table);
    /* Keeps vCPUs out of the guest / lets them in again, for the one retry of a busy removal. */
    void (*hold_vcpus)(void *owner);
    void (*release_vcpus)(void *owner);
    /* After the TD's key is freed: takes back leaves' memory or (LEVEL_4K) a table page. */
    enum error (*reclaim)(void *owner, struct entry_row *row);
    enum error (*read_entry)(void *owner, gfn_t frame, enum level level,
                             struct external_entry *entry);
};

#define MIRROR_LEAF_LEVELS 3 /* LEVEL_4K, LEVEL_2M, LEVEL_1G */

struct mirror_stats {
    _Atomic u64 leaves[MIRROR_LEAF_LEVELS]; /* present now, by level */
    _Atomic u64 tables;                     /* linked now, without the root */
    _Atomic u64 external_taken;             /* external pages handed to the module, ever */
    _Atomic u64 external_returned;          /* of those, taken back */
    _Atomic u64 external_leaked;            /* of those, refused at the end */
    _Atomic u64 private_leaked;             /* pages of 4 KiB, as all that follow */
    _Atomic u64 races_lost;
    _Atomic u64 busy;
    _Atomic u64 tracks;
    _Atomic u64 demoted, promoted, unlinked; /* leaves split, tables joined, empty tables gone */
    /* Pages as the last audit found them in the external table. */
    _Atomic u64 audited_mapped;  /* the guest's to use: accepted, or measured */
    _Atomic u64 audited_pending; /* not yet accepted */
};

struct mirror {
    struct shared_lock lock; /* maps and lookups share, all else excludes */
    hpa_t root;
    const struct mirror_ops *ops;
    void *owner;
    u64 frames; /* GFNs are in [0, frames) */
    struct mirror_stats stats;
};

/* ERR_NO_MEMORY. `gpa_bits`: width of a private GPA (the SHARED bit's number). */
enum error mirror_init(struct mirror *mirror, u32 gpa_bits, const struct mirror_ops *ops,
                       void *owner);

/*
 * Maps a page from the caches at `frame` (a private page fault, after finalize), with the missing
 * tables from there too; fills the caches first. `level` is LEVEL_4K or LEVEL_2M; `frame` is
 * aligned to it.
 * OK: it is mapped now, by us or another vCPU, at whatever level. ERR_EXISTS: a table stands where
 * the large leaf should go. ERR_BUSY: fault again. ERR_NO_MEMORY, ERR_RANGE, ERR_REFUSED.
 */
enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                      enum level level);

/*
 * The same before finalize: a page of 4 KiB gets the content of `source`, measured.
 * ERR_EXISTS: the frame is mapped, with other content.
 */
enum error mirror_add(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, hpa_t source);

/*
 * Unmaps every leaf in [start, end) and frees its memory. A large leaf that the range cuts is
 * demoted first; then: block all, track once, remove all.
 * On an error *done is the first frame that is not removed; the frames from there on are mapped as
 * before, or, where the owner could not unblock them, blocked: a map there is ERR_REFUSED, and a
 * later removal takes them up where this one stopped. ERR_NO_MEMORY: for a cut; nothing is
 * removed.
 */
enum error mirror_remove_range(struct mirror *mirror, struct vcpu_caches *caches, gfn_t start,
                               gfn_t end, gfn_t *done);

/*
 * Splits the leaf that maps `frame` until it is at `level`; OK if nothing is to be split. On an
 * error it is as before, or a level nearer, or blocked as after a removal.
 */
enum error mirror_demote(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame,
                         enum level level);

/*
 * Makes the table under `frame`'s entry at `level` (LEVEL_2M, LEVEL_1G) one leaf, if it holds 512
 * leaves of memory in a row; takes it away, if it is empty. OK too where no table is. ERR_STATE:
 * it holds something else, or the guest has accepted only some of it; nothing changed.
 */
enum error mirror_promote(struct mirror *mirror, gfn_t frame, enum level level);
/* True if mirror_promote had something to do: what a scanner asks first. */
bool mirror_can_promote(struct mirror *mirror, gfn_t frame, enum level level);

/* The page that `frame` maps to, or HPA_NONE; *level (may be null) is its leaf's. */
hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame, enum level *level);

/* Private memory mapped now, in pages of 4 KiB. */
static inline u64 mirror_private_pages(const struct mirror *mirror)
{
    u64 sum = 0;
    for (enum level level = LEVEL_4K; level < MIRROR_LEAF_LEVELS; level++)
        sum += mirror->stats.leaves[level] * level_pages(level);
    return sum;
}

/*
 * After the TD's key is freed, with no vCPU left: reclaims all private memory and every external
 * table page, without a block, a track or a removal; frees the mirror's own tables. Pages that the
 * owner does not give back are leaked, counted and logged. The mirror is empty afterwards.
 */
enum error mirror_destroy(struct mirror *mirror);

/*
 * Compares mirror and external table entry by entry, with the owners of all pages and the counts.
 * OK, or ERR_STATE with the first difference in words in `message`. Refused reads are a
 * difference. The guest may run: it is held where it is in the way.
 */
#define AUDIT_MESSAGE_BYTES 160
enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES]);

/* For tests alone: corrupts the entry that maps `frame`, so that the audit must fail. */
enum error mirror_corrupt_for_test(struct mirror *mirror, gfn_t frame);

#endif
