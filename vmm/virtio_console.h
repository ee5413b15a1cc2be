/* SPDX-License-Identifier: MIT */
/* A console of one port. What is typed waits in a ring until the driver gives it room. */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "boot/types.h"
#include "vmm/virtio.h"

#define CONSOLE_INPUT_BYTES 4096u
/* More in one request than any driver writes. */
#define CONSOLE_REQUEST_BYTES (256 * KIB)

struct virtio_console {
    struct virtio_device device;
    struct console_config {
        u16 columns, rows;
        u32 ports_max, emergency_write;
    } config; /* none of it is offered */
    u8 input[CONSOLE_INPUT_BYTES];
    u32 input_start, input_end; /* free-running */
    void (*output)(void *context, const u8 *bytes, u32 len_bytes);
    void *context;
};

void virtio_console_init(struct virtio_console *console, const struct device_host *host,
                         void (*output)(void *context, const u8 *bytes, u32 len_bytes),
                         void *context);
/* False: the ring is full, and the byte is not taken. virtio_poll, or pci_poll, passes it on. */
bool virtio_console_type(struct virtio_console *console, u8 byte);

#endif
