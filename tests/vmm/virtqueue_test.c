/* SPDX-License-Identifier: MIT */
/* Split rings of correct drivers, and what hostile ones put into them. */
#include "vmm/virtqueue.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/cmocka.h"
#include "tests/vmm/device_guest.h"

#define DESCRIPTORS (GUEST_RAM + 0x1000)
#define AVAILABLE (GUEST_RAM + 0x3000)
#define USED (GUEST_RAM + 0x5000)
#define INDIRECT (GUEST_RAM + 0x7000)
#define BUFFERS (GUEST_RAM + 0x20000)
#define SIZE 8

#define NEXT 1u
#define WRITE 2u
#define TABLE 4u

static struct device_guest guest;
static struct virtqueue queue;
static struct virtqueue_chain *chain;

static int set_up(void **state)
{
    (void)state;
    device_guest_init(&guest, "g");
    memset(guest_at(&guest, DESCRIPTORS), 0, BUFFERS - DESCRIPTORS);
    chain = malloc(sizeof *chain);
    queue = (struct virtqueue){.host = &guest.host,
                               .size = SIZE,
                               .descriptors = gpa(DESCRIPTORS),
                               .available = gpa(AVAILABLE),
                               .used = gpa(USED),
                               .indirect = true};
    assert_true(virtqueue_enable(&queue));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(chain);
    device_guest_destroy(&guest);
    return 0;
}

static void put16(u64 address, u16 value)
{
    memcpy(guest_at(&guest, address), &value, sizeof value);
}

static u16 get16(u64 address)
{
    u16 value;
    memcpy(&value, guest_at(&guest, address), sizeof value);
    return value;
}

static u32 get32(u64 address)
{
    u32 value;
    memcpy(&value, guest_at(&guest, address), sizeof value);
    return value;
}

struct row {
    u64 address;
    u32 len;
    u16 flags, next;
};

static void describe(u64 table, u32 index, struct row row)
{
    memcpy(guest_at(&guest, table + index * 16), &row, sizeof row);
}

static void offer(u16 head)
{
    u16 index = get16(AVAILABLE + 2);
    put16(AVAILABLE + 4 + index % queue.size * 2, head);
    put16(AVAILABLE + 2, index + 1);
}

static void a_chain_is_read_and_written_in_order(void **state)
{
    (void)state;
    u8 bytes[8];
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_EMPTY);
    describe(DESCRIPTORS, 5, (struct row){BUFFERS, 3, NEXT, 2});
    describe(DESCRIPTORS, 2, (struct row){BUFFERS + 0x100, 5, NEXT, 7});
    describe(DESCRIPTORS, 7, (struct row){BUFFERS + 0x200, 4, NEXT | WRITE, 0});
    describe(DESCRIPTORS, 0, (struct row){BUFFERS + 0x300, 4, WRITE, 99});
    memcpy(guest_at(&guest, BUFFERS), "abc", 3);
    memcpy(guest_at(&guest, BUFFERS + 0x100), "defgh", 5);
    offer(5);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
    assert_int_equal(chain->head, 5);
    assert_int_equal(chain->readable_bytes, 8);
    assert_int_equal(chain->writable_bytes, 8);
    assert_true(chain_read(&queue, chain, bytes, 1));
    assert_true(chain_read(&queue, chain, bytes + 1, 7));
    assert_memory_equal(bytes, "abcdefgh", 8);
    assert_true(chain_write(&queue, chain, "123456", 6));
    chain_seek_writable(chain, 7);
    assert_true(chain_write(&queue, chain, "8", 1));
    assert_memory_equal(guest_at(&guest, BUFFERS + 0x200), "1234\xd5", 5);
    assert_memory_equal(guest_at(&guest, BUFFERS + 0x300),
                        "56\xd5"
                        "8\xd5",
                        5);
    assert_true(virtqueue_push(&queue, chain->head, 8));
    assert_int_equal(get16(USED + 2), 1);
    assert_int_equal(get32(USED + 4), 5);
    assert_int_equal(get32(USED + 8), 8);
    /* Both parts end where they end. */
    assert_false(chain_read(&queue, chain, bytes, 1));
    assert_string_equal(queue.wrong.what, "a request that is too short to read");
    assert_false(chain_write(&queue, chain, bytes, 1));
    assert_string_equal(queue.wrong.what, "a request that is too short to write");
    chain_seek_writable(chain, 100);
    assert_false(chain_write(&queue, chain, bytes, 1));
    chain_seek_writable(chain, 0);
    assert_true(chain_write(&queue, chain, "x", 1));
    assert_memory_equal(guest_at(&guest, BUFFERS + 0x200), "x234\xd5", 5);
}

