/* SPDX-License-Identifier: MIT */
#include "vmm/console.h"

#include "boot/console.h"
#include "boot/log.h"
#include "vmm/vm.h"

#define CTRL_A 0x01

void guest_console_begin(struct vm *vm)
{
    vm->console = (struct guest_console){0};
    log_line("tain: console of guest %s; Ctrl-A x ends it, Ctrl-A m audits its memory",
             vm->config->name);
}

void guest_console_end(struct vm *vm)
{
    if (vm->console.in_line)
        log_console("\r\n", 2);
    vm->console.in_line = false;
}

void guest_console_output(void *context, u8 byte)
{
    struct vm *vm = context;
    const char c = (char)byte;
    log_console(&c, 1);
    if (c != '\r')
        vm->console.in_line = c != '\n';
}

static void key_typed(struct vm *vm, u8 key)
{
    struct guest_console *console = &vm->console;
    bool escaped = console->escaped;
    console->escaped = !escaped && key == CTRL_A;
    if (console->escaped)
        return;
    if (escaped && key == 'x')
        vm_end(vm, VM_END_BY_USER);
    else if (escaped && key == 'a')
        (void)uart_type(&vm->uart, CTRL_A);
    else if (escaped && key == 'm')
        console->audit_wanted = true;
    else if (!escaped)
        (void)uart_type(&vm->uart, key);
    /* Any other key behind Ctrl-A is none. */
}

void guest_console_poll(struct vm *vm)
{
    while (!uart_input_is_full(&vm->uart)) {
        int key = console_read();
        if (key < 0)
            break;
        key_typed(vm, (u8)key);
    }
    vm_update_uart_line(vm);
}
