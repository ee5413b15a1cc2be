/* SPDX-License-Identifier: MIT */
/*
 * A driver on one processor and its device on another, which leave each other alone as the event
 * indices allow: no notice and no interrupt may get lost.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "tests/host/cmocka.h"
#include "tests/vmm/virtio_driver.h"
#include "vmm/virtio_console.h"

#define SLOT 1
#define RINGS (GUEST_RAM + 0x10000)
#define BUFFER (GUEST_RAM + 0x40000)
#define TRANSMIT 1
#define REQUESTS 30000u
#define PATIENCE_S 20

static struct device_guest guest;
static struct virtio_console console;
static struct virtio_driver driver;
static _Atomic u32 kicks;
static _Atomic bool is_over;
static u64 printed_bytes;

static void print(void *context, const u8 *bytes, u32 len_bytes)
{
    (void)context;
    (void)bytes;
    printed_bytes += len_bytes;
}

/* The processor that the notices arrive at. */
static void *serve(void *context)
{
    (void)context;
    u64 at = driver.notify + TRANSMIT * driver.notify_multiplier;
    u32 served = 0;
    while (!is_over) {
        if (served == kicks)
            continue;
        served = kicks;
        (void)pci_mmio_write(&guest.bus, gpa(at), 2, TRANSMIT);
    }
    return NULL;
}

static volatile u16 *word(u64 address)
{
    return guest_at(&guest, address);
}

/* Waits for what `arrived` counts; both sides' last words were written before. */
static void wait_until_more(const u32 *arrived, u32 before, const char *what)
{
    time_t end = time(NULL) + PATIENCE_S;
    while (__atomic_load_n(arrived, __ATOMIC_SEQ_CST) == before) {
        sched_yield();
        if (time(NULL) > end)
            fail_msg("%s got lost", what);
    }
}

static void nothing_gets_lost(void **state)
{
    (void)state;
    pthread_t device;
    device_guest_init(&guest, "g");
    virtio_console_init(&console, &guest.host, print, &guest);
    pci_add(&guest.bus, &console.device.pci, SLOT, gpa(0xc0000000), 16);
    driver_find(&driver, &guest, SLOT);
    driver_start(&driver, ~0ull, 2, RINGS);
    driver_vectors(&driver, 2);
    struct driver_queue *queue = &driver.queues[TRANSMIT];
    volatile u16 *used_index = word(queue->base + QUEUE_USED + 2);
    volatile u16 *wish = word(queue->base + QUEUE_AVAILABLE + 4 + 2 * queue->size);
    volatile u16 *device_wish = word(queue->base + QUEUE_USED + 4 + 8 * queue->size);
    pthread_create(&device, NULL, serve, NULL);
    for (u32 i = 0; i < REQUESTS; i++) {
        u16 most = (u16)(i * 7 / 3 % queue->size);
        while ((u16)(queue->offered - *used_index) > most) {
            u32 before = __atomic_load_n(&guest.messages[TRANSMIT], __ATOMIC_SEQ_CST);
            *wish = *used_index;
            atomic_thread_fence(memory_order_seq_cst);
            if ((u16)(queue->offered - *used_index) > most)
                wait_until_more(&guest.messages[TRANSMIT], before, "a notice or an interrupt");
        }
        for (volatile u32 delay = i * 31 % 200; delay; delay--)
            ;
        driver_add(&driver, TRANSMIT, &(struct driver_buffer){BUFFER, 3, DRIVER_READABLE}, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if ((u16)(queue->offered - *device_wish - 1) < 1)
            kicks++;
    }
    time_t end = time(NULL) + PATIENCE_S;
    while (*used_index != queue->offered && time(NULL) <= end)
        sched_yield();
    assert_int_equal(*used_index, queue->offered);
    is_over = true;
    pthread_join(device, NULL);
    assert_int_equal(printed_bytes, 3ull * REQUESTS);
    assert_true(kicks < REQUESTS && guest.messages[TRANSMIT] < REQUESTS);
    print_message("%u requests, %u notices, %u interrupts\n", REQUESTS, kicks,
                  guest.messages[TRANSMIT]);
    device_guest_destroy(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_gets_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
