/* SPDX-License-Identifier: MIT */
#include "tdx/seamcall.h"

#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

static struct tdx_regs last_in;
static u32 calls;
static u64 answers[8]; /* one a call; the last one for all that follow */
static u32 answer_count;
static bool carry;

void seamcall_hardware(void) {}

bool tdx_call(struct tdx_regs *regs)
{
    last_in = *regs;
    u32 index = calls < answer_count ? calls : answer_count - 1;
    calls++;
    /* A leaf zeroes its outputs where it refuses. */
    memset(regs, 0, sizeof *regs);
    regs->gpr[GPR_RAX] = answers[index];
    regs->gpr[GPR_RCX] = 0x1234;
    return carry;
}

static int start(void **state)
{
    (void)state;
    calls = 0;
    answer_count = 1;
    answers[0] = 0;
    carry = false;
    seamcall_inject_clear();
    host_log_clear();
    return 0;
}

static u64 status_of(enum tdx_status_code code, u32 details)
{
    return (u64)code << 32 | details;
}

static void answers_set(u32 count, const u64 *values)
{
    memcpy(answers, values, count * sizeof *values);
    answer_count = count;
}

static void leaf_and_version_go_into_rax(void **state)
{
    (void)state;
    struct tdx_regs regs = {.gpr[GPR_RCX] = 0xabc, .gpr[GPR_R15] = 15};
    assert_int_equal(seamcall_version(TDH_VP_INIT, 1, &regs).raw, 0);
    assert_int_equal(last_in.gpr[GPR_RAX], TDH_VP_INIT | 1 << 16);
    assert_int_equal(last_in.gpr[GPR_RCX], 0xabc);
    assert_int_equal(last_in.gpr[GPR_R15], 15);
    assert_int_equal(regs.gpr[GPR_RCX], 0x1234);
}

/* Only an error stops it, on whatever way it goes. */
static void a_row_stops_at_its_first_error(void **state)
{
    struct inject_config none_of_these = {"TDH.VP.WR", 1, "OPERAND_INVALID", 1};
    for (u32 injected = 0; injected < 2; injected++) {
        struct tdx_each each = {TDH_MEM_RANGE_BLOCK, 0x5000, 0x77, 0x1000, 6, 0};
        u64 counted = seamcall_counts()[TDH_MEM_RANGE_BLOCK].calls;
        start(state);
        if (injected)
            assert_int_equal(seamcall_inject(&none_of_these), OK);
        answers_set(4, (u64[]){0, status_of(TDX_GPA_RANGE_ALREADY_BLOCKED, 0), 0,
                               status_of(TDX_OPERAND_BUSY, OPERAND_TDR)});
        assert_int_equal(tdx_status_code(seamcall_each(&each)), TDX_OPERAND_BUSY);
        assert_int_equal(each.operand, 0x8000);
        assert_int_equal(each.left, 3);
        assert_int_equal(last_in.gpr[GPR_RCX], 0x8000);
        assert_int_equal(last_in.gpr[GPR_RDX], 0x77);
        assert_int_equal(calls, 4);
        answers_set(1, (u64[]){0});
        assert_int_equal(seamcall_each(&each).raw, 0);
        assert_int_equal(each.operand, 0xb000);
        assert_int_equal(each.left, 0);
        assert_int_equal(seamcall_counts()[TDH_MEM_RANGE_BLOCK].calls, counted + 7);
    }
}

static void every_row_of_the_tables_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(tdh_leaf_name(TDH_MEM_PAGE_ADD), "TDH.MEM.PAGE.ADD");
    assert_string_equal(tdh_leaf_name(42), "?");
    assert_string_equal(tdx_operand_name(OPERAND_TD_EPOCH), "TD_EPOCH");
    assert_string_equal(tdx_operand_name(4), "?");
#define TDX_STATUS(status, value)                                                   \
    assert_string_equal(tdx_status_name((struct tdx_status){(u64)value << 32 | 7}), \
                        #status + strlen("TDX_"));
#include "tdx/abi/status.def"
#undef TDX_STATUS
    assert_string_equal(tdx_status_name((struct tdx_status){TDX_STATUS_SEAMCALL_GP}),
                        "SEAMCALL_GP");
    assert_string_equal(tdx_status_name((struct tdx_status){0x8000123400000000}), "?");
}

