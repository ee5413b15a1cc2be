/* SPDX-License-Identifier: MIT */
/* What a sequence starts from, and what the VMM knows of it. */
#include <string.h>

#include "boot/assert.h"
#include "tdx/soft/system.h"
#include "tests/soft/fuzz.h"

/* As in the traces: one TDMR of 1 GiB at 4 GiB, its PAMT in low memory. */
#define TDMR_LIST 0x200000ull
#define TDMR_INFO 0x201000ull
#define TDMR_BASE 0x100000000ull
#define TDMR_CALLS 256
#define KEYID_GLOBAL 0x20
#define EPTP_FOUR_LEVELS 0x1e
#define VCPUS_OF_TD 4
#define PAGES_ADDED 8
#define PAIRS_AT_START 2

struct fuzz_world fuzz_world;
u64 fuzz_ids[3][FUZZ_IDS_MAX];
u32 fuzz_id_counts[3];

static const struct {
    u64 leaf;
    char handed, returned;
} pages_of_leaf[] = {
#define FUZZ_SEAMCALL(leaf, version, operands, handed, returned) {leaf, handed, returned},
#include "tests/soft/fuzz_calls.def"
};

static u64 forget(u64 *list, u32 *count, u64 page)
{
    for (u32 i = 0; i < *count; i++)
        if (list[i] == page) {
            list[i] = list[--*count];
            return true;
        }
    return false;
}

static void remember(u64 *list, u32 *count, u32 max, u64 page)
{
    if (*count < max)
        list[(*count)++] = page;
}

static void page_handed(u64 page)
{
    struct fuzz_world *w = &fuzz_world;
    forget(w->returned, &w->returned_count, page);
    remember(w->given, &w->given_count, FUZZ_PAGES, page);
}

static void page_returned(u64 page)
{
    struct fuzz_world *w = &fuzz_world;
    forget(w->tds, &w->td_count, page);
    forget(w->vcpus, &w->vcpu_count, page);
    forget(w->given, &w->given_count, page);
    if (page - FUZZ_PAGE(0) < FUZZ_PAGES * PAGE_BYTES)
        remember(w->returned, &w->returned_count, FUZZ_PAGES, page);
}

u64 fuzz_page_take(void)
{
    struct fuzz_world *w = &fuzz_world;
    if (w->returned_count)
        return w->returned[--w->returned_count];
    return FUZZ_PAGE(w->next_page++ % FUZZ_PAGES);
}

static u64 page_named(char where, const struct tdx_regs *before, const struct tdx_regs *after)
{
    switch (where) {
    case 'c':
        return before->gpr[GPR_RCX];
    case '8':
        return before->gpr[GPR_R8];
    case 'o':
        return after->gpr[GPR_RCX];
    default:
        return 0;
    }
}

enum call_end fuzz_call(struct tdx_regs *regs)
{
    struct fuzz_world *w = &fuzz_world;
    const struct tdx_regs before = *regs;
    u64 leaf = before.gpr[GPR_RAX] & TDX_LEAF_MASK;
    enum call_end end = machine_seamcall(regs);
    if (end == CALL_IN_GUEST)
        return end;
    w->answer = regs->gpr[GPR_RCX];
    for (u32 i = 0; i < ARRAY_LENGTH(pages_of_leaf) && !regs->gpr[GPR_RAX]; i++) {
        if (pages_of_leaf[i].leaf != leaf)
            continue;
        if (pages_of_leaf[i].returned != '-')
            page_returned(page_named(pages_of_leaf[i].returned, &before, regs));
        if (pages_of_leaf[i].handed != '-')
            page_handed(page_named(pages_of_leaf[i].handed, &before, regs));
        if (leaf == TDH_MNG_CREATE)
            remember(w->tds, &w->td_count, FUZZ_TDS_MAX, before.gpr[GPR_RCX]);
        if (leaf == TDH_VP_CREATE)
            remember(w->vcpus, &w->vcpu_count, FUZZ_VCPUS_MAX, before.gpr[GPR_RCX]);
    }
    return end;
}

static bool spans_page(u64 start, u64 bytes, u64 page)
{
    return page + PAGE_BYTES > start && page < start + bytes;
}

