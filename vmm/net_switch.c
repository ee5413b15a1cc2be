/* SPDX-License-Identifier: MIT */
#include "vmm/net_switch.h"

#include "boot/assert.h"
#include "boot/string.h"

#define MAC_GROUP 0x01u /* of the first byte */
#define FRAME_SOURCE MAC_BYTES

void net_switch_init(struct net_switch *net)
{
    *net = (struct net_switch){.lock = LOCK_INIT(RANK_SWITCH, "network switch")};
}

static bool mac_is_group(const struct mac *mac)
{
    return mac->bytes[0] & MAC_GROUP;
}

static bool mac_equal(const struct mac *a, const struct mac *b)
{
    return memcmp(a->bytes, b->bytes, MAC_BYTES) == 0;
}

static struct switch_port *port_of_owner(struct net_switch *net, const struct mac *mac)
{
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (net->ports[i] && mac_equal(&net->ports[i]->mac, mac))
            return net->ports[i];
    return NULL;
}

static struct switch_learned *learned_find(struct net_switch *net, const struct mac *mac)
{
    for (u32 i = 0; i < SWITCH_LEARNED; i++)
        if (net->learned[i].port && mac_equal(&net->learned[i].mac, mac))
            return &net->learned[i];
    return NULL;
}

/* --- Ports ----------------------------------------------------------------------------------- */

static enum error port_plug(struct net_switch *net, struct switch_port *port)
{
    if (mac_is_group(&port->mac))
        return ERR_INVALID;
    if (port_of_owner(net, &port->mac))
        return ERR_EXISTS;
    for (u32 i = 0; i < SWITCH_PORTS; i++) {
        if (net->ports[i])
            continue;
        net->ports[i] = port;
        return OK;
    }
    return ERR_NO_MEMORY;
}

enum error switch_port_attach(struct net_switch *net, struct switch_port *port)
{
    port->net = net;
    port->is_open = false;
    port->first = 0;
    port->end = 0;
    port->sent = port->received = port->dropped = 0;
    lock_take(&net->lock);
    enum error e = port_plug(net, port);
    lock_release(&net->lock);
    return e;
}

void switch_port_detach(struct switch_port *port)
{
    struct net_switch *net = port->net;
    lock_take(&net->lock);
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (net->ports[i] == port)
            net->ports[i] = NULL;
    for (u32 i = 0; i < SWITCH_LEARNED; i++)
        if (net->learned[i].port == port)
            net->learned[i].port = NULL;
    lock_release(&net->lock);
}

void switch_port_open(struct switch_port *port)
{
    lock_take(&port->net->lock);
    port->is_open = true;
    lock_release(&port->net->lock);
}

void switch_port_close(struct switch_port *port)
{
    lock_take(&port->net->lock);
    port->is_open = false;
    port->first = port->end;
    lock_release(&port->net->lock);
}

/* --- Frames ---------------------------------------------------------------------------------- */

/* The oldest entry gives way: a guest that sends from many addresses makes others be flooded. */
static void learn(struct net_switch *net, const struct mac *source, struct switch_port *from)
{
    if (mac_is_group(source) || port_of_owner(net, source))
        return;
    struct switch_learned *entry = learned_find(net, source);
    if (!entry)
        entry = &net->learned[net->learned_next++ % SWITCH_LEARNED];
    *entry = (struct switch_learned){.mac = *source, .port = from};
}

static void deliver(struct switch_port *to, const u8 *frame, u32 len_bytes)
{
    u32 end = to->end;
    if (!to->is_open || end - to->first == SWITCH_QUEUE_FRAMES) {
        to->dropped++;
        return;
    }
    struct switch_frame *place = &to->frames[end % SWITCH_QUEUE_FRAMES];
    place->len_bytes = (u16)len_bytes;
    memcpy(place->bytes, frame, len_bytes);
    to->end = end + 1;
    to->wake(to->context);
}

/* Null: not known, or a group. */
static struct switch_port *port_of(struct net_switch *net, const struct mac *destination)
{
    struct switch_port *owner = port_of_owner(net, destination);
    if (owner || mac_is_group(destination))
        return owner;
    struct switch_learned *entry = learned_find(net, destination);
    return entry ? entry->port : NULL;
}

void switch_send(struct switch_port *from, const u8 *frame, u32 len_bytes)
{
    struct net_switch *net = from->net;
    struct mac destination, source;
    ASSERT(len_bytes >= FRAME_BYTES_MIN && len_bytes <= FRAME_BYTES_MAX);
    memcpy(&destination, frame, sizeof destination);
    memcpy(&source, frame + FRAME_SOURCE, sizeof source);

    lock_take(&net->lock);
    from->sent++;
    learn(net, &source, from);
    struct switch_port *to = port_of(net, &destination);
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (net->ports[i] && net->ports[i] != from && (!to || to == net->ports[i]))
            deliver(net->ports[i], frame, len_bytes);
    lock_release(&net->lock);
}

bool switch_frame_waits(const struct switch_port *port)
{
    return port->first != port->end;
}

u32 switch_receive(struct switch_port *port, u8 frame[FRAME_BYTES_MAX])
{
    u32 len_bytes = 0;
    lock_take(&port->net->lock);
    if (switch_frame_waits(port)) {
        const struct switch_frame *place = &port->frames[port->first++ % SWITCH_QUEUE_FRAMES];
        len_bytes = place->len_bytes;
        memcpy(frame, place->bytes, len_bytes);
        port->received++;
    }
    lock_release(&port->net->lock);
    return len_bytes;
}
