/* SPDX-License-Identifier: MIT */
/* tdx/seamcall.asm itself: every register goes in and comes back, and a fault is a status. */
#define _GNU_SOURCE /* names of registers in a ucontext */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "tdx/handover.h"
#include "tdx/seamcall.h"
#include "tests/host/cmocka.h"

void entry_scramble(void);
void entry_answer(void);
extern u64 entry_seen[GPR_COUNT];
extern u64 entry_carry;

/* Notes every register, inverts each of them, and sets carry if it is told to. */
__asm__(".data\n"
        "entry_seen: .zero 128\n"
        "entry_carry: .quad 0\n"
        ".macro note index, name\n"
        "    mov %\\name, entry_seen + 8 * \\index(%rip)\n"
        "    not %\\name\n"
        ".endm\n"
        ".text\n"
        "entry_scramble:\n"
        "    note 0, rax\n    note 1, rcx\n    note 2, rdx\n    note 3, rbx\n"
        "    note 5, rbp\n    note 6, rsi\n    note 7, rdi\n    note 8, r8\n"
        "    note 9, r9\n    note 10, r10\n    note 11, r11\n    note 12, r12\n"
        "    note 13, r13\n    note 14, r14\n    note 15, r15\n"
        "    mov %rsp, entry_seen + 8 * 4(%rip)\n"
        "    btq $0, entry_carry(%rip)\n"
        "    ret\n"
        /* Keeps what a leaf of the module keeps: all that it does not answer in. */
        "entry_answer:\n"
        "    note 0, rax\n    note 1, rcx\n    note 2, rdx\n    note 8, r8\n"
        "    note 9, r9\n    note 10, r10\n    note 11, r11\n"
        "    mov %rsp, entry_seen + 8 * 4(%rip)\n"
        "    btq $0, entry_carry(%rip)\n"
        "    ret\n");

void (*tdx_entry)(void) = entry_scramble;

static void every_register_goes_in_and_comes_back(void **state)
{
    (void)state;
    struct tdx_regs regs;
    entry_carry = 0;
    for (u32 i = 0; i < GPR_COUNT; i++)
        regs.gpr[i] = 0x1111111111111111ull * i + 7;
    assert_false(tdx_call(&regs));
    for (u32 i = 0; i < GPR_COUNT; i++) {
        u64 passed = 0x1111111111111111ull * i + 7;
        if (i == GPR_RSP) {
            /* Not passed, and aligned as for any function. */
            assert_int_equal(regs.gpr[i], passed);
            assert_int_equal(entry_seen[i] % 16, 8);
            continue;
        }
        assert_int_equal(entry_seen[i], passed);
        assert_int_equal(regs.gpr[i], ~passed);
    }
}

static void few_registers_go_in_and_come_back(void **state)
{
    (void)state;
    struct tdx_short regs = {.rax = 0x11, .rcx = 0x2222, .rdx = 0x333333, .r8 = 0x44};
    entry_carry = 0;
    assert_false(tdx_call_short(&regs));
    assert_int_equal(entry_seen[GPR_RAX], 0x11);
    assert_int_equal(entry_seen[GPR_RCX], 0x2222);
    assert_int_equal(entry_seen[GPR_RDX], 0x333333);
    assert_int_equal(entry_seen[GPR_R8], 0x44);
    assert_int_equal(entry_seen[GPR_RSP] % 16, 8);
    assert_int_equal(regs.rax, ~0x11ull);
    assert_int_equal(regs.rcx, ~0x2222ull);
    assert_int_equal(regs.rdx, ~0x333333ull);
    assert_int_equal(regs.r8, ~0x44ull);
    entry_carry = 1;
    assert_true(tdx_call_short(&regs));
    entry_carry = 0;
}

static void a_row_of_operands_is_called_until_an_answer_is_not_0(void **state)
{
    (void)state;
    struct tdx_each each = {
        .leaf = 0x11, .operand = 0x2000, .rdx = 0x333, .step = 0x1000, .left = 5};
    entry_carry = 0;
    tdx_entry = entry_answer;
    /* Its answer is the leaf inverted: it stops at once. */
    assert_false(tdx_call_each(&each));
    assert_int_equal(each.status, ~0x11ull);
    assert_int_equal(each.operand, 0x2000);
    assert_int_equal(each.left, 5);
    assert_int_equal(entry_seen[GPR_RAX], 0x11);
    assert_int_equal(entry_seen[GPR_RCX], 0x2000);
    assert_int_equal(entry_seen[GPR_RDX], 0x333);
    /* A leaf of all ones makes the note 0: it goes to the end. */
    each.leaf = ~0ull;
    assert_false(tdx_call_each(&each));
    assert_int_equal(each.status, 0);
    assert_int_equal(each.operand, 0x7000);
    assert_int_equal(each.left, 0);
    assert_int_equal(entry_seen[GPR_RAX], ~0ull);
    assert_int_equal(entry_seen[GPR_RCX], 0x6000);
    assert_int_equal(entry_seen[GPR_RDX], 0x333);
    assert_int_equal(entry_seen[GPR_RSP] % 16, 8);
    entry_carry = 1;
    each.left = 3;
    assert_true(tdx_call_each(&each));
    assert_int_equal(each.left, 3);
    entry_carry = 0;
    tdx_entry = entry_scramble;
}

static void carry_is_told(void **state)
{
    (void)state;
    struct tdx_regs regs = {};
    entry_carry = 1;
    assert_true(tdx_call(&regs));
    assert_int_equal(regs.gpr[GPR_R15], ~0ull);
    entry_carry = 0;
    assert_false(tdx_call(&regs));
}

/* As boot/'s exception handler: to the fixup behind the instruction and its RET. */
static void fault_handle(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal_number;
    (void)info;
    if (registers[REG_RIP] != (greg_t)seamcall_hardware)
        abort();
    registers[REG_RIP] += 5;
    registers[REG_RAX] = 6;
}

static void a_seamcall_that_faults_is_a_status(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = fault_handle, .sa_flags = SA_SIGINFO};
    struct sigaction old_ill, old_segv;
    sigaction(SIGILL, &action, &old_ill);
    sigaction(SIGSEGV, &action, &old_segv);
    struct tdx_regs regs = {.gpr = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    tdx_entry = seamcall_hardware;
    bool carry = tdx_call(&regs);
    tdx_entry = entry_scramble;
    sigaction(SIGILL, &old_ill, NULL);
    sigaction(SIGSEGV, &old_segv, NULL);
    assert_false(carry);
    assert_int_equal(regs.gpr[GPR_RAX], TDX_STATUS_SEAMCALL_UD);
    for (u32 i = GPR_RCX; i < GPR_COUNT; i++)
        assert_int_equal(regs.gpr[i], i + 1);
}

static void a_page_is_cleared_past_the_caches(void **state)
{
    (void)state;
    static u8 pages[3 * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
    /* Only where the processor has MOVDIR64B; nothing else calls it. */
    u32 eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (!(ecx & 1u << 28))
        skip();
    memset(pages, 0xff, sizeof pages);
    page_clear_direct(pages + PAGE_BYTES);
    for (u32 i = 0; i < sizeof pages; i++)
        assert_int_equal(pages[i], i / PAGE_BYTES == 1 ? 0 : 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_register_goes_in_and_comes_back),
        cmocka_unit_test(few_registers_go_in_and_come_back),
        cmocka_unit_test(a_row_of_operands_is_called_until_an_answer_is_not_0),
        cmocka_unit_test(carry_is_told),
        cmocka_unit_test(a_seamcall_that_faults_is_a_status),
        cmocka_unit_test(a_page_is_cleared_past_the_caches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