static void an_indirect_table_may_be_longer_than_its_queue(void **state)
{
    (void)state;
    describe(DESCRIPTORS, 1, (struct row){BUFFERS, 1, NEXT, 3});
    describe(DESCRIPTORS, 3, (struct row){INDIRECT, 16 * 20, TABLE | WRITE, 0});
    for (u32 i = 0; i < 20; i++)
        describe(INDIRECT, i,
                 (struct row){BUFFERS + 0x100 * i, 2, i < 19 ? NEXT | WRITE : WRITE, (u16)(i + 1)});
    offer(1);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
    assert_int_equal(chain->count, 21);
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_bytes, 40);
}

static void indices_run_free_and_wrap(void **state)
{
    (void)state;
    for (u32 i = 0; i < SIZE; i++)
        describe(DESCRIPTORS, i, (struct row){BUFFERS, 1, WRITE, 0});
    for (u32 i = 0; i < 0x10000 + 20; i++) {
        offer((u16)(i * 5 % SIZE));
        assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
        assert_int_equal(chain->head, i * 5 % SIZE);
        assert_true(virtqueue_push(&queue, chain->head, i));
        assert_int_equal(get16(USED + 2), (u16)(i + 1));
        assert_int_equal(get32(USED + 4 + i % SIZE * 8 + 4), i);
    }
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_EMPTY);
}

static void push(u32 count)
{
    for (u32 i = 0; i < count; i++)
        assert_true(virtqueue_push(&queue, 0, 0));
}

static bool interrupt_is_wanted(void)
{
    bool wanted;
    assert_true(virtqueue_interrupt(&queue, &wanted));
    return wanted;
}

static void a_flag_keeps_interrupts_off(void **state)
{
    (void)state;
    assert_false(interrupt_is_wanted());
    push(1);
    assert_true(interrupt_is_wanted());
    assert_false(interrupt_is_wanted());
    put16(AVAILABLE, 1);
    push(1);
    assert_false(interrupt_is_wanted());
}

static void with_event_indices_both_sides_ask(void **state)
{
    (void)state;
    const u64 used_event = AVAILABLE + 4 + 2 * SIZE, available_event = USED + 4 + 8 * SIZE;
    queue.event_index = true;
    put16(AVAILABLE, 1); /* not looked at */
    push(1);
    assert_true(interrupt_is_wanted());
    put16(used_event, 3);
    push(2);
    assert_false(interrupt_is_wanted());
    push(1);
    assert_true(interrupt_is_wanted());
    put16(used_event, 6);
    push(5);
    assert_true(interrupt_is_wanted()); /* passed it */
    push(1);
    assert_false(interrupt_is_wanted());

    put16(available_event, 0xeeee);
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 1, WRITE, 0});
    offer(0);
    offer(0);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
    assert_int_equal(get16(available_event), 0xeeee);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_EMPTY);
    assert_int_equal(get16(available_event), 2);
}

/* --- Queues that are not started ------------------------------------------------------------- */

static void queues_that_make_no_sense_are_not_enabled(void **state)
{
    (void)state;
    static const struct {
        u16 size;
        u64 descriptors, available, used;
        const char *what;
    } rows[] = {
        {0, DESCRIPTORS, AVAILABLE, USED, "the size is no power of two in range"},
        {3, DESCRIPTORS, AVAILABLE, USED, "the size is no power of two in range"},
        {512, DESCRIPTORS, AVAILABLE, USED, "the size is no power of two in range"},
        {0xffff, DESCRIPTORS, AVAILABLE, USED, "the size is no power of two in range"},
        {8, DESCRIPTORS + 8, AVAILABLE, USED, "the descriptor table's address"},
        {8, ~0ull << 4, AVAILABLE, USED, "the descriptor table's address"},
        {8, DESCRIPTORS, AVAILABLE + 1, USED, "the available ring's address"},
        {8, DESCRIPTORS, ~0ull << 1, USED, "the available ring's address"},
        {8, DESCRIPTORS, AVAILABLE, USED + 2, "the used ring's address"},
        {8, DESCRIPTORS, AVAILABLE, ~0ull << 2, "the used ring's address"},
    };
    for (u32 i = 0; i < ARRAY_LENGTH(rows); i++) {
        queue = (struct virtqueue){.host = &guest.host,
                                   .size = rows[i].size,
                                   .descriptors = gpa(rows[i].descriptors),
                                   .available = gpa(rows[i].available),
                                   .used = gpa(rows[i].used)};
        assert_false(virtqueue_enable(&queue));
        assert_false(queue.is_enabled);
        assert_string_equal(queue.wrong.what, rows[i].what);
    }
}

