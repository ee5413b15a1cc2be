/* SPDX-License-Identifier: MIT */
#include "boot/machine.h"

#include "boot/string.h"

static const struct machine *the_machine;

void machine_set(const struct machine *machine)
{
    the_machine = machine;
}
const struct machine *machine(void)
{
    return the_machine;
}

const struct file *machine_file(const char *path)
{
    for (u32 i = 0; i < the_machine->file_count; i++)
        if (strcmp(the_machine->files[i].path, path) == 0)
            return &the_machine->files[i];
    return NULL;
}

bool machine_add_range(struct machine *machine, u64 start, u64 end, enum memory_kind kind)
{
    u32 at = machine->range_count;
    while (at > 0 && machine->ranges[at - 1].start > start)
        at--;
    if (at > 0 && machine->ranges[at - 1].end == start && machine->ranges[at - 1].kind == kind) {
        machine->ranges[at - 1].end = end;
        return true;
    }
    if (machine->range_count == MEMORY_RANGES_MAX)
        return false;
    for (u32 i = machine->range_count; i > at; i--)
        machine->ranges[i] = machine->ranges[i - 1];
    machine->ranges[at] = (struct memory_range){start, end, kind};
    machine->range_count++;
    return true;
}