bool fuzz_is_vmms(u64 address)
{
    u64 page = platform_address(address) & ~PAGE_MASK;
    for (u32 i = 0; i < soft_system.tdmr_count; i++) {
        const struct tdmr *tdmr = &soft_system.tdmrs[i];
        if (spans_page(tdmr->base, tdmr->size, page))
            return false;
        for (u32 level = LEVEL_4K; level <= LEVEL_1G; level++)
            if (spans_page(tdmr->pamt_base[level], tdmr->pamt_size[level], page))
                return false;
    }
    return true;
}

/* --- Calls that have to succeed ----------------------------------------------------------- */

u64 fuzz_answer(u64 rax, u64 rcx, u64 rdx, u64 r8, u64 r9)
{
    struct tdx_regs regs = {};
    regs.gpr[GPR_RAX] = rax;
    regs.gpr[GPR_RCX] = rcx;
    regs.gpr[GPR_RDX] = rdx;
    regs.gpr[GPR_R8] = r8;
    regs.gpr[GPR_R9] = r9;
    return fuzz_call(&regs) == CALL_IN_GUEST ? 0 : regs.gpr[GPR_RAX];
}

static void must(u64 rax, u64 rcx, u64 rdx, u64 r8, u64 r9)
{
    u64 status = fuzz_answer(rax, rcx, rdx, r8, r9);
    if (status & TDX_STATUS_ERROR)
        panic("the fuzzer's world: leaf %lu answers %#lx", rax, status);
}

static void write(u64 address, u64 value)
{
    *(u64 *)((u8 *)seam_page(address & ~PAGE_MASK) + (address & PAGE_MASK)) = value;
}

static void bring_up(u64 flags)
{
    static const u64 info[] = {TDMR_BASE, 0x40000000, 0x10000000, 0x1000,     0x10001000,
                               0x2000,    0x10003000, 0x400000,   0x3f000000, 0x1000000};
    must(TDH_SYS_INIT, 0, 0, 0, 0);
    for (u32 lp = 0; lp < trace_platform.lp_count; lp++) {
        machine_select_lp(lp);
        must(TDH_SYS_LP_INIT, 0, 0, 0, 0);
    }
    machine_select_lp(0);
    write(TDMR_LIST, TDMR_INFO);
    for (u32 i = 0; i < ARRAY_LENGTH(info); i++)
        write(TDMR_INFO + i * sizeof info[0], info[i]);
    must(TDH_SYS_CONFIG, TDMR_LIST, 1, KEYID_GLOBAL | flags, 0);
    must(TDH_SYS_KEY_CONFIG, 0, 0, 0, 0);
    for (u32 i = 0; i < TDMR_CALLS; i++)
        must(TDH_SYS_TDMR_INIT, TDMR_BASE, 0, 0, 0);
}

static void params_write(u64 attributes)
{
    struct td_params *params = seam_page(FUZZ_PARAMS);
    memset(params, 0, sizeof *params);
    params->attributes = attributes;
    params->xfam = XFAM_FIXED1;
    params->max_vcpus = VCPUS_OF_TD;
    params->eptp_controls = EPTP_FOUR_LEVELS;
    params->config_flags = TD_CONFIG_FLEXIBLE_PENDING_VE;
    params->tsc_frequency = TDX_TSC_UNITS_MIN;
}

static u64 td_create(u64 keyid, u64 attributes)
{
    u64 tdr = fuzz_page_take();
    must(TDH_MNG_CREATE, tdr, keyid, 0, 0);
    must(TDH_MNG_KEY_CONFIG, tdr, 0, 0, 0);
    for (u32 i = 0; i < TDCX_PAGES_BASE; i++)
        must(TDH_MNG_ADDCX, fuzz_page_take(), tdr, 0, 0);
    params_write(attributes);
    must(TDH_MNG_INIT, tdr, FUZZ_PARAMS, 0, 0);
    for (u32 level = LEVEL_512G; level > LEVEL_4K; level--)
        must(TDH_MEM_SEPT_ADD, level, tdr, fuzz_page_take(), 0);
    for (u32 i = 0; i < PAGES_ADDED; i++)
        must(TDH_MEM_PAGE_ADD, i * PAGE_BYTES, tdr, fuzz_page_take(), FUZZ_SHARED);
    return tdr;
}

