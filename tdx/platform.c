/* SPDX-License-Identifier: MIT */
#include "tdx/platform.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "boot/paging.h"
#include "boot/string.h"
#include "tdx/spans.h"

#define LOW_MEMORY_END MIB /* never convertible, as on hardware */
#define KEYID_ADDRESS_BITS 52
#define KEYID_BITS 6
#define SHARED_KEYIDS 32
#define PRIVATE_KEYIDS 32
#define GPA_BITS_MAX 48
#define WBINVD_BLOCKS 4

enum firmware_memory {
    FIRMWARE_MEMORY_LEFT_OUT,
    FIRMWARE_MEMORY_JOINED,
};

static bool memory_find(struct span_list *list, enum firmware_memory firmware)
{
    const struct machine *m = machine();
    spans_clear(list);
    for (u32 i = 0; i < m->range_count; i++) {
        const struct memory_range *range = &m->ranges[i];
        bool wanted = range->kind == MEMORY_FREE || range->kind == MEMORY_TAIN ||
                      (range->kind == MEMORY_FIRMWARE && firmware == FIRMWARE_MEMORY_JOINED);
        u64 start = range->start > LOW_MEMORY_END ? range->start : LOW_MEMORY_END;
        if (wanted && !spans_append(list, start, range->end))
            return false;
    }
    return true;
}

/*
 * Convertible is what is memory and stays: free memory and Tain's own. The firmware's islands
 * split it into many pieces; where the list of CMRs has no room for them, the islands are taken
 * in, as they are memory too and reserved in the TDMRs anyway. A gap in the address space never
 * is: there is nothing behind it that could hold a page.
 */
static enum error cmrs_describe(struct soft_platform *platform)
{
    static struct span_list memory; /* too big for a stack; one bring-up at a time */
    if (!memory_find(&memory, FIRMWARE_MEMORY_LEFT_OUT))
        memory.count = SPANS_MAX;
    if (memory.count > TDX_CMR_MAX && !memory_find(&memory, FIRMWARE_MEMORY_JOINED))
        memory.count = SPANS_MAX;
    if (memory.count > TDX_CMR_MAX) {
        log_line("tdx: memory is in more than %u pieces: they do not fit into CMRs", TDX_CMR_MAX);
        return ERR_UNSUPPORTED;
    }
    platform->cmr_count = memory.count;
    for (u32 i = 0; i < memory.count; i++) {
        platform->cmrs[i].base = memory.spans[i].start;
        platform->cmrs[i].bytes = memory.spans[i].end - memory.spans[i].start;
    }
    return OK;
}

enum error software_describe(struct soft_platform *platform)
{
    const struct machine *m = machine();
    memset(platform, 0, sizeof *platform);
    if (cpu_package_count() > SOFT_PACKAGES_MAX) {
        log_line("tdx: %u packages, the software module knows %u", cpu_package_count(),
                 SOFT_PACKAGES_MAX);
        return ERR_UNSUPPORTED;
    }
    platform->lp_count = cpu_count();
    platform->package_count = cpu_package_count();
    for (u32 i = 0; i < cpu_count(); i++)
        platform->lp_package[i] = cpu_at(i)->package;
    platform->physical_address_bits = KEYID_ADDRESS_BITS;
    /* The bits of a KeyID are not there for memory; a machine that has memory there is too big. */
    platform->memory_address_bits = m->physical_address_bits < KEYID_ADDRESS_BITS - KEYID_BITS
                                        ? m->physical_address_bits
                                        : KEYID_ADDRESS_BITS - KEYID_BITS;
    platform->gpa_bits =
        m->physical_address_bits < GPA_BITS_MAX ? m->physical_address_bits : GPA_BITS_MAX;
    platform->keyid_bits = KEYID_BITS;
    platform->shared_keyids = SHARED_KEYIDS;
    platform->private_keyids = PRIVATE_KEYIDS;
    /* seam_base, seam_bytes stay 0: the module lies in Tain's image, not in a range of its own. */
    platform->tsc_hz = m->tsc_hz;
    platform->wbinvd_blocks = WBINVD_BLOCKS;
    platform->has_checker = m->config.checker;
    platform->newer_features = m->config.newer_module ? SOFT_NEWER_FEATURES : 0;
    platform->annex_root = paging_annex_root();
    return cmrs_describe(platform);
}

struct private_keyids software_keyids(const struct soft_platform *platform)
{
    return (struct private_keyids){
        .first = (u16)platform->shared_keyids,
        .count = (u16)platform->private_keyids,
        .shift = platform->physical_address_bits - platform->keyid_bits,
    };
}
