/* SPDX-License-Identifier: MIT */
#include "vmm/virtio_block.h"

#include "boot/log.h"
#include "boot/phys.h"
#include "mm/pages.h"

#define FEATURE_SEGMENT_BYTES (1ull << 1)
#define FEATURE_SEGMENTS (1ull << 2)
#define FEATURE_READ_ONLY (1ull << 5)
#define FEATURE_FLUSH (1ull << 9)

#define REQUEST_READ 0u
#define REQUEST_WRITE 1u
#define REQUEST_FLUSH 4u
#define REQUEST_ID 8u

#define STATUS_OK 0u
#define STATUS_ERROR 1u
#define STATUS_UNSUPPORTED 2u

struct request {
    u32 type, reserved;
    u64 sector;
};

static struct virtio_block *block_of(struct virtio_device *device)
{
    return CONTAINER_OF(device, struct virtio_block, device);
}

/* --- The image, and the pages over it -------------------------------------------------------- */

static hpa_t *written_page(const struct virtio_block *block, u64 page)
{
    return (hpa_t *)phys_to_virt(block->written) + page;
}

/* Bytes of the page that the image has; its last page may be a part of one. */
static u64 page_bytes(const struct virtio_block *block, u64 page)
{
    u64 left = block->image.len_bytes - page * PAGE_BYTES;
    return left < PAGE_BYTES ? left : PAGE_BYTES;
}

static const u8 *page_to_read(const struct virtio_block *block, u64 page)
{
    if (block->written_map_pages && !hpa_is_none(*written_page(block, page)))
        return phys_to_virt(*written_page(block, page));
    return block->image.data + page * PAGE_BYTES;
}

/* Null: no memory. The whole page is copied: a write may fail half-way. */
static u8 *page_to_write(struct virtio_block *block, u64 page)
{
    hpa_t *own = written_page(block, page), copy;
    if (!hpa_is_none(*own))
        return phys_to_virt(*own);
    if (page_allocate_zeroed(PAGE_VMM, &copy)) {
        if (!block->is_out_of_memory)
            log_line("guest %s: virtio-block: no memory for what it writes; its writes fail",
                     block->device.pci.host->guest);
        block->is_out_of_memory = true;
        return NULL;
    }
    memcpy(phys_to_virt(copy), block->image.data + page * PAGE_BYTES, page_bytes(block, page));
    block->written_pages++;
    *own = copy;
    return phys_to_virt(copy);
}

/* --- Requests: false is wrong, everything else has a status ---------------------------------- */

static bool range_is_sound(const struct virtio_block *block, u64 sector, u64 len_bytes)
{
    u64 sectors = len_bytes / BLOCK_SECTOR_BYTES, capacity = block->config.capacity_sectors;
    return len_bytes % BLOCK_SECTOR_BYTES == 0 && len_bytes <= BLOCK_REQUEST_BYTES &&
           sector <= capacity && sectors <= capacity - sector;
}

/* Up to the page's end. */
static u64 part_bytes(u64 offset, u64 len_bytes)
{
    u64 room = PAGE_BYTES - (offset & PAGE_MASK);
    return len_bytes < room ? len_bytes : room;
}

static bool request_read(struct virtio_block *block, u64 sector, u8 *status)
{
    struct virtqueue_chain *chain = &block->device.chain;
    u64 len_bytes = chain->writable_bytes - 1, part;
    *status = STATUS_ERROR;
    if (!range_is_sound(block, sector, len_bytes))
        return true;
    for (u64 offset = sector * BLOCK_SECTOR_BYTES; len_bytes; offset += part, len_bytes -= part) {
        const u8 *page = page_to_read(block, offset / PAGE_BYTES);
        part = part_bytes(offset, len_bytes);
        if (!chain_write(&block->device.queues[0], chain, page + (offset & PAGE_MASK), part))
            return false;
    }
    *status = STATUS_OK;
    return true;
}

static bool request_write(struct virtio_block *block, u64 sector, u8 *status)
{
    struct virtqueue_chain *chain = &block->device.chain;
    u64 len_bytes = chain->readable_bytes - sizeof(struct request), part;
    *status = STATUS_ERROR;
    if (block->image.access == BLOCK_READ_ONLY || !range_is_sound(block, sector, len_bytes))
        return true;
    for (u64 offset = sector * BLOCK_SECTOR_BYTES; len_bytes; offset += part, len_bytes -= part) {
        u8 *page = page_to_write(block, offset / PAGE_BYTES);
        part = part_bytes(offset, len_bytes);
        if (!page)
            return true;
        if (!chain_read(&block->device.queues[0], chain, page + (offset & PAGE_MASK), part))
            return false;
    }
    *status = STATUS_OK;
    return true;
}