static u64 vcpu_create(u64 tdr)
{
    u64 tdvpr = fuzz_page_take();
    must(TDH_VP_CREATE, tdvpr, tdr, 0, 0);
    for (u32 i = 1; i < TDVPS_PAGES_BASE; i++)
        must(TDH_VP_ADDCX, fuzz_page_take(), tdvpr, 0, 0);
    must(TDH_VP_INIT, tdvpr, 0, 0, 0);
    return tdvpr;
}

static void td_run(u64 tdvpr, u32 lp)
{
    must(TDH_VP_FLUSH, tdvpr, 0, 0, 0);
    machine_select_lp(lp);
    must(TDH_VP_ENTER, tdvpr, 0, 0, 0);
    machine_select_lp(0);
}

/* --- Starts ------------------------------------------------------------------------------- */

/* What can be read can be walked; what can only be written is met by chance. */
static void ids_collect(u32 scope, u64 rax, u64 object)
{
    u64 id = ~0ull;
    for (u32 count = 0; count < FUZZ_IDS_MAX; count++) {
        struct tdx_regs regs = {};
        regs.gpr[GPR_RAX] = rax;
        regs.gpr[GPR_RCX] = object;
        regs.gpr[GPR_RDX] = id;
        machine_seamcall(&regs);
        id = regs.gpr[GPR_RDX];
        fuzz_id_counts[scope] = count;
        if (regs.gpr[GPR_RAX] & TDX_STATUS_ERROR || id == ~0ull)
            return;
        fuzz_ids[scope][count] = id;
    }
}

static struct machine_image *image_make(u64 features)
{
    struct soft_platform platform = trace_platform;
    platform.newer_features = features;
    machine_load(NULL);
    if (soft_install(&platform))
        panic("the fuzzer's platform is refused");
    bring_up(features ? TDX_CONFIG_DYNAMIC_PAMT : 0);
    return machine_save();
}

static void world_clear(const struct machine_image *image)
{
    machine_load(image);
    memset(&fuzz_world, 0, sizeof fuzz_world);
    if (!image && soft_install(&trace_platform))
        panic("the fuzzer's platform is refused");
}

static void td_start(u64 keyid, u64 attributes)
{
    u64 tdr = td_create(keyid, attributes);
    vcpu_create(tdr);
    must(TDH_MR_FINALIZE, tdr, 0, 0, 0);
}

/* Pages of the first regions are described; FUZZ_PAIR(0) and on are in these pairs. */
static void pairs_add(void)
{
    for (u32 i = 0; i < PAIRS_AT_START; i++)
        must(TDH_PHYMEM_PAMT_ADD, FUZZ_PAGE(i * TABLE_ENTRIES) | LEVEL_2M, FUZZ_PAIR(2 * i),
             FUZZ_PAIR(2 * i + 1), 0);
}

void fuzz_world_start(u8 choice)
{
    static struct machine_image *ready, *dynamic;
    if (!ready) {
        ready = image_make(0);
        dynamic = image_make(TDX_FEATURE_DYNAMIC_PAMT);
        world_clear(ready);
        td_start(FUZZ_KEYID, TD_ATTRIBUTE_DEBUG);
        ids_collect(METADATA_SYS, TDH_SYS_RD, 0);
        ids_collect(METADATA_TD, TDH_MNG_RD | 1 << TDX_VERSION_SHIFT, fuzz_world.tds[0]);
        ids_collect(METADATA_VP, TDH_VP_RD | 1 << TDX_VERSION_SHIFT, fuzz_world.vcpus[0]);
    }
    u8 start = choice % FUZZ_STARTS;
    world_clear(start == FUZZ_NOTHING ? NULL : start == FUZZ_DYNAMIC ? dynamic : ready);
    if (start == FUZZ_DYNAMIC)
        pairs_add();
    if (start == FUZZ_BUILDING)
        vcpu_create(td_create(FUZZ_KEYID, 0));
    if (start >= FUZZ_RUNNABLE)
        td_start(FUZZ_KEYID, TD_ATTRIBUTE_SEPT_VE_DISABLE);
    if (start == FUZZ_TWO) {
        td_start(FUZZ_KEYID + 1, TD_ATTRIBUTE_DEBUG);
        td_run(fuzz_world.vcpus[1], 1);
    }
    if (start == FUZZ_TWO || start == FUZZ_DYNAMIC)
        td_run(fuzz_world.vcpus[0], 0);
}
