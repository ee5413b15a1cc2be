/* SPDX-License-Identifier: MIT */
#include "vmm/virtqueue.h"

#include <stdatomic.h>

/* A descriptor, as it lies in guest memory. */
struct descriptor {
    u64 address;
    u32 len_bytes;
    u16 flags, next;
};
_Static_assert(sizeof(struct descriptor) == 16, "a descriptor's size in memory");

#define DESCRIPTOR_NEXT 1u
#define DESCRIPTOR_WRITE 2u
#define DESCRIPTOR_INDIRECT 4u
#define DESCRIPTOR_ALIGN 16u

/* Available ring: flags, index, heads, used event. Used ring: flags, index, elements, available
 * event. */
#define AVAILABLE_NO_INTERRUPT 1u
#define AVAILABLE_ALIGN 2u
#define USED_ALIGN 4u
#define RING_FLAGS 0u
#define RING_INDEX 2u
#define RING_ENTRIES 4u

struct used_element {
    u32 id, len_bytes;
};

/* A total beyond this does not fit the length of a used element. */
#define CHAIN_BYTES_MAX 0xffffffffull

bool virtqueue_is_wrong(struct virtqueue *queue, const char *what, u64 value)
{
    queue->wrong = (struct virtqueue_wrong){.what = what, .value = value};
    return false;
}

/* --- The rings in guest memory --------------------------------------------------------------- */

static gpa_t available_at(const struct virtqueue *queue, u32 offset)
{
    return gpa(queue->available.raw + offset);
}

static gpa_t used_at(const struct virtqueue *queue, u32 offset)
{
    return gpa(queue->used.raw + offset);
}

static u32 available_entry(const struct virtqueue *queue, u16 index)
{
    return RING_ENTRIES + index % queue->size * (u32)sizeof(u16);
}

static u32 used_entry(const struct virtqueue *queue, u16 index)
{
    return RING_ENTRIES + index % queue->size * (u32)sizeof(struct used_element);
}

/* Behind the entries: the index that the driver wants an interrupt for, or the device a notice. */
static gpa_t used_event(const struct virtqueue *queue)
{
    return available_at(queue, RING_ENTRIES + queue->size * (u32)sizeof(u16));
}

static gpa_t available_event(const struct virtqueue *queue)
{
    return used_at(queue, RING_ENTRIES + queue->size * (u32)sizeof(struct used_element));
}

static bool ring_read(struct virtqueue *queue, gpa_t address, u16 *value)
{
    return dma_read(queue->host, address, value, sizeof *value) ||
           virtqueue_is_wrong(queue, "the available ring is no memory for devices", address.raw);
}

static bool ring_write(struct virtqueue *queue, gpa_t address, const void *from, u64 len_bytes)
{
    return dma_write(queue->host, address, from, len_bytes) ||
           virtqueue_is_wrong(queue, "the used ring is no memory for devices", address.raw);
}

static bool part_is_sound(gpa_t start, u64 bytes, u64 align)
{
    return is_aligned(start.raw, align) && start.raw + bytes >= start.raw;
}

bool virtqueue_enable(struct virtqueue *queue)
{
    u64 size = queue->size;
    if (!size || size > VIRTQUEUE_SIZE_MAX || !is_aligned(size, size))
        return virtqueue_is_wrong(queue, "the size is no power of two in range", size);
    if (!part_is_sound(queue->descriptors, size * sizeof(struct descriptor), DESCRIPTOR_ALIGN))
        return virtqueue_is_wrong(queue, "the descriptor table's address", queue->descriptors.raw);
    if (!part_is_sound(queue->available, RING_ENTRIES + (size + 1) * sizeof(u16), AVAILABLE_ALIGN))
        return virtqueue_is_wrong(queue, "the available ring's address", queue->available.raw);
    if (!part_is_sound(queue->used, RING_ENTRIES + size * sizeof(struct used_element) + sizeof(u16),
                       USED_ALIGN))
        return virtqueue_is_wrong(queue, "the used ring's address", queue->used.raw);
    queue->next_available = queue->next_used = queue->signalled_used = 0;
    queue->is_enabled = true;
    return true;
}

/* --- Chains ---------------------------------------------------------------------------------- */

/* The table that a chain is followed in. */
struct table {
    gpa_t start;
    u32 entries;
    bool is_indirect;
};

