/* SPDX-License-Identifier: MIT */
/* The guest of a player. */
#include <sched.h>
#include <string.h>

#include "boot/cpu.h"
#include "tdx/soft/td.h"
#include "tests/host/machine.h"
#include "tests/tdx/guest.h"
#include "tests/tdx/threads.h"

#define STAY_STEPS 40
#define WORDS_USED 4
/* So many faults of one instruction, then an interrupt: more of them look like an attack. */
#define ACCEPTS_IN_A_ROW 5

static _Thread_local struct player *here;

u32 player_random(struct player *player, u32 limit)
{
    return (u32)(walk_random_next(&player->random) % limit);
}

static u64 word_of(u32 td_number, u32 frame)
{
    return ((u64)(td_number + 1) << 32 | frame) * 0x9e3779b97f4a7c15;
}

bool player_word_is_right(u32 td_number, u32 frame, u64 word)
{
    return word == 0 || word == word_of(td_number, frame);
}

/* A place where the processor may be taken from this thread. */
static void yield_sometimes(u32 one_in)
{
    if (here && player_random(here, one_in) == 0)
        sched_yield();
}

static void page_looked_at(void)
{
    yield_sometimes(60);
}

static void translations_forget(u64 eptp)
{
    (void)eptp;
    if (here)
        memset(here->translations, 0, sizeof here->translations);
}

/* As the processor does: what it has it need not look up. */
static bool page_find(struct player *player, u32 frame, u64 *page)
{
    struct translation translation;
    typeof(&player->translations[0]) kept = &player->translations[frame % TRANSLATIONS];
    if (!kept->is_valid || kept->frame != frame) {
        if (!guest_translate(player->eptp, gfn_to_gpa(gfn(frame)).raw, &translation))
            return false;
        kept->is_valid = true;
        kept->frame = frame;
        kept->page = translation.page;
    }
    *page = kept->page;
    return true;
}

/*
 * The page may be taken away at any time, but not before this processor has left the guest: until
 * then it is this TD's, and holds what this TD wrote.
 */
static void page_access(struct player *player, u32 frame, u64 page)
{
    yield_sometimes(8);
    if (page_owner(hpa(page)) != PAGE_PRIVATE)
        player_fail(player, "frame %u: its page %#llx is %s, and the guest still reaches it", frame,
                    (unsigned long long)page, page_owner_name(page_owner(hpa(page))));
    _Atomic u64 *words = host_memory_at(page);
    _Atomic u64 *word = &words[player_random(player, WORDS_USED) * (TABLE_ENTRIES / WORDS_USED)];
    u64 value = atomic_load_explicit(word, memory_order_relaxed);
    if (!player_word_is_right(player->td_number, frame, value))
        player_fail(player, "frame %u: its page %#llx holds %#llx", frame, (unsigned long long)page,
                    (unsigned long long)value);
    atomic_store_explicit(word, word_of(player->td_number, frame), memory_order_relaxed);
    player->accesses++;
}

static void accept_answer(struct player *player, struct tdvps *vcpu)
{
    u32 code = (u32)(vcpu->gpr[GPR_RAX] >> 32);
    player->accepts_in_a_row = 0;
    player->is_accepting = false;
    player->wants_small = false;
    switch (code) {
    case 0:
        player->accepts++;
        break;
    case TDX_PAGE_SIZE_MISMATCH:
        player->wants_small = true;
        break;
    case TDX_PAGE_ALREADY_ACCEPTED:
    case TDX_OPERAND_BUSY:
        break;
    default:
        player_fail(player, "frame %u: accept answers %#x", player->frame, code);
    }
}

static u32 frame_choose(struct player *player)
{
    if (player_random(player, 2))
        return player_random(player, 32);
    u32 region = 512 + player_random(player, 3) * 512;
    return region + player_random(player, player_random(player, 4) ? 16 : 512);
}

static void accept_start(struct player *player, struct tdvps *vcpu, struct guest_exit *exit)
{
    bool is_large = player->frame >= 512 && !player->wants_small && player_random(player, 4);
    enum level level = is_large ? LEVEL_2M : LEVEL_4K;
    u64 frame = align_down(player->frame, level_pages(level));
    player->is_accepting = true;
    player->accepts_in_a_row++;
    guest_accept_begin(vcpu, exit, gfn(frame), level);
}

static void guest_play(struct tdvps *vcpu, struct guest_exit *exit)
{
    struct player *player = here;
    if (player->is_accepting)
        accept_answer(player, vcpu);
    else if (!player->is_retrying)
        player->frame = frame_choose(player);
    player->is_retrying = false;
    for (u32 steps = 1 + player_random(player, STAY_STEPS); steps > 0; steps--) {
        u64 page;
        if (atomic_exchange(&cpu_this()->kicked, false)) {
            player->kicks++;
            break;
        }
        if (!page_find(player, player->frame, &page)) {
            if (player->accepts_in_a_row == ACCEPTS_IN_A_ROW)
                break;
            accept_start(player, vcpu, exit);
            return;
        }
        page_access(player, player->frame, page);
        player->frame = frame_choose(player);
    }
    player->accepts_in_a_row = 0;
    guest_gets_on();
    guest_interrupted(exit);
}

void player_sit(struct player *player)
{
    here = player;
    host_cpu_set(player->number);
}

void players_install(void)
{
    soft_module_guest = guest_play;
    soft_module_page_hook = page_looked_at;
    soft_module_invept_hook = translations_forget;
}
