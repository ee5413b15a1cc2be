/* SPDX-License-Identifier: MIT */
/*
 * What a leaf works with: the call itself, the locks it holds, and the checked way from an
 * operand to a TDR, a vCPU, a free page, an entry of the secure EPT or a metadata field.
 *
 * Every lock that a leaf takes is recorded in its struct leaf; the dispatcher releases them all
 * when the handler returns, so that no error path can keep one. Functions that answer u64 answer
 * a completion status: 0 is success, anything else is what the leaf is to answer.
 */
#ifndef TDX_SOFT_OBJECTS_H
#define TDX_SOFT_OBJECTS_H

#include "tdx/soft/td.h"

#define LEAF_HELD_MAX 40

enum lock_mode {
    LOCK_NONE,
    LOCK_SHARED,
    LOCK_EXCLUSIVE,
};

struct leaf {
    struct tdx_regs *regs; /* operands and, on return, outputs; RAX is the dispatcher's */
    u32 version;
    u32 op_states;  /* OP_STATEs in which the leaf is allowed: bit per enum td_op_state */
    bool is_guests; /* a TDCALL: the VMM's calls have priority at locks that both want */
    bool gives_way; /* a lock was refused for that reason alone */
    u32 held_count;
    struct {
        enum lock_mode mode; /* LOCK_NONE: the lock bit of a secure EPT entry */
        union {
            trylock_t *lock;
            _Atomic u64 *entry;
        };
    } held[LEAF_HELD_MAX];
};

static inline u64 completion(enum tdx_status_code code, u32 detail)
{
    return (u64)code << 32 | detail;
}

/* leaf.c. True if taken; the leaf then holds it. */
void leaf_begin(struct leaf *leaf, struct tdx_regs *regs);
bool leaf_lock(struct leaf *leaf, trylock_t *lock, enum lock_mode mode);
/* Before the end of the leaf, e.g. OP_STATE when a guest is entered. */
void leaf_unlock(struct leaf *leaf, trylock_t *lock);
void leaf_unlock_all(struct leaf *leaf);

/* dispatch.c: the entry stub's callee. Answers in regs. */
void soft_dispatch(struct tdx_regs *regs);
typedef u64 leaf_handler(struct leaf *leaf);
#define SOFT_LEAF(leaf, version, handler, states) leaf_handler handler;
#include "tdx/soft/leaves.def"
#undef SOFT_LEAF

/* platform.c */
const struct soft_platform *platform(void);
/* An address without its KeyID bits; its KeyID. */
u64 platform_address(u64 address);
u32 platform_keyid(u64 address);
u32 platform_package(void); /* of the logical processor that runs now */

/* An aligned page or structure of the VMM's memory (no private KeyID, outside the SEAM range). */
u64 operand_shared(u64 address, u64 align_bytes, enum tdx_operand operand);

/*
 * A 4 KiB page that the VMM gave, of the given type; locks its PAMT entry and, shared, the ones
 * above it. The page's entry in *entry.
 */
struct page_operand {
    u64 address;
    enum tdx_operand operand;
    enum pamt_type type;
    enum lock_mode mode;
};
u64 page_lock(struct leaf *leaf, const struct page_operand *page, struct pamt_entry **entry);

/* A TD: its two pages as the module sees them. tdcs is null until there are 6 TDCX pages. */
struct td {
    u64 address; /* of the TDR */
    struct pamt_entry *entry;
    struct tdr *tdr;
    struct tdcs *tdcs;
};

u64 td_lock(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
            struct td *td);
/* FATAL, keys, TDCX pages, then OP_STATE (locked as `mode` says) against leaf->op_states. */
u64 td_check_state(struct leaf *leaf, const struct td *td, enum lock_mode mode);
struct tdcs_measured *td_measured(const struct td *td);
void *td_msr_bitmaps(const struct td *td);
u64 td_msr_bitmaps_address(const struct td *td);
u64 td_sept_root(const struct td *td); /* address of TDCX page 3 */
/* Takes the TD out of service: every later leaf answers TD_FATAL. */
void td_make_fatal(const struct td *td);

/* The vCPU by its TDVPR, and the TD that owns it, locked shared; or as `td_mode` says. */
u64 vcpu_lock_both(struct leaf *leaf, const struct page_operand *page, enum lock_mode td_mode,
                   struct tdvps **vcpu, struct td *td);
u64 vcpu_lock(struct leaf *leaf, u64 address, enum tdx_operand operand, enum lock_mode mode,
              struct tdvps **vcpu, struct td *td);
/* A free page becomes one of the TD's (PT_TDVPR or PT_TDCX), counted in CHLDCNT, zeroed. */
void td_take_page(const struct td *td, struct pamt_entry *entry, u64 address, enum pamt_type type);

/*
 * Secure EPT. The private half of a GPA only: the caller has refused SHARED addresses
 * (sept_gpa_is_private).
 */
