/* SPDX-License-Identifier: MIT */
#include "vmm/guests.h"

#include "boot/assert.h"
#include "boot/log.h"
#include "boot/string.h"
#include "tdx/pamt.h"
#include "vmm/measure.h"
#include "vmm/selftest.h"
#include "vmm/vmx_vm.h"

static struct guest guests[CONFIG_GUESTS_MAX];
static u32 count;
static bool all_good = true;

static const char *const state_names[GUEST_STATES] = {
    [GUEST_ABSENT] = "absent",
    [GUEST_BUILDING] = "being built",
    [GUEST_RUNNING] = "running",
    [GUEST_PAUSED] = "paused",
};

const char *guest_state_name(enum guest_state state)
{
    return state < GUEST_STATES ? state_names[state] : "?";
}

void guests_init(const struct config *config)
{
    count = config->guest_count;
    all_good = true;
    for (u32 i = 0; i < count; i++)
        guests[i] = (struct guest){.config = &config->guests[i]};
}

u32 guests_count(void)
{
    return count;
}

struct guest *guest_at(u32 index)
{
    ASSERT(index < count);
    return &guests[index];
}

struct guest *guest_find(const char *name)
{
    for (u32 i = 0; i < count; i++)
        if (strcmp(guests[i].config->name, name) == 0)
            return &guests[i];
    return NULL;
}

struct guest *guest_next(const struct guest *after)
{
    u32 from = after ? (u32)(after - guests) + 1 : 0;
    for (u32 i = 0; i < count; i++) {
        struct guest *guest = &guests[(from + i) % count];
        if (guest->state != GUEST_ABSENT)
            return guest;
    }
    return NULL;
}

bool guests_are_busy(void)
{
    for (u32 i = 0; i < count; i++)
        if (guests[i].state == GUEST_BUILDING)
            return true;
    return false;
}

bool guest_has_vm(const struct guest *guest)
{
    return guest->state == GUEST_RUNNING || guest->state == GUEST_PAUSED;
}

static void audit(struct vm *vm, struct vm_result *result)
{
    if (!vm_is_td(vm)) {
        result->audit = vmx_vm_audit(vm);
        return;
    }
    selftest_before_audit(vm);
    result->audit = mirror_audit(&vm->td.mirror, result->audit_message);
    if (!result->audit)
        result->audit = pamt_audit(result->audit_message);
}

/* It has ended: what it did is told, and everything it had comes back. */
static void guest_finish(struct guest *guest)
{
    struct vm *vm = &guest->vm;
    struct vm_result *result = &guest->result;
    vm_stop(vm);
    *result = (struct vm_result){0};
    guest_console_take_back(vm);
    audit(vm, result);
    summary_collect(result, vm);
    result->destroyed = measure_is_on() ? measure_destroy(vm) : vm_destroy(vm);
    summary_print(vm, result);
    all_good &= vm_result_is_good(vm, result);
    guest->state = GUEST_ABSENT;
    struct guest *next = guest_next(guest);
    if (next)
        guest_console_offer(&next->vm);
}

static enum error build_and_start(struct guest *guest)
{
    struct vm *vm = &guest->vm;
    enum error e = vm_create(vm, guest->config);
    if (e)
        return e;
    selftest_before_start(vm);
    guest_console_offer(vm);
    e = vm_start(vm);
    if (!e)
        return OK;
    guest_console_take_back(vm);
    if (vm_destroy(vm))
        log_line("guest %s: not all was given back", guest->config->name);
    return e;
}

enum error guest_start(struct guest *guest)
{
    if (guest->state != GUEST_ABSENT)
        return ERR_STATE;
    guest->state = GUEST_BUILDING;
    enum error e = build_and_start(guest);
    guest->state = e ? GUEST_ABSENT : GUEST_RUNNING;
    guest->starts += !e;
    all_good &= !e;
    return e;
}

enum error guest_pause(struct guest *guest)
{
    if (guest->state != GUEST_RUNNING)
        return ERR_STATE;
    vm_pause(&guest->vm);
    guest->state = GUEST_PAUSED;
    return OK;
}

enum error guest_resume(struct guest *guest)
{
    if (guest->state != GUEST_PAUSED)
        return ERR_STATE;
    guest->state = GUEST_RUNNING;
    vm_resume(&guest->vm);
    return OK;
}

enum error guest_stop(struct guest *guest)
{
    if (!guest_has_vm(guest))
        return ERR_STATE;
    vm_end(&guest->vm, VM_END_BY_USER);
    guest_finish(guest);
    return OK;
}

bool guests_collect(void)
{
    bool found = false;
    for (u32 i = 0; i < count; i++) {
        if (!guest_has_vm(&guests[i]) || !vm_has_ended(&guests[i].vm))
            continue;
        guest_finish(&guests[i]);
        found = true;
    }
    return found;
}

bool guests_were_good(void)
{
    return all_good;
}
