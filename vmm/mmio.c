/* SPDX-License-Identifier: MIT */
#include "vmm/mmio.h"

#include "vmm/layout.h"
#include "vmm/vm.h"

/* A device's memory. `offset` is from its start; a whole access is inside. */
struct mmio_range {
    u64 start, len_bytes;
    u64 (*read)(struct vm *vm, u64 offset, u32 size_bytes);
    void (*write)(struct vm *vm, u64 offset, u32 size_bytes, u64 value);
};

static u64 all_ones(u32 size_bytes)
{
    return ~0ull >> (64 - 8 * size_bytes);
}

static u64 read_ioapic(struct vm *vm, u64 offset, u32 size_bytes)
{
    return size_bytes == sizeof(u32) ? ioapic_read(&vm->ioapic, offset) : all_ones(size_bytes);
}

static void write_ioapic(struct vm *vm, u64 offset, u32 size_bytes, u64 value)
{
    struct interrupt interrupt;
    if (size_bytes != sizeof(u32))
        return;
    ioapic_write(&vm->ioapic, offset, (u32)value, &interrupt);
    vm_deliver(vm, &interrupt, INTERRUPT_BROADCAST);
}

static const struct mmio_range mmio_ranges[] = {
    {LAYOUT_IOAPIC, IOAPIC_WINDOW_BYTES, read_ioapic, write_ioapic},
};

static const struct mmio_range *mmio_find(gpa_t address, u32 size_bytes)
{
    for (u32 i = 0; i < ARRAY_LENGTH(mmio_ranges); i++) {
        const struct mmio_range *range = &mmio_ranges[i];
        u64 offset = address.raw - range->start;
        if (offset < range->len_bytes && size_bytes <= range->len_bytes - offset)
            return range;
    }
    return NULL;
}

/* By page, as a guest maps it: beside the registers nobody answers. */
bool mmio_is_device(const struct vm *vm, gpa_t address)
{
    (void)vm;
    for (u32 i = 0; i < ARRAY_LENGTH(mmio_ranges); i++) {
        u64 len = align_up(mmio_ranges[i].len_bytes, PAGE_BYTES);
        if (address.raw - mmio_ranges[i].start < len)
            return true;
    }
    return false;
}

u64 mmio_read(struct vm *vm, gpa_t address, u32 size_bytes)
{
    const struct mmio_range *range = mmio_find(address, size_bytes);
    if (!range)
        return all_ones(size_bytes);
    lock_take(&vm->lock);
    u64 value = range->read(vm, address.raw - range->start, size_bytes);
    lock_release(&vm->lock);
    return value;
}

void mmio_write(struct vm *vm, gpa_t address, u32 size_bytes, u64 value)
{
    const struct mmio_range *range = mmio_find(address, size_bytes);
    if (!range)
        return;
    lock_take(&vm->lock);
    range->write(vm, address.raw - range->start, size_bytes, value);
    lock_release(&vm->lock);
}