struct sept_walk {
    u64 gpa;
    u32 level; /* where the walk stopped; the level asked for if it succeeded */
    _Atomic u64 *entry;
    u64 value; /* as read, without the lock bit and the progress of an acceptance */
};

bool sept_gpa_is_private(const struct tdcs *tdcs, u64 gpa);
/* 4-level: 3, 5-level: 4 (the level of an entry of the root). */
u32 sept_root_level(const struct tdcs *tdcs);
/* Walks towards `level`; false if it stopped above, at a leaf or an absent or blocked table. */
bool sept_walk(const struct td *td, u64 gpa, u32 level, struct sept_walk *walk);
enum sept_state sept_entry_state(u64 value);
bool sept_state_is_leaf(enum sept_state state);
u64 sept_entry_address(u64 value);
u64 sept_entry_plain(u64 value, u32 level);
/* The entry in the ABI's form, and RDX: level and state. */
u64 sept_entry_abi(u64 value);
u64 sept_entry_details(const struct sept_walk *walk);
/* The entry's lock bit; rereads walk->value. */
bool sept_entry_lock(struct leaf *leaf, struct sept_walk *walk);
/* Leaf entry of a page in a state; non-leaf entry of a table. */
u64 sept_entry_leaf(u64 page, enum sept_state state);
u64 sept_entry_table(u64 table, enum sept_state state);
#define SEPT_ENTRY_FREE 0x80e0000000000000ull
/* Stores a new value; the lock bit stays as it is. */
void sept_entry_set(struct sept_walk *walk, u64 value);

/*
 * A PENDING entry of 2 MiB remembers how many of its 4 KiB pages an interrupted ACCEPT has
 * zeroed; whatever else changes the entry forgets that.
 */
u32 sept_entry_progress(const struct sept_walk *walk);
void sept_entry_set_progress(struct sept_walk *walk, u32 pages);

/* mem_accept.c: the state change of TDG.MEM.PAGE.ACCEPT. PENDING at the level asked for only. */
enum sept_accept {
    SEPT_ACCEPT_DONE,          /* zeroed, MAPPED */
    SEPT_ACCEPT_BUSY,          /* the entry is locked */
    SEPT_ACCEPT_ALREADY,       /* guest accessible at walk->level */
    SEPT_ACCEPT_SIZE_MISMATCH, /* a table at the level asked for */
    SEPT_ACCEPT_FAULT,         /* TD exit: EPT violation */
    SEPT_ACCEPT_INTERRUPTED,   /* a large page, an interrupt waits: execute again */
};
enum sept_accept sept_accept(struct leaf *leaf, const struct td *td, u64 gpa, u32 level,
                             struct sept_walk *walk);

/* TLB epoch: a vCPU enters the guest in the present epoch and leaves it. */
bool epoch_enter(struct tdcs *tdcs, u64 *vcpu_epoch); /* false: TRACK holds the lock */
void epoch_leave(struct tdcs *tdcs, u64 vcpu_epoch);

/* metadata.c. Who asks, and for what. */
enum metadata_scope {
    METADATA_SYS,
    METADATA_TD,
    METADATA_VP,
};
enum metadata_reader {
    METADATA_HOST,
    METADATA_HOST_DEBUG, /* the VMM, of a TD with ATTRIBUTES.DEBUG */
    METADATA_GUEST,
};
struct metadata_context {
    enum metadata_scope scope;
    enum metadata_reader reader;
    const struct td *td; /* null in METADATA_SYS */
    struct tdvps *vcpu;  /* METADATA_VP only; its VMCS is the current one */
};
/* *next: id of the next readable element, ~0 after the last; null if nobody asks. */
u64 metadata_read(const struct metadata_context *context, u64 field, u64 *value, u64 *next);
/* Answers METADATA_FIRST_FIELD_ID_IN_CONTEXT and the first id in *next for the null id. */
bool metadata_field_is_null(u64 field);
u64 metadata_first(const struct metadata_context *context);
/*
 * metadata_list.c: the fields from *id on (null: from the first) into a page of 4 KiB; *id is
 * then the first that did not fit, ~0 if all did.
 */
u64 metadata_list(const struct metadata_context *context, u64 *id, u64 *list);
u64 metadata_write(const struct metadata_context *context, u64 field, u64 value, u64 mask,
                   u64 *previous);

/*
 * What the vCPU's side supplies.
 * cpuid_table_configure: the CPUID part of MNG.INIT; OPERAND_INVALID|CPUID_CONFIG with *bad_leaf.
 */
u64 cpuid_table_configure(struct tdcs_measured *measured, const struct td_params *params,
                          u64 *bad_leaf);
void msr_bitmap_build(const struct tdcs *tdcs, void *page);
/*
 * The configurable entry `index`: leaf | subleaf << 32, and the bits that SYS.RD and SYS.INFO
 * offer: those that TD_PARAMS sets directly. (It takes those that are merely allowed, too.)
 */
bool cpuid_config_row(u32 index, u64 *leaf, struct cpuid_values *mask);

#endif
