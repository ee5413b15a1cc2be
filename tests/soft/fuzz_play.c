/* SPDX-License-Identifier: MIT */
/* Operations out of bytes, and the audits between them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/vmx.h"
#include "tdx/soft/objects.h"
#include "tests/host/machine.h"
#include "tests/soft/fuzz.h"

#define OPERATIONS_MAX 4096
#define AUDIT_EVERY 16
#define FAULTS 8
#define ODD 0xf0 /* an operand's byte from here on: not of the kind that the call wants */

static const u8 argument_registers[] = {GPR_RCX, GPR_RDX, GPR_R8,  GPR_R9,
                                        GPR_R10, GPR_R11, GPR_R12, GPR_R13};

struct call_row {
    u64 leaf;
    u32 version_max;
    const char *operands;
};
static const struct call_row seamcalls[] = {
#define FUZZ_SEAMCALL(leaf, version, operands, handed, returned) {leaf, version, operands},
#include "tests/soft/fuzz_calls.def"
};
static const struct call_row tdcalls[] = {
#define FUZZ_TDCALL(leaf, version, operands) {leaf, version, operands},
#include "tests/soft/fuzz_calls.def"
};

struct reader {
    const u8 *at, *end;
    u64 gpa; /* the last one that an operand named */
    bool is_shown;
};

static u8 byte_take(struct reader *reader)
{
    return reader->at < reader->end ? *reader->at++ : 0;
}

static u64 number_take(struct reader *reader, u32 len_bytes)
{
    u64 value = 0;
    for (u32 i = 0; i < len_bytes; i++)
        value |= (u64)byte_take(reader) << 8 * i;
    return value;
}

/* --- Operands ----------------------------------------------------------------------------- */

static u64 one_of(const u64 *list, u32 count, u8 byte)
{
    return count ? list[byte % count] : 0;
}

/* The last one again; or level 1:0, one of eight entries in a row, the second 2 MiB or 1 GiB. */
static u64 gpa_of(struct reader *reader, u8 byte)
{
    u32 level = byte & 3;
    if (byte & 0x80)
        return reader->gpa;
    u64 gpa = (u64)(byte >> 2 & 7) << (PAGE_SHIFT + TABLE_SHIFT * level);
    if (level == LEVEL_4K && byte & 0x20)
        gpa |= level_bytes(LEVEL_2M);
    if (level <= LEVEL_2M && byte & 0x40)
        gpa |= level_bytes(LEVEL_1G);
    return reader->gpa = gpa | level;
}

static u64 value_of(struct reader *reader, u8 byte)
{
    if (byte < 64)
        return 1ull << byte;
    if (byte < 160)
        return byte - 64;
    return byte < 200 ? ~0ull : number_take(reader, 8);
}

static u64 operand_of(struct reader *reader, char kind, u8 byte)
{
    const struct fuzz_world *w = &fuzz_world;
    switch (kind) {
    case 't':
        return one_of(w->tds, w->td_count, byte);
    case 'T':
        return one_of(w->tds, w->td_count, byte) | byte >> 7;
    case 'v':
        return one_of(w->vcpus, w->vcpu_count, byte);
    case 'k':
        return FUZZ_KEYID + byte % 4 - (byte > 0xe0);
    case 'u':
        return one_of(w->given, w->given_count, byte);
    case 'l':
        return FUZZ_LARGE(byte % FUZZ_LARGE_PAGES);
    case 'g':
        return gpa_of(reader, byte);
    case 'q':
        return (byte & 7) * PAGE_BYTES + (u64)(byte >> 3) * 64;
    case 's':
        return FUZZ_SHARED + (byte & 7) * PAGE_BYTES;
    case 'P':
        return FUZZ_PARAMS;
    case 'b':
        return FUZZ_PAGE((byte % 8) * TABLE_ENTRIES) | LEVEL_2M;
    case 'c':
        return FUZZ_PAIR(byte % 16);
    case 'n':
        return byte < 0xd0 ? ~0ull : fuzz_page_take();
    case 'x':
        return byte & 3;
    case 'y':
        return one_of(fuzz_ids[METADATA_SYS], fuzz_id_counts[METADATA_SYS], byte);
    case 'i':
        return one_of(fuzz_ids[METADATA_TD], fuzz_id_counts[METADATA_TD], byte);
    case 'j':
        return one_of(fuzz_ids[METADATA_VP], fuzz_id_counts[METADATA_VP], byte);
    default:
        return value_of(reader, byte);
    }
}

