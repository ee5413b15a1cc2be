/* SPDX-License-Identifier: MIT */
/* Keys in, lines out: the guests of a configuration, over VMs that only say what was done to them.
 */
#include <string.h>

#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/machine.h"
#include "boot/time.h"
#include "tdx/pamt.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/commands.h"
#include "vmm/guests.h"
#include "vmm/measure.h"
#include "vmm/monitor.h"
#include "vmm/schedule.h"
#include "vmm/selftest.h"
#include "vmm/vmcall.h"
#include "vmm/vmx_vm.h"

static struct config config;
static const char *typed;
static u32 idle, created, destroyed, started, stopped;
static enum error create_error, start_error;
static u32 moved_vcpu, moved_cpu;
static struct vcpu vcpu;
static const char *building_keys; /* what is typed while the second guest is built */

int console_read(void)
{
    return typed && *typed ? (u8)*typed++ : -1;
}

u64 time_us_to_tsc(u64 us)
{
    (void)us;
    return 0;
}

/* Nothing is left to do: whoever still runs is ended, so that the loop comes to its end. */
void interrupts_wait(void)
{
    assert_true(idle++ < 100);
    if (typed && *typed)
        return;
    for (u32 i = 0; i < guests_count(); i++)
        if (guest_has_vm(guest_at(i)))
            vm_end(&guest_at(i)->vm, VM_END_POWERED_OFF);
    if (idle > 50)
        typed = "\x15poweroff\r";
}

bool schedule_run(u64 wake_tsc)
{
    (void)wake_tsc;
    return false;
}

enum error schedule_move(struct vcpu *mover, u32 cpu)
{
    moved_vcpu = mover->index;
    mover->cpu = moved_cpu = cpu;
    return OK;
}

enum error vm_create(struct vm *vm, const struct guest_config *guest)
{
    created++;
    *vm = (struct vm){.config = guest, .lock = LOCK_INIT(RANK_VM, "vm"), .vcpu_count = 1};
    vm->vcpus[0] = &vcpu;
    uart_init(&vm->uart, guest_console_output, vm);
    ioapic_init(&vm->ioapic);
    if (building_keys && created == 2) {
        typed = building_keys;
        building_keys = NULL;
        monitor_breathe();
    }
    if (create_error)
        log_line("tain: guest %s was not built: refused", guest->name);
    return create_error;
}

enum error vm_start(struct vm *vm)
{
    (void)vm;
    started += !start_error;
    return start_error;
}

void vm_stop(struct vm *vm)
{
    (void)vm;
    stopped++;
}

void vm_pause(struct vm *vm)
{
    vm->paused = true;
}
void vm_resume(struct vm *vm)
{
    vm->paused = false;
}

enum error vm_destroy(struct vm *vm)
{
    (void)vm;
    destroyed++;
    return OK;
}

void vm_end(struct vm *vm, enum vm_end end)
{
    if (vm->end == VM_RUNS)
        vm->end = end;
}

enum error vm_audit(struct vm *vm)
{
    log_line("audit of %s", vm->config->name);
    return OK;
}

void vm_update_uart_line(struct vm *vm)
{
    (void)vm;
}

void summary_collect(struct vm_result *result, struct vm *vm)
{
    result->end = vm->end;
}
void summary_print(const struct vm *vm, const struct vm_result *result)
{
    log_line("%s ended: %s", vm->config->name,
             result->end == VM_END_BY_USER ? "by its user" : "powered off");
}
bool vm_result_is_good(const struct vm *vm, const struct vm_result *result)
{
    (void)vm;
    return result->end == VM_END_POWERED_OFF || result->end == VM_END_BY_USER;
}

bool measure_is_on(void)
{
    return false;
}
enum error measure_destroy(struct vm *vm)
{
    return vm_destroy(vm);
}
void selftest_before_start(struct vm *vm)
{
    (void)vm;
}
void selftest_before_audit(struct vm *vm)
{
    (void)vm;
}
enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES])
{
    (void)mirror;
    message[0] = 0;
    return OK;
}
enum error pamt_audit(char message[AUDIT_MESSAGE_BYTES])
{
    message[0] = 0;
    return OK;
}
enum error vmx_vm_audit(struct vm *vm)
{
    (void)vm;
    return OK;
}

