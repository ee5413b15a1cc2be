/* SPDX-License-Identifier: MIT */
/*
 * The boot shim's 64-bit part, run as it is on this processor, at an address that a process may
 * have (SHIM_TEST_* in tests.mk). TDCALL is an invalid instruction here: the signal handler plays
 * the TDX module and the VMM, and sees where the shim goes in the end.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/host/cmocka.h"
#include "vmm/layout.h"
#include "vmm/shim.h"

#define SHIM_ADDRESS ((u8 *)0x70000000)
#define PARAMETERS_ADDRESS ((struct shim_parameters *)0x6ffff000)
#define KERNEL_ENTRY ((u8 *)0x70001000) /* ud2: seen by its address */
#define SHIM_FILE "build/host/shim.bin"
#define TDCALL_BYTES 4

#define PAGES (64 * MIB / PAGE_BYTES)
#define ALREADY_ACCEPTED 0x00000b0a00000000ull
#define SIZE_MISMATCH 0xc0000b0b00000001ull
#define OPERAND_INVALID 0xc000010000000001ull
#define OPERAND_BUSY 0x8000020000000001ull

enum page_state { FREE, PENDING, ACCEPTED };

static struct {
    u8 pages[PAGES];
    bool maps_2m;    /* a free block is mapped by one 2 MiB page */
    u64 refuse_2m;   /* 2 MiB accepts get this answer, if any */
    u64 refuse_page; /* this page number ... */
    u64 refusal;     /* ... gets this answer, if any */
    u64 accepts_2m, accepts_4k, accepted_twice;
} module;

static ucontext_t *at_end; /* registers when the shim left */
static ucontext_t end_copy;
static sigjmp_buf leave;
static u8 mailbox[PAGE_BYTES] __attribute__((aligned(4096)));

static u64 accept_4k(u64 page)
{
    module.accepts_4k++;
    if (page >= PAGES)
        return OPERAND_INVALID;
    if (module.refusal && page == module.refuse_page)
        return module.refusal;
    if (module.pages[page] == ACCEPTED)
        return ALREADY_ACCEPTED;
    module.pages[page] = ACCEPTED; /* a free one is mapped by the VMM meanwhile */
    return 0;
}

static u64 accept_2m(u64 page)
{
    module.accepts_2m++;
    if (page % 512 || page + 512 > PAGES)
        return OPERAND_INVALID;
    if (module.refuse_2m)
        return module.refuse_2m;
    for (u64 i = page; i < page + 512; i++) {
        if (!module.maps_2m || module.pages[i] != FREE)
            return SIZE_MISMATCH;
    }
    memset(module.pages + page, ACCEPTED, 512);
    return 0;
}

static void illegal_instruction(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    greg_t *regs = user->uc_mcontext.gregs;
    const u8 *at = (const u8 *)regs[REG_RIP];
    (void)number;
    (void)info;
    bool is_tdcall = at >= SHIM_ADDRESS && at < SHIM_ADDRESS + PAGE_BYTES &&
                     memcmp(at, "\x66\x0f\x01\xcc", TDCALL_BYTES) == 0;
    if (is_tdcall && regs[REG_RAX] == 6) {
        u64 rcx = (u64)regs[REG_RCX];
        regs[REG_RAX] =
            (greg_t)((rcx & 7) == 1 ? accept_2m(rcx / PAGE_BYTES) : accept_4k(rcx / PAGE_BYTES));
        regs[REG_RIP] += TDCALL_BYTES;
        return;
    }
    end_copy = *user;
    at_end = &end_copy;
    siglongjmp(leave, 1);
}

/* A vCPU that waits in the mailbox is named at last. */
static void name_it_now(int number)
{
    (void)number;
    mailbox[4] = 1;
}

static u64 end_register(int index)
{
    return (u64)at_end->uc_mcontext.gregs[index];
}

/* Behind the loads of the segment registers, which a process must not do. */
static u8 *entry_64(void)
{
    u8 *entry = SHIM_ADDRESS;
    while (memcmp(entry, "\x41\xbf\x00\xf0\xff\x6f", 6)) /* mov r15d, PARAMETERS */
        entry++;
    return entry;
}

/* The handlers are ours for the test's body alone: cmocka has its own around it. */
static void take_signals(void)
{
    static u8 stack[65536];
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = illegal_instruction,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};
    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    assert_int_equal(sigaction(SIGILL, &action, NULL), 0);
    action = (struct sigaction){.sa_handler = name_it_now, .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
}

static void run_shim(u32 vcpu)
{
    take_signals();
    at_end = NULL;
    if (sigsetjmp(leave, 1) == 0)
        __asm__ volatile("jmp *%0" ::"r"(entry_64()), "S"((u64)vcpu) : "memory");
}

static int set_up(void **state)
{
    (void)state;
    memset(&module, 0, sizeof module);
    memset(mailbox, 0, sizeof mailbox);
    *PARAMETERS_ADDRESS = (struct shim_parameters){
        .memory_bytes = 64 * MIB,
        .flags = SHIM_ACCEPT_MEMORY,
        .entry = (u64)KERNEL_ENTRY,
        .rsi = 0x1111,
        .rdi = 0x2222,
        .rsp = 0x3330,
        .mailbox = (u64)mailbox,
    };
    return 0;
}

