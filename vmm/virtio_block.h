/* SPDX-License-Identifier: MIT */
/*
 * A disk: an image in the VMM's memory, which stays as it is. What the guest writes goes to pages
 * of its own, taken one by one as it writes, and given back at the end.
 */
#ifndef VMM_VIRTIO_BLOCK_H
#define VMM_VIRTIO_BLOCK_H

#include "boot/error.h"
#include "boot/types.h"
#include "vmm/virtio.h"

#define BLOCK_SECTOR_BYTES 512u
#define BLOCK_ID_BYTES 20u
/* What a driver is told, and what a request may be at most: the product is near enough. */
#define BLOCK_SEGMENT_BYTES (64 * (u32)KIB)
#define BLOCK_SEGMENTS 254u
#define BLOCK_REQUEST_BYTES (16 * MIB)

enum block_access {
    BLOCK_READ_WRITE,
    BLOCK_READ_ONLY,
};

struct block_image {
    const u8 *data;
    u64 len_bytes; /* whole sectors */
    enum block_access access;
    const char *id; /* what "get id" answers; up to 20 characters count */
};

struct virtio_block {
    struct virtio_device device;
    struct block_image image;
    struct block_config {
        u64 capacity_sectors;
        u32 segment_bytes_max, segments_max;
    } config;
    hpa_t written; /* an hpa_t for each page of the image: the guest's own, or HPA_NONE */
    u64 written_map_pages;
    u64 written_pages;
    bool is_out_of_memory; /* logged */
};

/*
 * ERR_INVALID: an image that is no disk, logged; ERR_NO_MEMORY. Nothing is to be destroyed then.
 * Allocates pages (RANK_PAGES), as writes do.
 */
enum error virtio_block_init(struct virtio_block *block, const struct device_host *host,
                             const struct block_image *image);
void virtio_block_destroy(struct virtio_block *block);

#endif
