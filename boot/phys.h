/* SPDX-License-Identifier: MIT */
/*
 * The seam between physical addresses and pointers. On the machine the map is the identity
 * (boot/paging.h); host tests put a fake memory behind it. A pointer is good for the page it
 * was asked for; contiguous host pages are contiguous behind it on the machine only.
 */
#ifndef BOOT_PHYS_H
#define BOOT_PHYS_H

#include "boot/types.h"

#if __STDC_HOSTED__
void *phys_to_virt(hpa_t address);
hpa_t virt_to_phys(const void *pointer);
#else
static inline void *phys_to_virt(hpa_t address)
{
    return (void *)address.raw;
}
static inline hpa_t virt_to_phys(const void *pointer)
{
    return hpa((u64)pointer);
}
#endif

#endif
