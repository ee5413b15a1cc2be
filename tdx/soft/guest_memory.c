/* SPDX-License-Identifier: MIT */
#include "tdx/soft/guest_memory.h"

#include "boot/x86.h"

#define EPT_PRESENT EPT_RWX
#define EPTP_LEVELS_SHIFT 3
#define EPTP_LEVELS_MASK 7

#define PTE_PRESENT (1ull << 0)
#define PTE_LARGE (1ull << 7)

u64 gpa_shared_bit(const struct tdcs *tdcs)
{
    return 1ull << (tdcs->gpa_bits - 1);
}

static u64 table_entry(u64 table, u64 address, u32 level)
{
    const u64 *entries = seam_page(table & TDX_ADDRESS_MASK);
    return entries[address >> (PAGE_SHIFT + TABLE_SHIFT * level) & (TABLE_ENTRIES - 1)];
}

static u64 ept_walk(u64 eptp, u64 address, u32 *level)
{
    u64 entry = eptp;
    *level = (u32)(eptp >> EPTP_LEVELS_SHIFT) & EPTP_LEVELS_MASK;
    for (;; (*level)--) {
        entry = table_entry(entry, address, *level);
        if (!(entry & EPT_PRESENT) || *level == 0 || (entry & EPT_LARGE))
            return entry;
    }
}

u64 ept_last_entry(u64 eptp, u64 address)
{
    u32 level;
    return ept_walk(eptp, address, &level);
}

u64 shared_eptp(const struct run *run)
{
    u64 root = run->vcpu->shared_eptp & TDX_ADDRESS_MASK;
    if (!root || root == run->td.tdr->tdcx[TDCS_PAGE_ZERO])
        return 0;
    return root | (run->tdcs->eptp & ~TDX_ADDRESS_MASK);
}

static u64 leaf_address(u64 entry, u32 level, u64 address)
{
    u64 inside = (PAGE_BYTES << (TABLE_SHIFT * level)) - 1;
    return (entry & TDX_ADDRESS_MASK & ~inside) | (address & inside);
}

bool guest_physical_find(const struct run *run, u64 address, u64 *host)
{
    bool shared = address & gpa_shared_bit(run->tdcs);
    u64 eptp = shared ? shared_eptp(run) : run->tdcs->eptp;
    u32 level;

    if (!eptp || address >> run->tdcs->gpa_bits)
        return false;
    u64 entry = ept_walk(eptp, address, &level);
    if (!(entry & EPT_READ))
        return false;
    *host = leaf_address(entry, level, address);
    return true;
}

bool guest_linear_find(const struct run *run, u64 linear, u64 *address)
{
    u64 table = seam_vmcs_read(VMCS_GUEST_CR3);
    u64 host;

    if (!(seam_vmcs_read(VMCS_GUEST_CR0) & CR0_PG)) {
        *address = linear & 0xffffffff;
        return true;
    }
    for (u32 level = LEVEL_512G;; level--) {
        if (!guest_physical_find(run, table & TDX_ADDRESS_MASK, &host))
            return false;
        u64 entry = table_entry(host, linear, level);
        if (!(entry & PTE_PRESENT))
            return false;
        if (level == LEVEL_4K || (level < LEVEL_512G && (entry & PTE_LARGE))) {
            *address = leaf_address(entry, level, linear);
            return true;
        }
        table = entry;
    }
}
