/* SPDX-License-Identifier: MIT */
/* Guests on several processors send to each other at once, under the thread sanitizer. */
#include "vmm/net_switch.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/host/machine.h"

#define GUESTS 3u
#define FRAMES 20000u

static struct net_switch net;
static pthread_barrier_t all_are_there;
static struct member {
    u32 index;
    struct lock lock; /* of its devices */
    struct switch_port port;
    _Atomic u32 wakes;
    u64 torn;
} * members;

static void wake(void *context)
{
    struct member *member = context;
    member->wakes++;
}

static struct mac mac_of(u32 index)
{
    return (struct mac){{0x52, 0x54, 0, 0, 0, (u8)index}};
}

static void send(struct member *member, u32 number)
{
    u8 frame[FRAME_BYTES_MAX];
    u32 len = 64 + number % 256;
    struct mac to = mac_of((member->index + 1 + number % 2) % GUESTS), from = mac_of(member->index);
    memset(frame, (u8)number, len);
    memcpy(frame, &to, sizeof to);
    memcpy(frame + MAC_BYTES, &from, sizeof from);
    switch_send(&member->port, frame, len);
}

/* All that waits; a frame is whole, or it counts as torn. */
static void receive(struct member *member)
{
    u8 frame[FRAME_BYTES_MAX];
    u32 len;
    while (switch_frame_waits(&member->port) && (len = switch_receive(&member->port, frame)))
        for (u32 i = 2 * MAC_BYTES; i < len; i++)
            member->torn += frame[i] != frame[2 * MAC_BYTES];
}

static void *run(void *context)
{
    struct member *member = context;
    host_cpu_set(member->index);
    pthread_barrier_wait(&all_are_there);
    for (u32 i = 0; i < FRAMES; i++) {
        lock_take(&member->lock);
        send(member, i);
        if (i % 8 == 0)
            receive(member);
        if (i % 4096 == 0) {
            switch_port_close(&member->port);
            switch_port_open(&member->port);
        }
        lock_release(&member->lock);
        sched_yield();
    }
    return NULL;
}

static void frames_are_whole_and_counted(void **state)
{
    (void)state;
    pthread_t threads[GUESTS];
    u64 sent = 0, arrived = 0;
    members = calloc(GUESTS, sizeof *members);
    net_switch_init(&net);
    pthread_barrier_init(&all_are_there, NULL, GUESTS);
    for (u32 i = 0; i < GUESTS; i++) {
        members[i].index = i;
        members[i].lock = LOCK_INIT(RANK_VM, "devices");
        members[i].port.mac = mac_of(i);
        members[i].port.wake = wake;
        members[i].port.context = &members[i];
        assert_int_equal(switch_port_attach(&net, &members[i].port), OK);
        switch_port_open(&members[i].port);
    }
    for (u32 i = 0; i < GUESTS; i++)
        pthread_create(&threads[i], NULL, run, &members[i]);
    for (u32 i = 0; i < GUESTS; i++)
        pthread_join(threads[i], NULL);
    for (u32 i = 0; i < GUESTS; i++) {
        struct switch_port *port = &members[i].port;
        receive(&members[i]);
        assert_int_equal(members[i].torn, 0);
        assert_true(port->received > 0);
        /* Closing drops frames that it had woken for. */
        assert_true(members[i].wakes >= port->received);
        sent += port->sent;
        arrived += members[i].wakes + port->dropped;
    }
    assert_int_equal(sent, GUESTS * FRAMES);
    assert_int_equal(arrived, sent);
    pthread_barrier_destroy(&all_are_there);
    free(members);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames_are_whole_and_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
