/* SPDX-License-Identifier: MIT */
/*
 * What a device model uses of the VM that it is in: the guest's memory, its interrupts, and a way
 * to be called again. It is all that PCI and the virtio devices see of the rest of vmm/.
 *
 * Every function of a device is called with its VM's device lock held, by the caller. The
 * callbacks are called with that lock held too, except `wake`.
 *
 * Memory is copied, never mapped: a device checks and uses its own copy, so that nothing is
 * fetched twice, and a page may be converted or taken away between any two copies.
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include "boot/string.h"
#include "boot/types.h"

/*
 * Copies of `len_bytes` (at least 1) from and to guest memory. `address` is what the guest gave to
 * its device: of a TD a shared GPA, without the SHARED bit. The range may be anything: false, if
 * a byte of it is not the guest's memory, or is private; what comes before it may have been copied.
 * The bytes are moved by guest_copy.
 */
struct guest_dma {
    bool (*read)(void *context, gpa_t address, void *to, u64 len_bytes);
    bool (*write)(void *context, gpa_t address, const void *from, u64 len_bytes);
};

struct device_host {
    const char *guest; /* its name, for the log */
    struct guest_dma dma;
    /* A message-signalled interrupt, as the guest wrote it: it may not be one. */
    void (*msi)(void *context, u64 address, u32 data);
    /* The level of the device's own pin of the I/O APIC. */
    void (*line)(void *context, u32 pin, bool level);
    /*
     * Devices have something to do: call pci_poll soon, before a vCPU halts or after it enters the
     * guest next. Called on any processor, with locks of devices or switch held: takes none.
     */
    void (*wake)(void *context);
    void *context;
};

/*
 * A ring's index is two bytes that the guest changes at the same time: they are read and written
 * as one.
 */
static inline void guest_copy(void *to, const void *from, u64 len_bytes)
{
    if (len_bytes == sizeof(u16) && is_aligned((u64)to | (u64)from, sizeof(u16)))
        *(volatile u16 *)to = *(const volatile u16 *)from;
    else
        memcpy(to, from, len_bytes);
}

static inline bool dma_read(const struct device_host *host, gpa_t address, void *to, u64 len_bytes)
{
    return host->dma.read(host->context, address, to, len_bytes);
}
static inline bool dma_write(const struct device_host *host, gpa_t address, const void *from,
                             u64 len_bytes)
{
    return host->dma.write(host->context, address, from, len_bytes);
}

#endif