static u64 odd_take(struct reader *reader, char kind)
{
    static const char kinds[] = "tvugmfls";
    u8 byte = byte_take(reader);
    switch (byte % 4) {
    case 0:
        return number_take(reader, 8);
    case 1:
        return fuzz_world.answer;
    case 2:
        return operand_of(reader, kinds[byte >> 2 & 7], byte_take(reader));
    default:
        return operand_of(reader, kind, byte_take(reader)) ^ 1ull << (byte >> 2);
    }
}

static u64 operand_take(struct reader *reader, char kind)
{
    u8 byte = byte_take(reader);
    if (byte >= ODD)
        return odd_take(reader, kind);
    if (kind == 'p' && (reader->gpa & TDX_GPA_LEVEL_MASK))
        kind = 'l';
    if (kind == 'f' || kind == 'p')
        return byte < 0xd0 ? fuzz_page_take() : operand_of(reader, 'u', byte);
    return operand_of(reader, kind, byte);
}

static void call_take(struct reader *reader, const struct call_row *row, struct tdx_regs *regs)
{
    u64 version = 0;
    if (row->version_max) {
        u8 byte = byte_take(reader);
        version = byte < ODD ? byte & 1 : byte & 0xf;
    }
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_RAX] = row->leaf | version << TDX_VERSION_SHIFT;
    for (u32 i = 0; row->operands[i]; i++)
        regs->gpr[argument_registers[i]] = operand_take(reader, row->operands[i]);
}

/* --- Operations --------------------------------------------------------------------------- */

static u32 lp_now;

static void lp_choose(u32 lp)
{
    lp_now = lp % trace_platform.lp_count;
    machine_select_lp(lp_now);
}

/* The next LP, from this one on, that is inside a guest, or is not. */
static bool lp_find(bool in_guest)
{
    for (u32 i = 0; i < trace_platform.lp_count; i++, lp_choose(lp_now + 1))
        if (machine_is_in_guest() == in_guest)
            return true;
    return false;
}

/* In the language of traces, so that replay can do the same. */
static void show(const struct reader *reader, const char *prefix, const struct tdx_regs *regs)
{
    if (!reader->is_shown)
        return;
    u64 rax = regs->gpr[GPR_RAX];
    fprintf(stderr, "%s%x:%x", prefix, (u32)(rax & TDX_LEAF_MASK), (u32)(rax >> TDX_VERSION_SHIFT));
    for (u32 i = 0; i < ARRAY_LENGTH(argument_registers); i++)
        fprintf(stderr, " %" PRIx64, regs->gpr[argument_registers[i]]);
    fprintf(stderr, "  # LP %u\n", lp_now);
}

static void show_answer(const struct reader *reader, const struct tdx_regs *regs)
{
    if (reader->is_shown)
        fprintf(stderr, "# %" PRIx64 " %" PRIx64 " %" PRIx64 "\n", regs->gpr[GPR_RAX],
                regs->gpr[GPR_RCX], regs->gpr[GPR_RDX]);
}

/* The pointers that the module follows later have the same code at any size. */
static bool field_is_pointer(u64 id)
{
    u64 code = id & 0xffffff;
    return code == (MD_VP_SHARED_EPTP & 0xffffff) || code == (MD_VP_POSTED_INTR_DESC & 0xffffff);
}

static bool call_is_fair(const struct tdx_regs *regs)
{
    const u64 *gpr = regs->gpr;
    switch (gpr[GPR_RAX] & TDX_LEAF_MASK) {
    case TDH_SYS_INFO:
        return fuzz_is_vmms(gpr[GPR_RCX]) && fuzz_is_vmms(gpr[GPR_R8]);
    case TDH_SYS_RDALL:
        return fuzz_is_vmms(gpr[GPR_RDX]);
    case TDH_VP_WR:
        return !field_is_pointer(gpr[GPR_RDX]) ||
               (fuzz_is_vmms(gpr[GPR_R8]) && gpr[GPR_R9] == ~0ull);
    default:
        return true;
    }
}

static void seamcall_play(struct reader *reader, struct tdx_regs *regs)
{
    if (!call_is_fair(regs) || !lp_find(false))
        return;
    show(reader, "", regs);
    if (fuzz_call(regs) == CALL_RETURNED)
        show_answer(reader, regs);
}

static void exit_play(struct reader *reader, const struct guest_exit *exit)
{
    struct tdx_regs regs;
    if (reader->is_shown && exit->reason != EXIT_TDCALL)
        fprintf(stderr, "exit %u %" PRIx64 "  # LP %u, GPA %" PRIx64 "\n", exit->reason,
                exit->qualification, lp_now, exit->address);
    if (machine_guest_exit(exit, &regs) == CALL_RETURNED)
        show_answer(reader, &regs);
    else
        show_answer(reader, machine_guest_registers());
}