static bool descriptor_read(struct virtqueue *queue, const struct table *table, u32 index,
                            struct descriptor *descriptor)
{
    if (index >= table->entries)
        return virtqueue_is_wrong(queue, "a descriptor beyond its table", index);
    gpa_t address = gpa(table->start.raw + index * sizeof *descriptor);
    return dma_read(queue->host, address, descriptor, sizeof *descriptor) ||
           virtqueue_is_wrong(queue, "descriptors in no memory for devices", address.raw);
}

/* The chain goes on in the table that `descriptor` names. */
static bool table_enter(struct virtqueue *queue, struct table *table,
                        const struct descriptor *descriptor)
{
    u64 bytes = descriptor->len_bytes;
    if (!queue->indirect)
        return virtqueue_is_wrong(queue, "an indirect descriptor, which was not negotiated",
                                  descriptor->address);
    if (table->is_indirect)
        return virtqueue_is_wrong(queue, "an indirect descriptor in an indirect table",
                                  descriptor->address);
    if (descriptor->flags & DESCRIPTOR_NEXT)
        return virtqueue_is_wrong(queue, "an indirect descriptor with a next one",
                                  descriptor->next);
    if (!bytes || bytes % sizeof *descriptor)
        return virtqueue_is_wrong(queue, "an indirect table's length", bytes);
    if (descriptor->address + bytes < bytes)
        return virtqueue_is_wrong(queue, "an indirect table that wraps", descriptor->address);
    *table = (struct table){.start = gpa(descriptor->address),
                            .entries = (u32)(bytes / sizeof *descriptor),
                            .is_indirect = true};
    return true;
}

static bool chain_append(struct virtqueue *queue, struct virtqueue_chain *chain,
                         const struct descriptor *descriptor)
{
    u64 len = descriptor->len_bytes;
    bool is_writable = descriptor->flags & DESCRIPTOR_WRITE;
    if (chain->count == VIRTQUEUE_CHAIN_MAX)
        return virtqueue_is_wrong(queue, "a chain that is too long, or a loop", chain->head);
    if (!len)
        return virtqueue_is_wrong(queue, "a buffer of no bytes", descriptor->address);
    if (descriptor->address + len < len)
        return virtqueue_is_wrong(queue, "a buffer that wraps", descriptor->address);
    if (!is_writable && chain->readable_count != chain->count)
        return virtqueue_is_wrong(queue, "a readable buffer after a writable one",
                                  descriptor->address);
    if (chain->readable_bytes + chain->writable_bytes + len > CHAIN_BYTES_MAX)
        return virtqueue_is_wrong(queue, "a chain of 4 GiB or more", chain->head);

    chain->buffers[chain->count++] =
        (struct virtqueue_buffer){.address = gpa(descriptor->address), .len_bytes = (u32)len};
    if (is_writable) {
        chain->writable_bytes += len;
    } else {
        chain->readable_bytes += len;
        chain->readable_count++;
    }
    return true;
}

/* Every turn adds a buffer, or enters the one indirect table: the chain's length limits the turns.
 */
static bool chain_load(struct virtqueue *queue, struct virtqueue_chain *chain, u16 head)
{
    struct table table = {.start = queue->descriptors, .entries = queue->size};
    struct descriptor descriptor = {.next = head, .flags = DESCRIPTOR_NEXT};
    chain->head = head;
    chain->count = chain->readable_count = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    while (descriptor.flags & DESCRIPTOR_NEXT) {
        if (!descriptor_read(queue, &table, descriptor.next, &descriptor))
            return false;
        if (descriptor.flags & DESCRIPTOR_INDIRECT) {
            if (!table_enter(queue, &table, &descriptor))
                return false;
            descriptor = (struct descriptor){.next = 0, .flags = DESCRIPTOR_NEXT};
        } else if (!chain_append(queue, chain, &descriptor)) {
            return false;
        }
    }
    chain->reader = (struct virtqueue_place){0};
    chain->writer = (struct virtqueue_place){.buffer = chain->readable_count};
    return true;
}

/*
 * What is left from `place` on in its buffer, at most `len_bytes`, is passed over; the result is
 * its length, and *address where it was.
 */
static u32 place_advance(const struct virtqueue_chain *chain, struct virtqueue_place *place,
                         u64 len_bytes, gpa_t *address)
{
    const struct virtqueue_buffer *buffer = &chain->buffers[place->buffer];
    u32 left = buffer->len_bytes - place->offset;
    *address = gpa(buffer->address.raw + place->offset);
    if (len_bytes < left) {
        place->offset += (u32)len_bytes;
        return (u32)len_bytes;
    }
    *place = (struct virtqueue_place){.buffer = place->buffer + 1};
    return left;
}

