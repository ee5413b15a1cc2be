/* SPDX-License-Identifier: MIT */
/* A network card on a port of the switch between guests; no offloads, frames of 1500 bytes. */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "boot/error.h"
#include "boot/types.h"
#include "vmm/net_switch.h"
#include "vmm/virtio.h"

struct net_header {
    u8 flags, segmentation;
    u16 header_bytes, segment_bytes, checksum_start, checksum_offset, buffers;
};

enum net_link {
    NET_LINK_DOWN,
    NET_LINK_UP,
};

/* About 200 KB, most of it the frames that wait. */
struct virtio_net {
    struct virtio_device device;
    struct net_config {
        struct mac mac;
        u16 link;
    } config;
    u64 malformed; /* frames of the guest that are none, dropped */
    struct {
        struct net_header header;
        u8 frame[FRAME_BYTES_MAX];
    } packet; /* on its way between guest and switch */
    struct switch_port port;
};

/* Plugs it into the switch; errors are switch_port_attach's, logged. */
enum error virtio_net_init(struct virtio_net *net, const struct device_host *host,
                           struct net_switch *to, const struct mac *mac);
/* Unplugs it. */
void virtio_net_destroy(struct virtio_net *net);
/* While the link is down frames are dropped both ways. */
void virtio_net_set_link(struct virtio_net *net, enum net_link link);

#endif
