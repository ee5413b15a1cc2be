/* SPDX-License-Identifier: MIT */
#include "vmm/schedule.h"

#include "boot/apic.h"
#include "boot/assert.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/time.h"
#include "boot/x86.h"
#include "vmm/run.h"
#include "vmm/vm.h"

#define QUEUE_VCPUS_MAX 128

/* An idle processor looks around that often: an emulator may lose a kick. */
#define IDLE_US 100000

struct queue {
    struct vcpu *vcpus[QUEUE_VCPUS_MAX];
    _Atomic u32 count;
    u64 floor;     /* the turn of the vCPU that runs: who wakes has none before */
    u64 yield_tsc; /* the slice ends then */
};

static struct queue queues[CPU_MAX];

static struct queue *queue_here(void)
{
    return &queues[cpu_this()->index];
}

u32 schedule_place(u32 from)
{
    u32 best = from % cpu_count();
    for (u32 i = 1; i < cpu_count(); i++) {
        u32 cpu = (from + i) % cpu_count();
        if (queues[cpu].count < queues[best].count)
            best = cpu;
    }
    return best;
}

/* --- Changes of a queue, on its processor --------------------------------------------------------
 */

struct change {
    struct vcpu *vcpu;
    enum error error;
};

static void add_here(void *argument)
{
    struct change *change = argument;
    struct queue *queue = queue_here();
    change->error = queue->count == QUEUE_VCPUS_MAX ? ERR_RANGE : OK;
    if (change->error)
        return;
    change->vcpu->turn = queue->floor;
    queue->vcpus[queue->count] = change->vcpu;
    queue->count++;
}

static void remove_here(void *argument)
{
    struct change *change = argument;
    struct queue *queue = queue_here();
    vcpu_leave(change->vcpu);
    for (u32 i = 0; i < queue->count; i++) {
        if (queue->vcpus[i] != change->vcpu)
            continue;
        queue->vcpus[i] = queue->vcpus[queue->count - 1];
        queue->count--;
        return;
    }
}

enum error schedule_add(struct vcpu *vcpu)
{
    struct change change = {vcpu, OK};
    cpu_run_on(vcpu->cpu, add_here, &change);
    return change.error;
}

void schedule_remove(struct vcpu *vcpu)
{
    struct change change = {vcpu, OK};
    cpu_run_on(vcpu->cpu, remove_here, &change);
}

enum error schedule_move(struct vcpu *vcpu, u32 cpu)
{
    u32 old = vcpu->cpu;
    schedule_remove(vcpu);
    vcpu->cpu = cpu;
    enum error e = schedule_add(vcpu);
    if (!e)
        return OK;
    vcpu->cpu = old;
    enum error back = schedule_add(vcpu); /* where there was room a moment ago */
    ASSERT(!back);
    return e;
}

/* --- Slices --------------------------------------------------------------------------------------
 */

static u64 earlier(u64 a, u64 b)
{
    return a < b ? a : b;
}

/* Who slept is not owed the time that it did not want. */
static void note_woken(const struct queue *queue, struct vcpu *vcpu)
{
    if (vcpu->turn < queue->floor)
        vcpu->turn = queue->floor;
}

/* The next to run; `*ready` says how many can, `*wake_tsc` when the first of the others will. */
static struct vcpu *queue_pick(const struct queue *queue, u64 now, u32 *ready, u64 *wake_tsc)
{
    struct vcpu *next = NULL;
    *ready = 0;
    for (u32 i = 0; i < queue->count; i++) {
        struct vcpu *vcpu = queue->vcpus[i];
        bool slept = vcpu->halted;
        if (!vcpu_can_run(vcpu, now)) {
            *wake_tsc = earlier(*wake_tsc, vcpu_wake_tsc(vcpu));
            continue;
        }
        if (slept)
            note_woken(queue, vcpu);
        if (!next || vcpu->turn < next->turn)
            next = vcpu;
        ++*ready;
    }
    return next;
}

bool schedule_run(u64 wake_tsc)
{
    struct queue *queue = queue_here();
    u64 now = tsc_read();
    u32 ready;
    interrupts_window();
    atomic_store(&cpu_this()->kicked, false); /* before the look: a later kick counts */
    struct vcpu *next = queue_pick(queue, now, &ready, &wake_tsc);
    if (!next) {
        apic_timer_arm(earlier(wake_tsc, now + time_us_to_tsc(IDLE_US)));
        return false;
    }
    queue->floor = next->turn;
    queue->yield_tsc = wake_tsc;
    if (ready > 1)
        queue->yield_tsc = earlier(wake_tsc, now + time_us_to_tsc(SCHEDULE_SLICE_US));
    vcpu_run(next);
    u64 ticks = tsc_read() - now;
    next->ran_ticks += ticks;
    next->turn += ticks;
    return true;
}

void schedule_kick(u32 cpu)
{
    if (cpu == cpu_this()->index)
        atomic_store(&cpu_this()->kicked, true);
    else
        cpu_kick(cpu);
}

bool schedule_must_yield(u64 now)
{
    return now >= queue_here()->yield_tsc;
}

u64 schedule_yield_tsc(void)
{
    return queue_here()->yield_tsc;
}
