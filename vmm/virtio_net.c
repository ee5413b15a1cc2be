/* SPDX-License-Identifier: MIT */
#include "vmm/virtio_net.h"

#include "boot/log.h"

#define QUEUE_RECEIVE 0u
#define QUEUE_TRANSMIT 1u
#define FEATURE_MAC (1ull << 5)
#define FEATURE_STATUS (1ull << 16)
#define HEADER_NEEDS_CHECKSUM 0x01u

_Static_assert(sizeof(struct net_header) == 12, "the header's size in memory");
_Static_assert(sizeof(struct net_config) == 8, "the configuration's size");

static struct virtio_net *net_of(struct virtio_device *device)
{
    return CONTAINER_OF(device, struct virtio_net, device);
}

static bool can_serve(struct virtio_device *device, u32 queue)
{
    return queue == QUEUE_TRANSMIT || switch_frame_waits(&net_of(device)->port);
}

/* Without merged buffers every one of the driver's has to hold any frame. */
static bool receive(struct virtio_net *net, u32 *written_bytes)
{
    struct virtqueue *queue = &net->device.queues[QUEUE_RECEIVE];
    u64 room = net->device.chain.writable_bytes;
    u32 len_bytes = switch_receive(&net->port, net->packet.frame);
    *written_bytes = (u32)sizeof net->packet.header + len_bytes;
    if (*written_bytes > room)
        return virtqueue_is_wrong(queue, "a receive buffer that is too small", room);
    net->packet.header = (struct net_header){.buffers = 1};
    return chain_write(queue, &net->device.chain, &net->packet, *written_bytes);
}

static bool transmit(struct virtio_net *net)
{
    struct virtqueue *queue = &net->device.queues[QUEUE_TRANSMIT];
    struct virtqueue_chain *chain = &net->device.chain;
    if (!chain_read(queue, chain, &net->packet.header, sizeof net->packet.header))
        return false;
    if (net->packet.header.segmentation || (net->packet.header.flags & HEADER_NEEDS_CHECKSUM))
        return virtqueue_is_wrong(queue, "an offload that was not negotiated",
                                  net->packet.header.segmentation);
    u64 len_bytes = chain->readable_bytes - sizeof net->packet.header;
    if (len_bytes < FRAME_BYTES_MIN || len_bytes > FRAME_BYTES_MAX) {
        net->malformed++;
        return true;
    }
    if (!chain_read(queue, chain, net->packet.frame, len_bytes))
        return false;
    if (net->config.link == NET_LINK_UP)
        switch_send(&net->port, net->packet.frame, (u32)len_bytes);
    return true;
}

static bool serve(struct virtio_device *device, u32 index, u32 *written_bytes)
{
    struct virtio_net *net = net_of(device);
    return index == QUEUE_RECEIVE ? receive(net, written_bytes) : transmit(net);
}

/* --- Whether frames come --------------------------------------------------------------------- */

static void port_update(struct virtio_net *net)
{
    if (net->config.link == NET_LINK_UP && (net->device.status & VIRTIO_STATUS_DRIVER_OK))
        switch_port_open(&net->port);
    else
        switch_port_close(&net->port);
}

static void start(struct virtio_device *device)
{
    port_update(net_of(device));
}

static void stop(struct virtio_device *device)
{
    switch_port_close(&net_of(device)->port);
}

void virtio_net_set_link(struct virtio_net *net, enum net_link link)
{
    net->config.link = link;
    port_update(net);
    virtio_config_changed(&net->device);
}

/* --- The device ------------------------------------------------------------------------------ */

static const struct virtio_kind kind = {
    .name = "net",
    .id = 1,
    .class = 0x020000,
    .queues = 2,
    .queue_size = VIRTQUEUE_SIZE_MAX,
    .config_bytes = sizeof(struct net_config),
    .serve = serve,
    .can_serve = can_serve,
    .start = start,
    .stop = stop,
};

enum error virtio_net_init(struct virtio_net *net, const struct device_host *host,
                           struct net_switch *to, const struct mac *mac)
{
    memset(net, 0, sizeof *net);
    net->config = (struct net_config){.mac = *mac, .link = NET_LINK_UP};
    net->port.mac = *mac;
    net->port.wake = host->wake;
    net->port.context = host->context;
    enum error e = switch_port_attach(to, &net->port);
    if (e) {
        log_line("guest %s: virtio-net: no port of the switch: %s", host->guest, error_name(e));
        return e;
    }
    virtio_init(&net->device, host, &kind, FEATURE_MAC | FEATURE_STATUS, &net->config);
    return OK;
}

void virtio_net_destroy(struct virtio_net *net)
{
    switch_port_detach(&net->port);
}
