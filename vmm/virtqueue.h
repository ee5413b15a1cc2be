/* SPDX-License-Identifier: MIT */
/*
 * A split virtqueue, seen from the device ("Virtual I/O Device (VIRTIO) Version 1.2", "Split
 * Virtqueues"). Nothing that lies in guest memory is believed: it is copied, then checked, then
 * used.
 *
 * A function that answers "wrong" has found what no correct driver does. queue->wrong says what;
 * the device is to be broken (virtio_break), and nothing of the queue is used until its reset.
 */
#ifndef VMM_VIRTQUEUE_H
#define VMM_VIRTQUEUE_H

#include "boot/types.h"
#include "vmm/device.h"

/* Entries of a queue; also buffers of a chain, as an indirect table may be longer than its queue.
 */
#define VIRTQUEUE_SIZE_MAX 256u
#define VIRTQUEUE_CHAIN_MAX 256u

/* What a driver did, and the offending number. */
struct virtqueue_wrong {
    const char *what;
    u64 value;
};

struct virtqueue {
    const struct device_host *host;
    /* What the driver set. */
    u16 size;
    gpa_t descriptors, available, used;
    bool event_index, indirect; /* negotiated */
    bool is_enabled;
    u16 next_available, next_used; /* free-running */
    u16 signalled_used;            /* next_used when an interrupt was last considered */
    struct virtqueue_wrong wrong;
};

/* Buffers that a driver made available together: first those to read, then those to write. */
struct virtqueue_chain {
    u16 head;
    u32 count, readable_count;
    u64 readable_bytes, writable_bytes;
    struct virtqueue_place {
        u32 buffer, offset;
    } reader, writer; /* what chain_read and chain_write have not reached yet */
    struct virtqueue_buffer {
        gpa_t address;
        u32 len_bytes;
    } buffers[VIRTQUEUE_CHAIN_MAX];
};

/*
 * Starts at index 0 with what the driver set; false: wrong (size, alignment, addresses that wrap).
 */
bool virtqueue_enable(struct virtqueue *queue);

enum virtqueue_answer {
    VIRTQUEUE_EMPTY, /* the driver was asked to notify of more */
    VIRTQUEUE_CHAIN,
    VIRTQUEUE_WRONG,
};
/* Takes the next chain. */
enum virtqueue_answer virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain);
/* Gives the chain back, with `written_bytes` of its writable part written. False: wrong. */
bool virtqueue_push(struct virtqueue *queue, u16 head, u32 written_bytes);
/*
 * Whether the driver wants an interrupt for what was pushed since this was last asked. False:
 * wrong.
 */
bool virtqueue_interrupt(struct virtqueue *queue, bool *wanted);

/*
 * The next bytes of the readable part, or of the writable part. False: wrong, the part is shorter,
 * or is no memory that the device may use.
 */
bool chain_read(struct virtqueue *queue, struct virtqueue_chain *chain, void *to, u64 len_bytes);
bool chain_write(struct virtqueue *queue, struct virtqueue_chain *chain, const void *from,
                 u64 len_bytes);
/* The next byte to write is that one of the writable part, or none, if there are not so many. */
void chain_seek_writable(struct virtqueue_chain *chain, u64 offset);

/* Notes what is wrong; always false. */
bool virtqueue_is_wrong(struct virtqueue *queue, const char *what, u64 value);

#endif