static void a_refusal_is_one_line_with_leaf_status_operand_and_place(void **state)
{
    (void)state;
    struct tdx_status status = {status_of(TDX_OPERAND_INVALID, OPERAND_RCX)};
    assert_int_equal(tdx_status_error(status, TDH_MEM_PAGE_ADD, "GPA 0x1000"), ERR_REFUSED);
    assert_string_equal(host_log(), "tdx: TDH.MEM.PAGE.ADD refused: OPERAND_INVALID (RCX) at GPA "
                                    "0x1000 (status 0xc000010000000001)\n");
}

static void success_and_its_remarks_are_no_errors(void **state)
{
    (void)state;
    assert_int_equal(tdx_status_error((struct tdx_status){0}, TDH_SYS_INIT, "x"), OK);
    struct tdx_status remark = {status_of(TDX_GPA_RANGE_ALREADY_BLOCKED, OPERAND_RCX)};
    assert_int_equal(tdx_status_error(remark, TDH_MEM_RANGE_BLOCK, "x"), OK);
    assert_string_equal(host_log(), "");
}

static void busy_is_silent_until_it_is_final(void **state)
{
    (void)state;
    static const enum tdx_status_code busy[] = {
        TDX_OPERAND_BUSY,
        TDX_SYS_BUSY,
        TDX_PREVIOUS_TLB_EPOCH_BUSY,
        TDX_INTERRUPTED_RESUMABLE,
        TDX_INTERRUPTED_RESTARTABLE,
    };
    for (u32 i = 0; i < ARRAY_LENGTH(busy); i++) {
        struct tdx_status status = {status_of(busy[i], OPERAND_SEPT_TREE)};
        assert_int_equal(tdx_status_error(status, TDH_MEM_TRACK, "x"), ERR_BUSY);
        assert_string_equal(host_log(), "");
    }
    struct tdx_status status = {status_of(TDX_OPERAND_BUSY, OPERAND_KOT)};
    assert_int_equal(tdx_status_error_final(status, TDH_MNG_CREATE, "a new TDR"), ERR_REFUSED);
    assert_non_null(strstr(host_log(), "TDH.MNG.CREATE refused: OPERAND_BUSY (KOT)"));
}

static void dead_tds_are_refusals(void **state)
{
    (void)state;
    struct tdx_status status = {status_of(TDX_NON_RECOVERABLE_TD, 2)};
    assert_int_equal(tdx_status_error(status, TDH_VP_ENTER, "vCPU 0"), ERR_REFUSED);
    assert_non_null(strstr(host_log(), "NON_RECOVERABLE_TD (details 0x2)"));
}

static void carry_means_no_module(void **state)
{
    (void)state;
    struct tdx_regs regs = {};
    carry = true;
    struct tdx_status status = seamcall(TDH_SYS_INIT, &regs);
    assert_int_equal(status.raw, TDX_STATUS_NO_MODULE);
    assert_true(tdx_status_is_unanswered(status));
    assert_int_equal(tdx_status_error(status, TDH_SYS_INIT, "x"), ERR_REFUSED);
}

static void want_of_entropy_is_retried_with_the_same_operands_but_not_for_ever(void **state)
{
    (void)state;
    struct tdx_regs regs = {.gpr[GPR_RDX] = 5};
    answers_set(3, (u64[]){status_of(TDX_RND_NO_ENTROPY, 0), status_of(TDX_RND_NO_ENTROPY, 0), 0});
    assert_int_equal(seamcall(TDH_MNG_CREATE, &regs).raw, 0);
    assert_int_equal(calls, 3);
    assert_int_equal(last_in.gpr[GPR_RDX], 5);

    calls = 0;
    answers_set(1, (u64[]){status_of(TDX_RND_NO_ENTROPY, 0)});
    struct tdx_status status = seamcall(TDH_MNG_CREATE, &regs);
    assert_int_equal(tdx_status_code(status), TDX_RND_NO_ENTROPY);
    assert_in_range(calls, 2, 100);
}

static void patience_ends_and_keeps_the_operands(void **state)
{
    (void)state;
    struct tdx_regs regs = {.gpr[GPR_R8] = 8};
    u64 busy = status_of(TDX_OPERAND_BUSY, OPERAND_TDR);
    answers_set(4, (u64[]){busy, busy, busy, 0});
    assert_int_equal(seamcall_patient(TDH_MEM_PAGE_ADD, &regs).raw, 0);
    assert_int_equal(calls, 4);
    assert_int_equal(last_in.gpr[GPR_R8], 8);

    answers_set(1, &busy);
    assert_int_equal(seamcall_patient(TDH_MEM_PAGE_ADD, &regs).raw, busy);
    assert_in_range(calls, 100, 100000);
}