static void tdcall_play(struct reader *reader, const struct tdx_regs *regs)
{
    static const struct guest_exit tdcall = {.reason = EXIT_TDCALL};
    if (!lp_find(true))
        return;
    show(reader, "td ", regs);
    machine_guest_registers()->gpr[GPR_RAX] = regs->gpr[GPR_RAX];
    for (u32 i = 0; i < ARRAY_LENGTH(argument_registers); i++)
        machine_guest_registers()->gpr[argument_registers[i]] = regs->gpr[argument_registers[i]];
    exit_play(reader, &tdcall);
}

static void write_play(u64 address, u64 value)
{
    for (u32 i = 0; i < sizeof value && fuzz_is_vmms(address); i++, address++)
        ((u8 *)seam_page(address & ~PAGE_MASK))[address & PAGE_MASK] = (u8)(value >> 8 * i);
}

/* Every page of a 2 MiB range, in a row from an aligned one: what PROMOTE wants. */
static void range_play(struct reader *reader)
{
    u64 tdr = operand_take(reader, 't'), gpa = operand_take(reader, 'g') & ~PAGE_MASK;
    u64 page = operand_take(reader, 'l');
    gpa = align_down(gpa, level_bytes(LEVEL_2M));
    for (u64 i = 0; i < TABLE_ENTRIES; i++) {
        struct tdx_regs regs = {};
        regs.gpr[GPR_RAX] = TDH_MEM_PAGE_AUG;
        regs.gpr[GPR_RCX] = gpa + i * PAGE_BYTES;
        regs.gpr[GPR_RDX] = tdr;
        regs.gpr[GPR_R8] = page + i * PAGE_BYTES;
        seamcall_play(reader, &regs);
        if (regs.gpr[GPR_RAX])
            return;
    }
}

/* A page, or a table, is blocked and known to be in no TLB: what all that changes it wants. */
static void block_play(struct reader *reader)
{
    struct tdx_regs regs = {};
    u64 tdr = operand_take(reader, 't');
    regs.gpr[GPR_RAX] = TDH_MEM_RANGE_BLOCK;
    regs.gpr[GPR_RCX] = operand_take(reader, 'g');
    regs.gpr[GPR_RDX] = tdr;
    seamcall_play(reader, &regs);
    regs.gpr[GPR_RAX] = TDH_MEM_TRACK;
    regs.gpr[GPR_RCX] = tdr;
    seamcall_play(reader, &regs);
}

/* A vCPU faults at one place, again and again, and is entered each time. */
static void faults_play(struct reader *reader)
{
    struct guest_exit exit = {.reason = EXIT_EPT_VIOLATION, .qualification = EPT_VIOLATION_WRITE};
    u64 tdvpr, tdr;
    exit.address = operand_take(reader, 'g') & ~TDX_GPA_LEVEL_MASK;
    for (u32 i = 0; i < FAULTS && lp_find(true); i++) {
        struct tdx_regs regs = {};
        machine_guest_of(lp_now, &tdvpr, &tdr);
        exit_play(reader, &exit);
        if (machine_is_in_guest())
            return;
        regs.gpr[GPR_RAX] = TDH_VP_ENTER;
        regs.gpr[GPR_RCX] = tdvpr;
        seamcall_play(reader, &regs);
    }
}

static void raw_call_take(struct reader *reader, struct tdx_regs *regs)
{
    u8 given = byte_take(reader);
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_RAX] = number_take(reader, 4);
    for (u32 i = 0; i < ARRAY_LENGTH(argument_registers); i++)
        if (given >> i & 1)
            regs->gpr[argument_registers[i]] = number_take(reader, 8);
}

static void raw_exit_play(struct reader *reader, bool is_violation)
{
    u64 first = number_take(reader, 8), qualification = number_take(reader, 8);
    struct guest_exit exit = {.reason = is_violation ? EXIT_EPT_VIOLATION : (u32)first,
                              .qualification = qualification,
                              .address = is_violation ? first : 0};
    if (lp_find(true))
        exit_play(reader, &exit);
}

static void raw_play(struct reader *reader, enum fuzz_raw kind)
{
    struct tdx_regs regs, again;
    u64 times = 1, address;
    switch (kind) {
    case FUZZ_RAW_REPEAT:
        times = byte_take(reader) + 1;
        [[fallthrough]];
    case FUZZ_RAW_CALL:
        raw_call_take(reader, &again);
        for (u64 i = 0; i < times; i++) {
            regs = again;
            seamcall_play(reader, &regs);
        }
        break;
    case FUZZ_RAW_TDCALL:
        raw_call_take(reader, &regs);
        tdcall_play(reader, &regs);
        break;
    case FUZZ_RAW_EPT:
    case FUZZ_RAW_EXIT:
        raw_exit_play(reader, kind == FUZZ_RAW_EPT);
        break;
    case FUZZ_RAW_WRITE:
        address = number_take(reader, 8);
        write_play(address, number_take(reader, 8));
        break;
    case FUZZ_RAW_LP:
        lp_choose(byte_take(reader));
        break;
    default:
        machine_set_interrupt(byte_take(reader) & 1);
        break;
    }
}

