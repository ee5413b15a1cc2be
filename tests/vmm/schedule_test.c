/* SPDX-License-Identifier: MIT */
/* Queues of vCPUs on a clock of the test's own: who runs, for how long, and who waits. */
#include <string.h>

#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/time.h"
#include "boot/x86.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "vmm/run.h"
#include "vmm/schedule.h"
#include "vmm/vm.h"

#define VCPUS 4
#define NEVER (~0ull)

static struct vm vm;
static struct vcpu vcpus[VCPUS];
static u64 wakes[VCPUS]; /* when one that waits can run; 0: it does not wait */
static u64 ran[VCPUS];   /* ticks of the test's clock */
static u32 slices[VCPUS], left[VCPUS];
static u64 armed, longest, uses; /* how long a slice lasts, unless it must yield before */
static u32 last;

u64 time_us_to_tsc(u64 us)
{
    return us * 1000000; /* far longer than a test */
}

void interrupts_window(void) {}

void apic_timer_arm(u64 tsc)
{
    armed = tsc;
}

bool vcpu_can_run(struct vcpu *vcpu, u64 now)
{
    if (vcpu->vm->paused)
        return false;
    if (vcpu->halted && now >= wakes[vcpu->index])
        vcpu->halted = false;
    return !vcpu->halted;
}

u64 vcpu_wake_tsc(struct vcpu *vcpu)
{
    return vcpu->vm->paused ? NEVER : wakes[vcpu->index];
}

void vcpu_leave(const struct vcpu *vcpu)
{
    left[vcpu->index]++;
}

/* Spins for as long as it is to use the processor. */
void vcpu_run(struct vcpu *vcpu)
{
    assert_int_equal(vcpu->cpu, cpu_this()->index);
    u64 start = tsc_read();
    while (tsc_read() - start < uses && !schedule_must_yield(tsc_read()))
        ;
    last = vcpu->index;
    slices[last]++;
    u64 ticks = tsc_read() - start;
    ran[last] += ticks;
    longest = ticks > longest ? ticks : longest;
}

static int set_up(void **state)
{
    (void)state;
    host_cpu_count_set(2, 1);
    host_cpu_set(0);
    memset(vcpus, 0, sizeof vcpus);
    memset(wakes, 0, sizeof wakes);
    memset(ran, 0, sizeof ran);
    memset(slices, 0, sizeof slices);
    memset(left, 0, sizeof left);
    vm.paused = false;
    uses = 100000;
    armed = longest = 0;
    for (u32 i = 0; i < VCPUS; i++) {
        vcpus[i].index = i;
        vcpus[i].vm = &vm;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    host_cpu_set(0);
    for (u32 i = 0; i < VCPUS; i++)
        schedule_remove(&vcpus[i]);
    assert_false(schedule_run(NEVER));
    return 0;
}

static void add(u32 from, u32 count, u32 cpu)
{
    for (u32 i = from; i < from + count; i++) {
        vcpus[i].cpu = cpu;
        assert_int_equal(schedule_add(&vcpus[i]), OK);
    }
}

static void an_empty_queue_arms_the_timer_and_says_so(void **state)
{
    (void)state;
    u64 wake = tsc_read() + 5000;
    assert_false(schedule_run(wake));
    assert_true(armed == wake);
    assert_false(schedule_run(NEVER));
    assert_true(armed != NEVER); /* an idle processor looks again, kicked or not */
}

/* On any machine, however it interrupts us: nobody is ahead by more than two slices. */
static void is_fair(u64 a, u64 b)
{
    assert_true(a > 0 && b > 0);
    assert_true((a > b ? a - b : b - a) <= 2 * longest);
}

static void vcpus_share_a_processor_fairly(void **state)
{
    (void)state;
    add(0, 3, 0);
    for (u32 i = 0; i < 300; i++)
        assert_true(schedule_run(NEVER));
    is_fair(ran[0], ran[1]);
    is_fair(ran[1], ran[2]);
}

static void who_slept_does_not_get_the_time_back(void **state)
{
    (void)state;
    add(0, 2, 0);
    vcpus[1].halted = true;
    wakes[1] = NEVER;
    for (u32 i = 0; i < 50; i++)
        assert_true(schedule_run(NEVER));
    assert_int_equal(slices[0], 50);
    wakes[1] = 0;
    u64 before = ran[0];
    assert_true(before > 3 * longest || longest > 10 * uses);
    for (u32 i = 0; i < 20; i++)
        assert_true(schedule_run(NEVER));
    is_fair(ran[0] - before, ran[1]);
}

static void a_slice_is_bounded_where_others_wait_for_it(void **state)
{
    (void)state;
    add(0, 1, 0);
    u64 now = tsc_read();
    uses = 0;
    assert_true(schedule_run(NEVER));
    assert_true(schedule_yield_tsc() == NEVER); /* alone */
    assert_true(schedule_run(now + 777));
    assert_true(schedule_yield_tsc() == now + 777);
    add(1, 1, 0);
    assert_true(schedule_run(NEVER));
    assert_true(schedule_yield_tsc() != NEVER);
    /* One that will wake ends it too. */
    vcpus[1].halted = true;
    wakes[1] = tsc_read() + 1000000000ull;
    assert_true(schedule_run(NEVER));
    assert_true(schedule_yield_tsc() == wakes[1]);
}

static void processors_have_queues_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(schedule_place(0), 0);
    assert_int_equal(schedule_place(1), 1);
    add(0, 2, 0);
    add(2, 1, 1);
    assert_int_equal(schedule_place(0), 1);
    uses = 0;
    host_cpu_set(1);
    assert_true(schedule_run(NEVER));
    assert_int_equal(last, 2);
    assert_int_equal(slices[0] + slices[1], 0);
}

static void a_vcpu_moves_to_another_processor(void **state)
{
    (void)state;
    uses = 0;
    add(0, 1, 0);
    assert_int_equal(schedule_move(&vcpus[0], 1), OK);
    assert_int_equal(left[0], 1); /* what the processor held of it was taken out */
    assert_false(schedule_run(NEVER));
    host_cpu_set(1);
    assert_true(schedule_run(NEVER));
    assert_int_equal(slices[0], 1);
}

static void a_paused_vm_gets_no_slice(void **state)
{
    (void)state;
    add(0, 2, 0);
    vm.paused = true;
    assert_false(schedule_run(NEVER));
    vm.paused = false;
    uses = 0;
    assert_true(schedule_run(NEVER));
}

static void a_kick_reaches_its_processor(void **state)
{
    (void)state;
    for (u32 cpu = 0; cpu < 2; cpu++) {
        cpu_at(0)->kicked = cpu_at(1)->kicked = false;
        schedule_kick(cpu);
        assert_true(cpu_at(cpu)->kicked);
        assert_false(cpu_at(1 - cpu)->kicked);
    }
    /* A look clears it before it looks. */
    (void)schedule_run(NEVER);
    assert_false(cpu_at(0)->kicked);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_queue_arms_the_timer_and_says_so),
        TEST(vcpus_share_a_processor_fairly),
        TEST(who_slept_does_not_get_the_time_back),
        TEST(a_slice_is_bounded_where_others_wait_for_it),
        TEST(processors_have_queues_of_their_own),
        TEST(a_vcpu_moves_to_another_processor),
        TEST(a_paused_vm_gets_no_slice),
        TEST(a_kick_reaches_its_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