void pages_statistics(struct pages_stats *stats)
{
    *stats = (struct pages_stats){.total_pages = 7, .pages = {[PAGE_FREE] = 5, [PAGE_VMM] = 2}};
}
const char *page_owner_name(enum page_owner owner)
{
    return owner == PAGE_FREE ? "free" : "VMM";
}

static int set_up(void **state)
{
    (void)state;
    host_cpu_count_set(2, 1);
    host_log_clear();
    memset(&config, 0, sizeof config);
    config.guest_count = 2;
    strcpy(config.guests[0].name, "one");
    strcpy(config.guests[1].name, "two");
    config.guests[1].kind = GUEST_VM;
    guests_init(&config);
    guest_console_init();
    idle = created = destroyed = started = stopped = 0;
    create_error = start_error = OK;
    moved_vcpu = moved_cpu = 99;
    memset(&vcpu, 0, sizeof vcpu);
    typed = building_keys = NULL;
    monitor_poll_at(0);
    return 0;
}

static void runs(const char *keys)
{
    typed = keys;
    monitor_run(false);
    for (u32 i = 0; i < guests_count(); i++)
        assert_int_equal(guest_at(i)->state, GUEST_ABSENT);
    assert_int_equal(started, stopped);
    assert_int_equal(destroyed, started);
    assert_null(guest_console_owner());
}

static void says(const char *text)
{
    if (!strstr(host_log(), text))
        fail_msg("'%s' is not in:\n%s", text, host_log());
}

static void all_guests_run_and_the_line_passes_on(void **state)
{
    (void)state;
    runs(NULL);
    assert_int_equal(started, 2);
    says("tain: console of guest one;");
    const char *one = strstr(host_log(), "one ended: powered off\n");
    assert_non_null(one);
    assert_non_null(strstr(one, "tain: console of guest two;"));
    assert_true(guests_were_good());
}

static void in_turn_one_ends_before_the_next_is_built(void **state)
{
    (void)state;
    monitor_run(true);
    const char *ended = strstr(host_log(), "one ended: powered off\n");
    assert_non_null(ended);
    assert_null(strstr(host_log(), "two ended: powered off\none"));
    assert_true(strstr(host_log(), "console of guest two") > ended);
}

static void keys_are_the_guest_s_but_for_ctrl_a(void **state)
{
    (void)state;
    typed = "a\x01"
            "ab\x01zc";
    runs(typed);
    /* Its VM is gone, but its UART still shows what came. */
    const struct uart *uart = &guest_at(0)->vm.uart;
    assert_int_equal(uart->input_end - uart->input_start, 4);
    assert_memory_equal(uart->input,
                        "a\x01"
                        "bc",
                        4);
}

static void ctrl_a_x_ends_the_guest_that_has_the_line(void **state)
{
    (void)state;
    runs("\x01x");
    says("one ended: by its user\n");
    says("two ended: powered off\n");
}

static void ctrl_a_n_goes_from_guest_to_guest(void **state)
{
    (void)state;
    runs("\x01nq\x01nr\x01m");
    assert_int_equal(guest_at(0)->vm.uart.input[0], 'r');
    assert_int_equal(guest_at(1)->vm.uart.input[0], 'q');
    says("audit of one\n");
}

static void what_a_guest_prints_behind_the_scenes_is_kept(void **state)
{
    (void)state;
    struct vm *one = &guest_at(0)->vm, *two = &guest_at(1)->vm;
    assert_int_equal(guest_start(guest_at(0)), OK);
    assert_int_equal(guest_start(guest_at(1)), OK);
    for (const char *c = "seen"; *c; c++)
        guest_console_output(one, (u8)*c);
    for (u32 i = 0; i < CONSOLE_KEPT_BYTES; i++)
        guest_console_output(two, '-');
    guest_console_output(two, 'K');
    says("s\ne\ne\nn\n"); /* a line each is the host's way */
    assert_null(strchr(host_log(), 'K'));
    guest_console_give(two);
    assert_string_equal(host_log() + strlen(host_log()) - 4, "-\nK\n");
    guest_console_output(one, 'L');
    assert_null(strchr(host_log(), 'L'));
    assert_int_equal(guest_stop(guest_at(0)), OK);
    says("tain: what guest one printed behind the others:\nL\n");
    assert_int_equal(guest_stop(guest_at(1)), OK);
    guest_console_give(NULL);
}