static int map_shim(void **state)
{
    (void)state;
    FILE *file = fopen(SHIM_FILE, "rb");
    u8 *pages = mmap(PARAMETERS_ADDRESS, 3 * PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (!file || pages != (u8 *)PARAMETERS_ADDRESS ||
        fread(SHIM_ADDRESS, 1, PAGE_BYTES, file) != PAGE_BYTES)
        return -1;
    fclose(file);
    memcpy(KERNEL_ENTRY, "\x0f\x0b", 2);
    return 0;
}

static void kernel_is_entered(u64 accepted_pages)
{
    assert_non_null(at_end);
    assert_ptr_equal((void *)end_register(REG_RIP), KERNEL_ENTRY);
    assert_int_equal(end_register(REG_RSI), 0x1111);
    assert_int_equal(end_register(REG_RDI), 0x2222);
    assert_int_equal(end_register(REG_RSP), 0x3330);
    for (u64 i = 0; i < PAGES; i++)
        assert_int_equal(module.pages[i], i < accepted_pages ? ACCEPTED : FREE);
}

static void every_page_is_accepted_in_blocks_where_they_are(void **state)
{
    (void)state;
    module.maps_2m = true;
    run_shim(0);
    kernel_is_entered(PAGES);
    assert_int_equal(module.accepts_2m, 32);
    assert_int_equal(module.accepts_4k, 0);
}

static void blocks_of_small_pages_are_accepted_one_by_one(void **state)
{
    (void)state;
    for (u64 i = 100; i < 700; i++)
        module.pages[i] = ACCEPTED; /* the initial memory */
    module.maps_2m = true;
    run_shim(0);
    kernel_is_entered(PAGES);
    assert_int_equal(module.accepts_2m, 32);
    assert_int_equal(module.accepts_4k, 1024);

    set_up(NULL);
    module.refuse_2m = OPERAND_INVALID; /* a module without large pages */
    run_shim(0);
    kernel_is_entered(PAGES);
    assert_int_equal(module.accepts_4k, PAGES);
}

static void no_page_beyond_the_memory_is_touched(void **state)
{
    (void)state;
    static const u64 sizes[] = {2 * MIB, 2 * MIB + PAGE_BYTES, 4 * MIB - PAGE_BYTES, PAGE_BYTES};
    for (u32 i = 0; i < ARRAY_LENGTH(sizes); i++) {
        set_up(NULL);
        module.maps_2m = i & 1;
        PARAMETERS_ADDRESS->memory_bytes = sizes[i];
        run_shim(0);
        kernel_is_entered(sizes[i] / PAGE_BYTES);
    }
}

static void without_the_flag_nothing_is_accepted(void **state)
{
    (void)state;
    PARAMETERS_ADDRESS->flags = 0;
    run_shim(0);
    kernel_is_entered(0);
    assert_int_equal(module.accepts_2m + module.accepts_4k, 0);
}

static void a_refusal_is_reported_as_fatal(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        set_up(NULL);
        if (large)
            module.refuse_2m = OPERAND_BUSY;
        module.refuse_page = 700;
        module.refusal = OPERAND_BUSY;
        run_shim(0);
        assert_int_equal(end_register(REG_RAX), 0); /* TDG.VP.VMCALL */
        assert_int_equal(end_register(REG_RCX), 0xffcc);
        assert_int_equal(end_register(REG_R10), 0);
        assert_int_equal(end_register(REG_R11), 0x10003); /* ReportFatalError */
        assert_int_equal(end_register(REG_R12), 0x80000200);
        static const int order[] = {REG_R14, REG_R15, REG_RBX, REG_RDI,
                                    REG_RSI, REG_R8,  REG_R9,  REG_RDX};
        char text[65] = {0};
        for (u32 i = 0; i < 8; i++)
            memcpy(text + 8 * i, &at_end->uc_mcontext.gregs[order[i]], 8);
        assert_string_equal(text, "boot shim: a page was not accepted");
    }
}

static void another_vcpu_waits_until_it_is_named(void **state)
{
    (void)state;
    u64 vector = (u64)KERNEL_ENTRY;
    mailbox[0] = 1;
    mailbox[4] = 2; /* somebody else, for now */
    memcpy(mailbox + 8, &vector, 8);
    alarm(1);
    run_shim(1);
    assert_non_null(at_end);
    assert_ptr_equal((void *)end_register(REG_RIP), KERNEL_ENTRY);
    assert_int_equal(mailbox[4], 1);
    assert_int_equal(mailbox[0], 0); /* acknowledged */
    assert_int_equal(module.accepts_2m + module.accepts_4k, 0);
}

static void the_reset_vector_leads_to_the_start(void **state)
{
    (void)state;
    const u8 *reset = SHIM_ADDRESS + 0xff0;
    i32 distance;
    assert_int_equal(reset[0], 0xe9); /* jmp, 32 bits */
    memcpy(&distance, reset + 1, sizeof distance);
    assert_ptr_equal(reset + 5 + distance, SHIM_ADDRESS);
    assert_int_equal(SHIM_ADDRESS[0], 0xfa); /* cli */
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_page_is_accepted_in_blocks_where_they_are),
        TEST(blocks_of_small_pages_are_accepted_one_by_one),
        TEST(no_page_beyond_the_memory_is_touched),
        TEST(without_the_flag_nothing_is_accepted),
        TEST(a_refusal_is_reported_as_fatal),
        TEST(another_vcpu_waits_until_it_is_named),
        TEST(the_reset_vector_leads_to_the_start),
    };
    return cmocka_run_group_tests(tests, map_shim, NULL);
}
