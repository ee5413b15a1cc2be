/* SPDX-License-Identifier: MIT */
/* An interrupt on its way to the vCPUs of a VM, as local APICs and I/O APIC send it. */
#ifndef VMM_INTERRUPT_H
#define VMM_INTERRUPT_H

#include "boot/types.h"

struct interrupt {
    enum interrupt_kind {
        INTERRUPT_NONE,
        INTERRUPT_FIXED,
        INTERRUPT_NMI,
        /* Not delivered to TDs: */
        INTERRUPT_INIT,
        INTERRUPT_STARTUP, /* the vector is the page to start at */
    } kind;
    enum interrupt_target {
        TARGET_PHYSICAL, /* destination is an APIC id */
        TARGET_LOGICAL,  /* destination is an x2APIC logical id: cluster 31:16, members 15:0 */
        TARGET_ALL,
        TARGET_OTHERS, /* all but the sender */
    } target;
    u32 destination;
    u8 vector;
};

/* Vectors below are no interrupts. */
#define INTERRUPT_VECTOR_MIN 16
#define INTERRUPT_BROADCAST 0xffffffffu

/* The logical x2APIC id of an APIC id. */
static inline u32 interrupt_logical_id(u32 apic_id)
{
    return (apic_id >> 4) << 16 | 1u << (apic_id & 15);
}

/* True if the vCPU `apic_id` is meant; `sender` is an APIC id too, or INTERRUPT_BROADCAST. */
static inline bool interrupt_is_for(const struct interrupt *interrupt, u32 apic_id, u32 sender)
{
    u32 logical = interrupt_logical_id(apic_id);
    switch (interrupt->target) {
    case TARGET_ALL:
        return true;
    case TARGET_OTHERS:
        return apic_id != sender;
    case TARGET_LOGICAL:
        if (interrupt->destination == INTERRUPT_BROADCAST)
            return true;
        return interrupt->destination >> 16 == logical >> 16 &&
               (interrupt->destination & logical & 0xffff);
    default:
        return interrupt->destination == apic_id || interrupt->destination == INTERRUPT_BROADCAST;
    }
}

#endif
