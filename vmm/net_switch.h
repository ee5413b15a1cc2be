/* SPDX-License-Identifier: MIT */
/*
 * An Ethernet switch between guests. A frame goes to the port that its destination belongs to; to
 * all others, if that is a group or nobody is known. Each port has its own address, which no other
 * can take over, and others are learned from what is sent.
 *
 * Frames are copied into the receiver's queue; one that is full, or closed, drops them. The switch
 * has a lock of its own, RANK_SWITCH: a sender holds the lock of its own VM's devices, and never
 * that of a receiver's.
 */
#ifndef VMM_NET_SWITCH_H
#define VMM_NET_SWITCH_H

#include "boot/error.h"
#include "boot/lock.h"
#include "boot/types.h"

#define SWITCH_PORTS 16u
#define SWITCH_QUEUE_FRAMES 128u
#define SWITCH_LEARNED 64u
#define MAC_BYTES 6u
/* Ethernet: header, VLAN tag and 1500 bytes, without the check sequence. */
#define FRAME_BYTES_MIN 14u
#define FRAME_BYTES_MAX 1518u

struct mac {
    u8 bytes[MAC_BYTES];
};

struct switch_port {
    struct net_switch *net;
    struct mac mac;
    /* A frame waits: called with the switch's lock held, on any processor; takes no lock. */
    void (*wake)(void *context);
    void *context;

    /* Guarded by the switch's lock, but that the receiver may look whether a frame waits. */
    bool is_open;
    u32 first;
    _Atomic u32 end; /* free-running */
    u64 sent, received, dropped;
    struct switch_frame {
        u16 len_bytes;
        u8 bytes[FRAME_BYTES_MAX];
    } frames[SWITCH_QUEUE_FRAMES];
};

struct net_switch {
    struct lock lock; /* RANK_SWITCH; guards all of it */
    struct switch_port *ports[SWITCH_PORTS];
    struct switch_learned {
        struct mac mac;
        struct switch_port *port; /* null: free */
    } learned[SWITCH_LEARNED];
    u32 learned_next; /* the oldest */
};

void net_switch_init(struct net_switch *net);

/*
 * Plugs a port in, closed. The caller sets mac, wake and context. ERR_NO_MEMORY: all are taken;
 * ERR_EXISTS: another port has that address; ERR_INVALID: it is a group's.
 */
enum error switch_port_attach(struct net_switch *net, struct switch_port *port);
void switch_port_detach(struct switch_port *port);
/* A closed port gets nothing; closing one drops what waits. */
void switch_port_open(struct switch_port *port);
void switch_port_close(struct switch_port *port);

/* `len_bytes`: FRAME_BYTES_MIN to FRAME_BYTES_MAX. */
void switch_send(struct switch_port *from, const u8 *frame, u32 len_bytes);
bool switch_frame_waits(const struct switch_port *port);
/* Takes the next frame; the result is its length, 0 if there is none. */
u32 switch_receive(struct switch_port *port, u8 frame[FRAME_BYTES_MAX]);

#endif