enum event {
    EVENT_EPT_VIOLATION,
    EVENT_EXIT,
    EVENT_INTERRUPT,
    EVENT_LP,
    EVENT_PARAMS,
    EVENT_GUEST_REGISTER,
    EVENT_RANGE,
    EVENT_BLOCK,
    EVENT_FAULTS,
    EVENTS,
};

static void event_play(struct reader *reader, enum event event)
{
    struct guest_exit exit = {.reason = EXIT_EPT_VIOLATION};
    u8 byte;
    switch (event) {
    case EVENT_EPT_VIOLATION:
        exit.address = operand_take(reader, 'g') & ~TDX_GPA_LEVEL_MASK;
        exit.qualification = byte_take(reader);
        if (lp_find(true))
            exit_play(reader, &exit);
        break;
    case EVENT_EXIT:
        exit.reason = byte_take(reader) % EXIT_REASON_LIMIT;
        exit.qualification = operand_take(reader, 'm');
        if (lp_find(true))
            exit_play(reader, &exit);
        break;
    case EVENT_INTERRUPT:
        machine_set_interrupt(byte_take(reader) & 1);
        break;
    case EVENT_LP:
        lp_choose(byte_take(reader));
        break;
    case EVENT_PARAMS:
        byte = byte_take(reader);
        write_play(FUZZ_PARAMS + (byte & 0x3f) * sizeof(u64), operand_take(reader, 'm'));
        break;
    case EVENT_GUEST_REGISTER:
        byte = byte_take(reader);
        if (lp_find(true))
            machine_guest_registers()->gpr[byte % GPR_COUNT] = operand_take(reader, 'm');
        break;
    case EVENT_RANGE:
        range_play(reader);
        break;
    case EVENT_BLOCK:
        block_play(reader);
        break;
    default:
        faults_play(reader);
        break;
    }
}

static void operation_play(struct reader *reader)
{
    struct tdx_regs regs;
    u32 kind = byte_take(reader);
    if (kind >= FUZZ_RAW_CALL && kind < FUZZ_RAW_END) {
        raw_play(reader, (enum fuzz_raw)kind);
        return;
    }
    kind %= ARRAY_LENGTH(seamcalls) + ARRAY_LENGTH(tdcalls) + EVENTS;
    if (kind < ARRAY_LENGTH(seamcalls)) {
        call_take(reader, &seamcalls[kind], &regs);
        seamcall_play(reader, &regs);
    } else if ((kind -= ARRAY_LENGTH(seamcalls)) < ARRAY_LENGTH(tdcalls)) {
        call_take(reader, &tdcalls[kind], &regs);
        tdcall_play(reader, &regs);
    } else {
        event_play(reader, (enum event)(kind - ARRAY_LENGTH(tdcalls)));
    }
}

const char *__asan_default_options(void);

/* A guest's stack is cleared at each switch: by hand, for mapping pages anew takes far longer. */
const char *__asan_default_options(void)
{
    return "clear_shadow_mmap_threshold=1048576";
}

/* --- A run -------------------------------------------------------------------------------- */

/* The number of the operation after which the audit fails; 0: none. */
static u32 run(const u8 *bytes, size_t len_bytes, u32 audit_every, char message[SOFT_AUDIT_BYTES])
{
    struct reader reader = {.at = bytes, .end = bytes + len_bytes, .is_shown = getenv("FUZZ_SHOW")};
    u32 operation = 0;
    fuzz_world_start(byte_take(&reader));
    lp_choose(0);
    host_log_clear();
    while (reader.at < reader.end && operation < OPERATIONS_MAX) {
        operation_play(&reader);
        if (++operation % audit_every == 0 && !soft_audit(message))
            return operation;
    }
    return soft_audit(message) ? 0 : operation;
}

bool fuzz_run(const u8 *bytes, size_t len_bytes, char message[FUZZ_MESSAGE_BYTES])
{
    char found[SOFT_AUDIT_BYTES];
    if (!run(bytes, len_bytes, AUDIT_EVERY, found))
        return true;
    u32 operation = run(bytes, len_bytes, 1, found);
    snprintf(message, FUZZ_MESSAGE_BYTES, "after operation %u of start %u: %s", operation,
             len_bytes ? bytes[0] % FUZZ_STARTS : 0, found);
    return false;
}