/* --- Chains of hostile drivers --------------------------------------------------------------- */

static void no_memory_for_descriptors(void)
{
    queue.descriptors = gpa(0x1000);
}
static void private_descriptors(void)
{
    guest.private_start = DESCRIPTORS + 16;
    guest.private_end = DESCRIPTORS + 32;
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, NEXT, 1});
}
static void no_memory_for_available(void)
{
    queue.available = gpa(GUEST_RAM + GUEST_RAM_BYTES);
}
static void private_entries(void)
{
    guest.private_start = AVAILABLE + 4;
    guest.private_end = AVAILABLE + 6;
}
static void index_jumps(void)
{
    put16(AVAILABLE + 2, SIZE + 1);
}
static void index_goes_back(void)
{
    put16(AVAILABLE + 2, 0xffff);
}
static void head_beyond(void)
{
    put16(AVAILABLE + 4, SIZE);
}
static void next_beyond(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, NEXT, SIZE});
}
static void next_far_beyond(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, NEXT, 0xffff});
}
static void loop_of_one(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, NEXT, 0});
}
static void loop_of_all(void)
{
    for (u16 i = 0; i < SIZE; i++)
        describe(DESCRIPTORS, i, (struct row){BUFFERS, 4, NEXT | WRITE, (u16)((i + 1) % SIZE)});
}
static void empty_buffer(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 0, WRITE, 0});
}
static void buffer_wraps(void)
{
    describe(DESCRIPTORS, 0, (struct row){~0ull - 3, 8, WRITE, 0});
}
static void total_wraps(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, ~0u, NEXT | WRITE, 1});
    describe(DESCRIPTORS, 1, (struct row){BUFFERS, 2, WRITE, 0});
}
static void writable_first(void)
{
    describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, NEXT | WRITE, 1});
    describe(DESCRIPTORS, 1, (struct row){BUFFERS, 4, 0, 0});
}
static void indirect_not_negotiated(void)
{
    queue.indirect = false;
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 16, TABLE, 0});
}
static void indirect_in_indirect(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 32, TABLE, 0});
    describe(INDIRECT, 0, (struct row){INDIRECT, 32, TABLE, 0});
}
static void indirect_later_in_indirect(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 32, TABLE, 0});
    describe(INDIRECT, 0, (struct row){BUFFERS, 4, NEXT, 1});
    describe(INDIRECT, 1, (struct row){INDIRECT, 32, TABLE, 0});
}
static void indirect_with_next(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 32, TABLE | NEXT, 1});
}
static void indirect_of_nothing(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 0, TABLE, 0});
}
static void indirect_of_half(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 24, TABLE, 0});
}
static void indirect_wraps(void)
{
    describe(DESCRIPTORS, 0, (struct row){~0ull << 4, 32, TABLE, 0});
}
static void indirect_is_no_memory(void)
{
    describe(DESCRIPTORS, 0, (struct row){0x1000, 32, TABLE, 0});
}
static void indirect_next_beyond(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 32, TABLE, 0});
    describe(INDIRECT, 0, (struct row){BUFFERS, 4, NEXT, 2});
}
static void indirect_loop(void)
{
    describe(DESCRIPTORS, 0, (struct row){INDIRECT, 0xfffffff0, TABLE, 0});
    describe(INDIRECT, 0, (struct row){BUFFERS, 4, NEXT, 0});
}