static void commands_start_and_stop_guests(void **state)
{
    (void)state;
    runs("\x01"
         "cpause one\rguests\rresume one\rstop one\rstart one\rstop two\rguests\rpoweroff\r");
    says("monitor: guest one is paused\n");
    says("one: td, paused, ");
    says("monitor: guest one is running\n");
    says("monitor: guest one is absent\n");
    says("two: vm, absent, 0 MiB, 0 vCPUs, started 1 time\n");
    says("one: td, running, 0 MiB, 0 vCPUs, started 2 times\n");
    assert_int_equal(started, 3);
}

static void other_commands_answer(void **state)
{
    (void)state;
    runs("\x01"
         "chelp\rmemory\raudit\raudit two\rmove one 0 1\rpoweroff\r");
    says("move GUEST VCPU PROCESSOR: ");
    says("free: 5 pages\n");
    says("sum: 7 pages\n");
    says("audit of one\naudit of two\n");
    assert_int_equal(moved_vcpu, 0);
    assert_int_equal(moved_cpu, 1);
    says("monitor: vCPU 0 of guest one is on processor 1\n");
}

static void what_is_wrong_is_said_in_a_line(void **state)
{
    (void)state;
    runs("\x01"
         "cfrob\rstop\rstop three\rstart one\rresume two\rmove one 1 0\rmove one 0 2\r"
         "stop one\rconsole one\rstop one\r   \rpoweroff\r");
    says("monitor: 'frob' is no command; 'help' lists them\n");
    says("monitor: stop GUEST\n");
    says("monitor: tain.cfg has no guest 'three'\n");
    says("monitor: guest one is running: it cannot be started\n");
    says("monitor: guest two is running: it cannot be resumed\n");
    says("monitor: guest one has no vCPU 1, or the machine no processor 0\n");
    says("monitor: guest one has no vCPU 0, or the machine no processor 2\n");
    says("monitor: guest one is absent: it has no console now\n");
    says("monitor: guest one is absent: it cannot be stopped\n");
    assert_int_equal(moved_cpu, 99);
}

static void lines_can_be_edited(void **state)
{
    (void)state;
    runs("\x01"
         "cxx\x15memm\x7fory\rpoweroff\r");
    says("sum: 7 pages\n");
}

static void a_console_comes_back_from_the_monitor(void **state)
{
    (void)state;
    runs("\x01"
         "cconsole two\rk");
    assert_int_equal(guest_at(1)->vm.uart.input[0], 'k');
}

static void while_one_is_built_no_other_is_touched(void **state)
{
    (void)state;
    building_keys = "\x01"
                    "cstop one\rguests\r\x01n";
    runs(NULL);
    says("monitor: a guest is being built: stop has to wait\n");
    says("two: vm, being built, ");
    assert_int_equal(started, 2);
}

static void a_guest_that_is_not_built_makes_the_run_bad(void **state)
{
    (void)state;
    start_error = ERR_RANGE;
    monitor_run(false);
    assert_int_equal(created, 2);
    assert_int_equal(destroyed, 2);
    assert_false(guests_were_good());
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_guests_run_and_the_line_passes_on),
        TEST(in_turn_one_ends_before_the_next_is_built),
        TEST(keys_are_the_guest_s_but_for_ctrl_a),
        TEST(ctrl_a_x_ends_the_guest_that_has_the_line),
        TEST(ctrl_a_n_goes_from_guest_to_guest),
        TEST(what_a_guest_prints_behind_the_scenes_is_kept),
        TEST(commands_start_and_stop_guests),
        TEST(other_commands_answer),
        TEST(what_is_wrong_is_said_in_a_line),
        TEST(lines_can_be_edited),
        TEST(a_console_comes_back_from_the_monitor),
        TEST(while_one_is_built_no_other_is_touched),
        TEST(a_guest_that_is_not_built_makes_the_run_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
