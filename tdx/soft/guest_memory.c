/* SPDX-License-Identifier: MIT */
#include "tdx/soft/guest_memory.h"

#include "boot/msr.h"
#include "boot/x86.h"
#include "tdx/soft/processor.h"

#define EPT_TYPE_MASK (7ull << EPT_TYPE_SHIFT)
#define EPT_TABLE_RESERVED (0xfull << EPT_TYPE_SHIFT) /* bits 6:3 */
#define EPT_CAP_EXECUTE_ONLY (1ull << 0)

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

static bool entry_is_leaf(u64 entry, u32 level)
{
    return level == LEVEL_4K || (level <= LEVEL_1G && (entry & EPT_LARGE));
}

static bool address_is_shared_memory(u64 address)
{
    return !operand_shared(address & ~PAGE_MASK, PAGE_BYTES, OPERAND_RAX);
}

static bool leaf_is_misconfigured(u64 entry, u32 level)
{
    u64 type = (entry & EPT_TYPE_MASK) >> EPT_TYPE_SHIFT;
    u64 inside = (PAGE_BYTES << (TABLE_SHIFT * level)) - 1;
    return type == 2 || type == 3 || type == 7 || (entry & TDX_ADDRESS_MASK & inside);
}

/* What the VMM can do wrong in an entry of its shared EPT. */
static bool entry_is_misconfigured(u64 entry, u32 level)
{
    u64 rights = entry & EPT_RWX;
    bool has_execute_only = processor_msr_read(MSR_VMX_EPT_VPID_CAP) & EPT_CAP_EXECUTE_ONLY;
    if (!(rights & EPT_READ) && (rights & EPT_WRITE || (rights && !has_execute_only)))
        return true;
    if (!rights)
        return false;
    if (entry_is_leaf(entry, level))
        return leaf_is_misconfigured(entry, level);
    return (entry & (EPT_TABLE_RESERVED | EPT_LARGE)) ||
           !address_is_shared_memory(entry & TDX_ADDRESS_MASK);
}

static enum guest_access violation_of(u64 entry, u32 level)
{
    bool decides = !(entry & EPT_RWX) || entry_is_leaf(entry, level);
    return decides && !(entry & EPT_SUPPRESS_VE) ? GUEST_ACCESS_VE : GUEST_ACCESS_VIOLATION;
}

enum guest_access guest_access_walk(const struct run *run, u64 address, u64 rights,
                                    struct guest_translation *translation)
{
    bool is_shared = address & gpa_shared_bit(run->tdcs);
    u64 eptp = is_shared ? shared_eptp(run) : run->tdcs->eptp;
    u32 level = (u32)(eptp >> EPTP_LEVELS_SHIFT) & EPTP_LEVELS_MASK;

    *translation = (struct guest_translation){.rights = eptp ? EPT_RWX : 0};
    if (!eptp)
        return GUEST_ACCESS_VIOLATION;
    for (translation->entry = eptp;; level--) {
        u64 entry = translation->entry = table_entry(translation->entry, address, level);
        translation->rights &= entry;
        if (is_shared && entry_is_misconfigured(entry, level))
            return GUEST_ACCESS_MISCONFIGURATION;
        if (!(entry & EPT_RWX) || rights & ~entry)
            return violation_of(entry, level);
        if (entry_is_leaf(entry, level))
            break;
    }
    translation->host = leaf_address(translation->entry, level, address);
    return is_shared && !address_is_shared_memory(translation->host) ? GUEST_ACCESS_MISCONFIGURATION
                                                                     : GUEST_ACCESS_GRANTED;
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