static void calls_failures_and_busy_are_counted_by_leaf(void **state)
{
    (void)state;
    const struct seamcall_count *count = &seamcall_counts()[TDH_MEM_TRACK];
    u64 made = count->calls, failed = count->failures, busy = count->busy;
    struct tdx_regs regs = {};
    answers_set(3, (u64[]){0, status_of(TDX_TD_FATAL, 0),
                           status_of(TDX_PREVIOUS_TLB_EPOCH_BUSY, OPERAND_TD_EPOCH)});
    for (u32 i = 0; i < 3; i++)
        (void)seamcall(TDH_MEM_TRACK, &regs);
    assert_int_equal(count->calls - made, 3);
    assert_int_equal(count->failures - failed, 2);
    assert_int_equal(count->busy - busy, 1);
}

static void the_nth_call_is_made_to_fail_once(void **state)
{
    (void)state;
    struct inject_config injection = {.leaf = "TDH.VP.CREATE", .nth = 2, .status = "TD_FATAL"};
    struct tdx_regs regs = {};
    assert_int_equal(seamcall_inject(&injection), OK);
    assert_int_equal(seamcall(TDH_VP_CREATE, &regs).raw, 0);
    assert_int_equal(seamcall(TDH_VP_ADDCX, &regs).raw, 0);
    assert_int_equal(seamcall(TDH_VP_CREATE, &regs).raw, status_of(TDX_TD_FATAL, 0));
    assert_int_equal(calls, 2);
    assert_int_equal(seamcall(TDH_VP_CREATE, &regs).raw, 0);
    assert_non_null(strstr(host_log(), "TDH.VP.CREATE is made to fail: TD_FATAL"));
}

static void an_injection_that_makes_no_sense_is_refused_by_line(void **state)
{
    (void)state;
    struct inject_config unknown_leaf = {"TDH.VP.CRAETE", 1, "TD_FATAL", 7};
    struct inject_config unknown_status = {"TDH.VP.CREATE", 1, "TD_FATEL", 8};
    struct inject_config no_error = {"TDH.VP.CREATE", 1, "SUCCESS", 9};
    struct inject_config never = {"TDH.VP.CREATE", 0, "TD_FATAL", 10};
    assert_int_equal(seamcall_inject(&unknown_leaf), ERR_INVALID);
    assert_int_equal(seamcall_inject(&unknown_status), ERR_INVALID);
    assert_int_equal(seamcall_inject(&no_error), ERR_INVALID);
    assert_int_equal(seamcall_inject(&never), ERR_INVALID);
    assert_non_null(strstr(host_log(), "tain.cfg:7: inject: no leaf is named TDH.VP.CRAETE"));
    assert_non_null(strstr(host_log(), "tain.cfg:8: inject: no error status is named TD_FATEL"));
    assert_non_null(strstr(host_log(), "tain.cfg:9: inject: no error status is named SUCCESS"));
    assert_non_null(strstr(host_log(), "tain.cfg:10: inject: calls are counted from 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(leaf_and_version_go_into_rax, start),
        cmocka_unit_test_setup(a_row_stops_at_its_first_error, start),
        cmocka_unit_test_setup(every_row_of_the_tables_has_its_name, start),
        cmocka_unit_test_setup(a_refusal_is_one_line_with_leaf_status_operand_and_place, start),
        cmocka_unit_test_setup(success_and_its_remarks_are_no_errors, start),
        cmocka_unit_test_setup(busy_is_silent_until_it_is_final, start),
        cmocka_unit_test_setup(dead_tds_are_refusals, start),
        cmocka_unit_test_setup(carry_means_no_module, start),
        cmocka_unit_test_setup(want_of_entropy_is_retried_with_the_same_operands_but_not_for_ever,
                               start),
        cmocka_unit_test_setup(patience_ends_and_keeps_the_operands, start),
        cmocka_unit_test_setup(calls_failures_and_busy_are_counted_by_leaf, start),
        cmocka_unit_test_setup(the_nth_call_is_made_to_fail_once, start),
        cmocka_unit_test_setup(an_injection_that_makes_no_sense_is_refused_by_line, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
