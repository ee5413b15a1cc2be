/* SPDX-License-Identifier: MIT */
#include "vmm/console.h"

#include <stdatomic.h>

#include "boot/log.h"
#include "vmm/vm.h"

static struct vm *_Atomic owner;
static bool monitor_has_it;

void guest_console_init(void)
{
    atomic_store(&owner, NULL);
    monitor_has_it = false;
}

bool guest_console_is_the_monitors(void)
{
    return monitor_has_it;
}

struct vm *guest_console_owner(void)
{
    return atomic_load(&owner);
}

static void note_line(struct guest_console *console, char c)
{
    if (c != '\r')
        console->in_line = c != '\n';
}

static void keep(struct guest_console *console, char c)
{
    console->kept[console->kept_end++ % CONSOLE_KEPT_BYTES] = c;
    if (console->kept_end - console->kept_start > CONSOLE_KEPT_BYTES)
        console->kept_start = console->kept_end - CONSOLE_KEPT_BYTES;
}

static void print_kept(struct guest_console *console)
{
    while (console->kept_start != console->kept_end) {
        char c = console->kept[console->kept_start++ % CONSOLE_KEPT_BYTES];
        log_console(&c, 1);
        note_line(console, c);
    }
}

/* The VMM's lines start on a line of their own. */
static void end_line(struct guest_console *console)
{
    if (console->in_line)
        log_console("\r\n", 2);
    console->in_line = false;
}

static void take_away(struct vm *vm)
{
    lock_take(&vm->lock);
    atomic_store(&owner, NULL);
    end_line(&vm->console);
    lock_release(&vm->lock);
}

void guest_console_give(struct vm *vm)
{
    struct vm *old = guest_console_owner();
    monitor_has_it = !vm;
    if (old == vm)
        return;
    if (old)
        take_away(old);
    if (!vm)
        return;
    log_line("tain: console of guest %s; Ctrl-A x ends it, Ctrl-A m audits its memory, Ctrl-A c is "
             "the monitor",
             vm->config->name);
    lock_take(&vm->lock);
    print_kept(&vm->console);
    atomic_store(&owner, vm);
    lock_release(&vm->lock);
}

void guest_console_offer(struct vm *vm)
{
    if (!guest_console_owner() && !monitor_has_it)
        guest_console_give(vm);
}

void guest_console_take_back(struct vm *vm)
{
    if (guest_console_owner() != vm && vm->console.kept_start != vm->console.kept_end) {
        log_line("tain: what guest %s printed behind the others:", vm->config->name);
        print_kept(&vm->console);
        end_line(&vm->console);
    }
    if (guest_console_owner() == vm)
        take_away(vm);
}

void guest_console_output(void *context, u8 byte)
{
    struct vm *vm = context;
    const char c = (char)byte;
    if (vm != guest_console_owner()) {
        keep(&vm->console, c);
        return;
    }
    log_console(&c, 1);
    note_line(&vm->console, c);
}

bool guest_console_type(u8 key)
{
    struct vm *vm = guest_console_owner();
    lock_take(&vm->lock);
    bool taken = uart_type(&vm->uart, key);
    vm_update_uart_line(vm);
    lock_release(&vm->lock);
    return taken;
}