static bool request_id(struct virtio_block *block, u8 *status)
{
    char id[BLOCK_ID_BYTES] = {0};
    struct virtqueue_chain *chain = &block->device.chain;
    u64 room = chain->writable_bytes - 1, len = strlen(block->image.id);
    memcpy(id, block->image.id, len < sizeof id ? len : sizeof id);
    *status = STATUS_OK;
    return chain_write(&block->device.queues[0], chain, id, room < sizeof id ? room : sizeof id);
}

static bool request_serve(struct virtio_block *block, const struct request *request, u8 *status)
{
    switch (request->type) {
    case REQUEST_READ:
        return request_read(block, request->sector, status);
    case REQUEST_WRITE:
        return request_write(block, request->sector, status);
    case REQUEST_FLUSH: /* what is written is where it stays */
        *status = STATUS_OK;
        return true;
    case REQUEST_ID:
        return request_id(block, status);
    default:
        *status = STATUS_UNSUPPORTED;
        return true;
    }
}

/* The last byte that may be written is the status, whatever comes of the data before it. */
static bool serve(struct virtio_device *device, u32 index, u32 *written_bytes)
{
    struct virtqueue *queue = &device->queues[index];
    struct virtqueue_chain *chain = &device->chain;
    struct request request;
    u8 status;
    if (!chain_read(queue, chain, &request, sizeof request))
        return false;
    if (!chain->writable_bytes)
        return virtqueue_is_wrong(queue, "a request with no room for its status", request.type);
    if (!request_serve(block_of(device), &request, &status))
        return false;
    chain_seek_writable(chain, chain->writable_bytes - 1);
    *written_bytes = (u32)chain->writable_bytes;
    return chain_write(queue, chain, &status, sizeof status);
}

/* --- The device ------------------------------------------------------------------------------ */

static const struct virtio_kind kind = {
    .name = "block",
    .id = 2,
    .class = 0x018000,
    .queues = 1,
    .queue_size = VIRTQUEUE_SIZE_MAX,
    .config_bytes = sizeof(struct block_config),
    .serve = serve,
};

static enum error written_map_create(struct virtio_block *block)
{
    u64 pages = align_up(block->image.len_bytes, PAGE_BYTES) / PAGE_BYTES;
    u64 map_pages = align_up(pages * sizeof(hpa_t), PAGE_BYTES) / PAGE_BYTES;
    enum error e = pages_allocate(PAGE_VMM, map_pages, 1, &block->written);
    if (e)
        return e;
    block->written_map_pages = map_pages;
    for (u64 i = 0; i < pages; i++)
        *written_page(block, i) = HPA_NONE;
    return OK;
}

enum error virtio_block_init(struct virtio_block *block, const struct device_host *host,
                             const struct block_image *image)
{
    u64 features = FEATURE_SEGMENT_BYTES | FEATURE_SEGMENTS | FEATURE_FLUSH;
    if (!image->len_bytes || image->len_bytes % BLOCK_SECTOR_BYTES) {
        log_line("guest %s: a disk of %llu bytes: not whole sectors of %u", host->guest,
                 (unsigned long long)image->len_bytes, BLOCK_SECTOR_BYTES);
        return ERR_INVALID;
    }
    memset(block, 0, sizeof *block);
    block->image = *image;
    block->config = (struct block_config){
        .capacity_sectors = image->len_bytes / BLOCK_SECTOR_BYTES,
        .segment_bytes_max = BLOCK_SEGMENT_BYTES,
        .segments_max = BLOCK_SEGMENTS,
    };
    if (image->access == BLOCK_READ_ONLY) {
        features |= FEATURE_READ_ONLY;
    } else {
        enum error e = written_map_create(block);
        if (e)
            return e;
    }
    virtio_init(&block->device, host, &kind, features, &block->config);
    return OK;
}

void virtio_block_destroy(struct virtio_block *block)
{
    if (!block->written_map_pages)
        return;
    u64 pages = align_up(block->image.len_bytes, PAGE_BYTES) / PAGE_BYTES;
    for (u64 i = 0; i < pages; i++)
        if (!hpa_is_none(*written_page(block, i)))
            page_free(*written_page(block, i));
    pages_free(block->written, block->written_map_pages);
    block->written_map_pages = 0;
}
