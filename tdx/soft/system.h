/* SPDX-License-Identifier: MIT */
/* The module's global state: what SYS leaves set up and every other leaf relies on. */
#ifndef TDX_SOFT_SYSTEM_H
#define TDX_SOFT_SYSTEM_H

#include "tdx/soft/objects.h"

#define SOFT_TDMRS_MAX 64
#define SOFT_KEYIDS_MAX 64
#define SOFT_MSRS_SAMPLED 32

/* Version of the ABI that the module implements. */
#define SOFT_MAJOR_VERSION 1
#define SOFT_MINOR_VERSION 5
#define SOFT_UPDATE_VERSION 1

#define ATTRIBUTES_FIXED0                                                          \
    (TD_ATTRIBUTE_DEBUG | TD_ATTRIBUTE_SEPT_VE_DISABLE | TD_ATTRIBUTE_MIGRATABLE | \
     TD_ATTRIBUTE_PKS | TD_ATTRIBUTE_PERFMON)
#define XFAM_FIXED0 0x6dbe7ull
#define XFAM_FIXED1 3ull
#define CONFIG_FLAGS_FIXED0 \
    (TD_CONFIG_GPAW_52 | TD_CONFIG_FLEXIBLE_PENDING_VE | TD_CONFIG_NO_RBP_MOD)

/* TD fields that the module treats by name. */
#define MD_TD_HP_LOCK_TIMEOUT 0x9110000300000011ull
#define MD_TD_TD_CTLS 0x1110000300000017ull
#define MD_TD_CPUID_VALUES 0x9410000300000000ull

/* Bits of a secure EPT entry that the processor ignores: taken; and the VMM found it taken. */
#define SEPT_ENTRY_LOCK (1ull << 11)
#define SEPT_ENTRY_HOST_WAITS (1ull << 59)
#define SEPT_ENTRY_LOCKING (SEPT_ENTRY_LOCK | SEPT_ENTRY_HOST_WAITS)

enum system_state {
    SYSTEM_INIT_PENDING,
    SYSTEM_INIT_DONE,
    SYSTEM_CONFIG_DONE,
    SYSTEM_READY,
    SYSTEM_SHUTDOWN,
};

enum keyid_state {
    KEYID_FREE,
    KEYID_ASSIGNED,
    KEYID_FLUSHED,
    KEYID_RESERVED,
};

/* A TDMR as SYS.CONFIG took it. */
struct tdmr {
    u64 base, size;
    u64 pamt_base[3], pamt_size[3]; /* by level */
    struct {
        u64 start, end;
    } reserved[TDMR_RESERVED_MAX];
    u32 reserved_count;
    trylock_t lock;
    _Atomic u64 next; /* the PAMT describes pages from base to here */
};

struct system {
    struct soft_platform platform;
    bool has_dynamic_pamt; /* SYS.CONFIG asked for it */
    trylock_t lock;
    _Atomic u32 state;           /* enum system_state */
    _Atomic u64 lps_initialized; /* bit per LP */
    _Atomic u32 lps_inside;      /* serve a call now, or run a guest in it */
    u64 msrs[SOFT_MSRS_SAMPLED]; /* at SYS.INIT; as platform_msrs.def orders them */
    u64 packages_with_key;       /* bit per package: the global key is configured */
    struct tdmr tdmrs[SOFT_TDMRS_MAX];
    u32 tdmr_count;

    trylock_t keys_lock; /* KOT */
    struct {
        u8 state; /* enum keyid_state */
        u64 packages_to_flush;
    } keyids[SOFT_KEYIDS_MAX];

    /* CACHE.WB, one a package. */
    struct {
        trylock_t lock;
        bool is_interrupted;
        u32 next_block;
        u64 keyids; /* that were FLUSHED at start */
    } write_back[SOFT_PACKAGES_MAX];
};
extern struct system soft_system;

/* platform.c. Of TDX_FEATURES0: a newer module has it, and this platform is to have it. */
bool feature_is_there(u64 feature);
/* The bits of TD_CTLS that a guest may set. */
u64 td_ctls_offered(void);
u64 packages_all(void);
u64 lps_all(void);
bool keyid_is_private(u64 keyid);
u64 xfam_fixed0(void);

/* pamt.c. The entry of a page; null outside initialized TDMR blocks. */
struct pamt_entry *pamt_entry_at(const struct tdmr *tdmr, u64 address, u32 level);
const struct tdmr *tdmr_of(u64 address); /* whose 1 GiB block of the address is initialized */
u64 pamt_owner(const struct pamt_entry *entry);
void pamt_set(struct pamt_entry *entry, enum pamt_type type, u64 owner);
/* Another type of the same owner's memory: BEPOCH stays. */
void pamt_retype(struct pamt_entry *entry, enum pamt_type type, u64 owner);
void pamt_free(struct pamt_entry *entry); /* NDA; the owner stays as it was, as RDMD shows */

/* The page that holds an address, whatever its size. */
struct pamt_walk {
    struct pamt_entry *entry;
    u32 level;
};
/* Locks the entry found as asked and those above shared; OPERAND_* with `operand` if it cannot. */
u64 pamt_walk(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
              struct pamt_walk *walk);
/* pamt_walk that stops at a level, whatever is below. */
struct pamt_goal {
    enum tdx_operand operand;
    enum lock_mode mode;
    u32 level_min;
};
u64 pamt_walk_to(struct leaf *leaf, u64 address, struct pamt_goal goal, struct pamt_walk *walk);
/* A free range of a level's size becomes one page entry, locked exclusively. */
u64 pamt_lock_free(struct leaf *leaf, u64 address, u32 level, enum tdx_operand operand,
                   struct pamt_entry **entry);
/* pamt_pair.c: Dynamic PAMT. A mark in the bitmap says that a page can be no TD's. */
void pamt_page_mark(const struct tdmr *tdmr, u64 address, bool is_marked);
bool pamt_page_is_marked(const struct tdmr *tdmr, u64 address);
/* A page in an initialized block that is in a pair, or reserved; false where PAMT is static. */
bool pamt_is_own_page(u64 address);
/* Two pages for the entries of a 2 MiB region's 4 KiB pages, and the operands that named them. */
struct pamt_pair {
    u64 pages[PAMT_PAIR_PAGES];
    enum tdx_operand operands[PAMT_PAIR_PAGES];
};
u64 pamt_pair_check(const struct pamt_pair *pair);
/* Marks both, which must be free; pages of `region` itself are not looked at (~0: none is). */
u64 pamt_pair_claim(struct leaf *leaf, const struct pamt_pair *pair, u64 region);
void pamt_pair_release(const u64 pages[PAMT_PAIR_PAGES]);
/* The region's entry becomes the pair's, each 4 KiB page has `type` and the entry's owner. */
void pamt_pair_attach(struct pamt_entry *region, const u64 pages[PAMT_PAIR_PAGES],
                      enum pamt_type type);
void pamt_pair_of(const struct pamt_entry *region, u64 pages[PAMT_PAIR_PAGES]);

/* The entry of a leaf of the secure EPT: known to be there; locked as asked. */
struct pamt_entry *pamt_lock_page(struct leaf *leaf, u64 address, u32 level, enum lock_mode mode);

#endif