static const struct {
    void (*prepare)(void);
    const char *what;
} hostile[] = {
    {no_memory_for_descriptors, "descriptors in no memory for devices"},
    {private_descriptors, "descriptors in no memory for devices"},
    {no_memory_for_available, "the available ring is no memory for devices"},
    {private_entries, "the available ring is no memory for devices"},
    {index_jumps, "the available index jumps"},
    {index_goes_back, "the available index jumps"},
    {head_beyond, "a descriptor beyond its table"},
    {next_beyond, "a descriptor beyond its table"},
    {next_far_beyond, "a descriptor beyond its table"},
    {loop_of_one, "a chain that is too long, or a loop"},
    {loop_of_all, "a chain that is too long, or a loop"},
    {empty_buffer, "a buffer of no bytes"},
    {buffer_wraps, "a buffer that wraps"},
    {total_wraps, "a chain of 4 GiB or more"},
    {writable_first, "a readable buffer after a writable one"},
    {indirect_not_negotiated, "an indirect descriptor, which was not negotiated"},
    {indirect_in_indirect, "an indirect descriptor in an indirect table"},
    {indirect_later_in_indirect, "an indirect descriptor in an indirect table"},
    {indirect_with_next, "an indirect descriptor with a next one"},
    {indirect_of_nothing, "an indirect table's length"},
    {indirect_of_half, "an indirect table's length"},
    {indirect_wraps, "an indirect table that wraps"},
    {indirect_is_no_memory, "descriptors in no memory for devices"},
    {indirect_next_beyond, "a descriptor beyond its table"},
    {indirect_loop, "a chain that is too long, or a loop"},
};

static void hostile_chains_are_named_and_not_followed(void **state)
{
    for (u32 i = 0; i < ARRAY_LENGTH(hostile); i++) {
        tear_down(state);
        set_up(state);
        describe(DESCRIPTORS, 0, (struct row){BUFFERS, 4, WRITE, 0});
        offer(0);
        hostile[i].prepare();
        u8 *before = malloc(GUEST_RAM_BYTES);
        memcpy(before, guest.ram, GUEST_RAM_BYTES);
        assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_WRONG);
        assert_string_equal(queue.wrong.what, hostile[i].what);
        assert_true(guest.copies < 2 * VIRTQUEUE_CHAIN_MAX);
        assert_memory_equal(before, guest.ram, GUEST_RAM_BYTES);
        free(before);
    }
}

static void buffers_that_are_no_memory_are_not_touched(void **state)
{
    (void)state;
    char bytes[0x1800] = {0};
    describe(DESCRIPTORS, 0, (struct row){GUEST_RAM + GUEST_RAM_BYTES - 4, 8, NEXT, 1});
    describe(DESCRIPTORS, 1, (struct row){BUFFERS, 0x1800, WRITE, 0});
    guest.private_start = BUFFERS + 0x1000;
    guest.private_end = BUFFERS + 0x2000;
    offer(0);
    assert_int_equal(virtqueue_pop(&queue, chain), VIRTQUEUE_CHAIN);
    assert_false(chain_read(&queue, chain, bytes, 8));
    assert_string_equal(queue.wrong.what, "a buffer in no memory for devices");
    queue.wrong.what = "";
    assert_false(chain_write(&queue, chain, bytes, sizeof bytes));
    assert_string_equal(queue.wrong.what, "a buffer in no memory for devices");
    assert_int_equal(*(u8 *)guest_at(&guest, BUFFERS + 0x1000), GUEST_PATTERN);

    guest.private_start = USED;
    guest.private_end = USED + 2;
    assert_true(virtqueue_push(&queue, 0, 0)); /* its flags are not written */
    guest.private_start = USED + 4 + 8;
    guest.private_end = USED + 4 + 9;
    assert_false(virtqueue_push(&queue, 0, 0));
    assert_string_equal(queue.wrong.what, "the used ring is no memory for devices");
    assert_int_equal(get16(USED + 2), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_is_read_and_written_in_order),
        TEST(an_indirect_table_may_be_longer_than_its_queue),
        TEST(indices_run_free_and_wrap),
        TEST(a_flag_keeps_interrupts_off),
        TEST(with_event_indices_both_sides_ask),
        TEST(queues_that_make_no_sense_are_not_enabled),
        TEST(hostile_chains_are_named_and_not_followed),
        TEST(buffers_that_are_no_memory_are_not_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
