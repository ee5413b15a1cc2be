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
 * entry).
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
 * What the owner of the external table does for us; implemented by tdx/. Each returns OK,
 * ERR_BUSY (nothing changed; try again) or ERR_REFUSED (nothing changed; logged). `owner` is
 * what mirror_init was given.
 */
struct mirror_ops {
    /* Links the external table `table` under the entry of `frame` at `level` (1...3). */
    enum error (*link_table)(void *owner, gfn_t frame, enum level level, hpa_t table);
    /* Before finalize: maps `page` with the content of `source`, measured. */
    enum error (*add_leaf)(void *owner, gfn_t frame, hpa_t page, hpa_t source);
    /* After finalize: maps `page`, pending until the guest accepts it. */
    enum error (*set_leaf)(void *owner, gfn_t frame, enum level level, hpa_t page);
    enum error (*block)(void *owner, gfn_t frame, enum level level);
    /* Starts a new TLB epoch and makes every vCPU leave the guest: one serialised unit. */
    enum error (*track)(void *owner);
    /* Undoes a block that was tracked. May be null: the leaf then stays blocked. */
    enum error (*unblock)(void *owner, gfn_t frame, enum level level);
    /* Unmaps a blocked leaf; afterwards `page` is the VMM's again and clean. */
    enum error (*remove_leaf)(void *owner, gfn_t frame, enum level level, hpa_t page);
    /* Keeps vCPUs out of the guest / lets them in again, for the one retry of a busy removal. */
    void (*hold_vcpus)(void *owner);
    void (*release_vcpus)(void *owner);
    /* After the TD's key is freed: takes back a leaf's page or a table page. */
    enum error (*reclaim_page)(void *owner, hpa_t page);
    enum error (*read_entry)(void *owner, gfn_t frame, enum level level,
                             struct external_entry *entry);
};

struct mirror_stats {
    _Atomic u64 leaves;            /* present now */
    _Atomic u64 tables;            /* linked now, without the root */
    _Atomic u64 external_taken;    /* external pages handed to the module, ever */
    _Atomic u64 external_returned; /* of those, taken back */
    _Atomic u64 external_leaked;   /* of those, refused at the end */
    _Atomic u64 private_leaked;
    _Atomic u64 races_lost;
    _Atomic u64 busy;
    /* Leaves as the last audit found them in the external table. */
    _Atomic u64 audited_mapped;  /* the guest's to use: accepted, or measured */
    _Atomic u64 audited_pending; /* not yet accepted */
};

struct mirror {
    struct shared_lock lock; /* maps share, removals exclude */
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
 * Maps a page from caches->private_pages at `frame` (a private page fault, after finalize), with
 * the missing tables from the caches; fills the caches first.
 * OK: it is mapped now, by us or by another vCPU. ERR_BUSY: fault again. ERR_NO_MEMORY,
 * ERR_RANGE, ERR_REFUSED.
 */
enum error mirror_map(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame);

/*
 * The same before finalize: the page gets the content of `source` (one page), measured.
 * ERR_EXISTS: the frame is mapped, with other content.
 */
enum error mirror_add(struct mirror *mirror, struct vcpu_caches *caches, gfn_t frame, hpa_t source);

/*
 * Unmaps every leaf in [start, end) and frees its page: block all, track once, remove all.
 * On an error *done is the first frame that is not removed; the frames from there on are mapped as
 * before, or, where the owner could not unblock them, blocked: a map there is ERR_REFUSED, and a
 * later removal takes them up where this one stopped.
 */
enum error mirror_remove_range(struct mirror *mirror, gfn_t start, gfn_t end, gfn_t *done);

/* The page that `frame` maps to, or HPA_NONE. Lock-free. */
hpa_t mirror_lookup(struct mirror *mirror, gfn_t frame);

/*
 * After the TD's key is freed, with no vCPU left: reclaims every private page and every external
 * table page, frees the mirror's own tables. Pages that the owner does not give back are leaked,
 * counted and logged. The mirror is empty afterwards.
 */
enum error mirror_destroy(struct mirror *mirror);

/*
 * Compares mirror and external table entry by entry, at a quiescent point. OK, or ERR_STATE with
 * the first difference in words in `message`. Refused reads are a difference.
 */
#define AUDIT_MESSAGE_BYTES 160
enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES]);

/* For tests alone: corrupts the entry that maps `frame`, so that the audit must fail. */
enum error mirror_corrupt_for_test(struct mirror *mirror, gfn_t frame);

#endif