bool chain_read(struct virtqueue *queue, struct virtqueue_chain *chain, void *to, u64 len_bytes)
{
    u8 *bytes = to;
    while (len_bytes) {
        gpa_t address;
        if (chain->reader.buffer == chain->readable_count)
            return virtqueue_is_wrong(queue, "a request that is too short to read",
                                      chain->readable_bytes);
        u32 part = place_advance(chain, &chain->reader, len_bytes, &address);
        if (!dma_read(queue->host, address, bytes, part))
            return virtqueue_is_wrong(queue, "a buffer in no memory for devices", address.raw);
        bytes += part;
        len_bytes -= part;
    }
    return true;
}

bool chain_write(struct virtqueue *queue, struct virtqueue_chain *chain, const void *from,
                 u64 len_bytes)
{
    const u8 *bytes = from;
    while (len_bytes) {
        gpa_t address;
        if (chain->writer.buffer == chain->count)
            return virtqueue_is_wrong(queue, "a request that is too short to write",
                                      chain->writable_bytes);
        u32 part = place_advance(chain, &chain->writer, len_bytes, &address);
        if (!dma_write(queue->host, address, bytes, part))
            return virtqueue_is_wrong(queue, "a buffer in no memory for devices", address.raw);
        bytes += part;
        len_bytes -= part;
    }
    return true;
}

void chain_seek_writable(struct virtqueue_chain *chain, u64 offset)
{
    gpa_t passed;
    chain->writer = (struct virtqueue_place){.buffer = chain->readable_count};
    while (offset && chain->writer.buffer < chain->count)
        offset -= place_advance(chain, &chain->writer, offset, &passed);
}

/* --- Available and used ---------------------------------------------------------------------- */

/*
 * Chains that wait. Before it says none, it asks for a notice of the next one, and looks again: the
 * driver may have added one in between, and seen the old wish.
 */
static bool waiting_read(struct virtqueue *queue, u16 *waiting)
{
    u16 index;
    if (!ring_read(queue, available_at(queue, RING_INDEX), &index))
        return false;
    if (index == queue->next_available && queue->event_index) {
        if (!ring_write(queue, available_event(queue), &index, sizeof index))
            return false;
        atomic_thread_fence(memory_order_seq_cst);
        if (!ring_read(queue, available_at(queue, RING_INDEX), &index))
            return false;
    }
    *waiting = (u16)(index - queue->next_available);
    if (*waiting > queue->size)
        return virtqueue_is_wrong(queue, "the available index jumps", index);
    return true;
}

enum virtqueue_answer virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
    u16 waiting, head;
    if (!waiting_read(queue, &waiting))
        return VIRTQUEUE_WRONG;
    if (!waiting)
        return VIRTQUEUE_EMPTY;
    atomic_thread_fence(memory_order_acquire);
    if (!ring_read(queue, available_at(queue, available_entry(queue, queue->next_available)),
                   &head) ||
        !chain_load(queue, chain, head))
        return VIRTQUEUE_WRONG;
    queue->next_available++;
    return VIRTQUEUE_CHAIN;
}

bool virtqueue_push(struct virtqueue *queue, u16 head, u32 written_bytes)
{
    struct used_element element = {.id = head, .len_bytes = written_bytes};
    u16 next = queue->next_used + 1;
    if (!ring_write(queue, used_at(queue, used_entry(queue, queue->next_used)), &element,
                    sizeof element))
        return false;
    atomic_thread_fence(memory_order_release);
    if (!ring_write(queue, used_at(queue, RING_INDEX), &next, sizeof next))
        return false;
    queue->next_used = next;
    return true;
}

bool virtqueue_interrupt(struct virtqueue *queue, bool *wanted)
{
    u16 new = queue->next_used, old = queue->signalled_used, word;
    *wanted = false;
    if (new == old)
        return true;
    /* The driver writes its wish and looks at the used index; we do it the other way round. */
    atomic_thread_fence(memory_order_seq_cst);
    gpa_t wish = queue->event_index ? used_event(queue) : available_at(queue, RING_FLAGS);
    if (!ring_read(queue, wish, &word))
        return false;
    *wanted = queue->event_index ? (u16)(new - word - 1) < (u16)(new - old)
                                 : !(word & AVAILABLE_NO_INTERRUPT);
    queue->signalled_used = new;
    return true;
}
