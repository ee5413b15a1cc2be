/* SPDX-License-Identifier: MIT */
#include "vmm/guest_walk.h"

#include "boot/x86.h"

#define ENTRY_PRESENT (1ull << 0)
#define ENTRY_LARGE (1ull << 7)
#define ENTRY_ADDRESS 0x000ffffffffff000ull
#define PAE_ROOT_MASK 0xffffffe0ull
/* PSE: bits 39:32 of a 4-MiB page's address are in bits 20:13 of its entry. */
#define PSE_HIGH(entry) (((entry) >> 13 & 0xff) << 32)

/* How a mode's tables are built: from the root down. */
struct mode {
    u32 levels, index_bits, entry_bytes;
};

static struct mode mode_of(const struct guest_paging *paging)
{
    if (paging->efer & EFER_LMA)
        return (struct mode){4, 9, 8};
    if (paging->cr4 & CR4_PAE)
        return (struct mode){3, 9, 8};
    return (struct mode){2, 10, 4};
}

/* The lowest bit of the linear address that a level translates. */
static u32 level_shift(const struct mode *mode, u32 level)
{
    return PAGE_SHIFT + level * mode->index_bits;
}

static bool entry_is_leaf(const struct guest_paging *paging, const struct mode *mode, u32 level,
                          u64 entry)
{
    if (level == 0)
        return true;
    if (mode->levels == 2 && !(paging->cr4 & CR4_PSE))
        return false;
    bool may_be = level == 1 || (level == 2 && mode->levels == 4);
    return may_be && (entry & ENTRY_LARGE);
}

static gpa_t leaf_address(const struct mode *mode, u32 level, u64 entry, u64 linear)
{
    u64 offset_mask = (1ull << level_shift(mode, level)) - 1;
    u64 page = entry & ENTRY_ADDRESS & ~offset_mask;
    if (mode->levels == 2 && level == 1)
        page |= PSE_HIGH(entry);
    return gpa(page | (linear & offset_mask));
}

bool guest_walk(const struct guest_paging *paging, u64 linear, guest_read *read, void *context,
                gpa_t *address)
{
    struct mode mode = mode_of(paging);
    if (mode.levels != 4)
        linear = (u32)linear;
    if (!(paging->cr0 & CR0_PG)) {
        *address = gpa(linear);
        return true;
    }
    u64 table = mode.levels == 3 ? paging->cr3 & PAE_ROOT_MASK : paging->cr3 & ENTRY_ADDRESS;
    for (u32 level = mode.levels; level-- > 0;) {
        u64 index = linear >> level_shift(&mode, level) & ((1ull << mode.index_bits) - 1);
        u64 entry = 0;
        if (!read(context, gpa(table + index * mode.entry_bytes), &entry, mode.entry_bytes) ||
            !(entry & ENTRY_PRESENT))
            return false;
        if (entry_is_leaf(paging, &mode, level, entry)) {
            *address = leaf_address(&mode, level, entry, linear);
            return true;
        }
        table = entry & ENTRY_ADDRESS;
    }
    return false;
}
