/* SPDX-License-Identifier: MIT */
#include "vmm/monitor.h"

#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/log.h"
#include "boot/string.h"
#include "boot/time.h"
#include "boot/x86.h"
#include "vmm/commands.h"
#include "vmm/guests.h"
#include "vmm/schedule.h"

#define CTRL_A 0x01
#define CTRL_U 0x15
#define BACKSPACE 0x08
#define DELETE 0x7f
#define POLL_US 10000
#define LINE_BYTES 128

static u64 poll_tsc;
static bool escaped;  /* Ctrl-A was typed */
static bool finished; /* poweroff */
static char line[LINE_BYTES];
static u32 line_len;
static int key_waiting = -1; /* the guest's UART had no room for it */

static void prompt(void)
{
    line_len = 0;
    log_console("tain> ", 6);
}

static void prompt_open(void)
{
    bool was_open = guest_console_is_the_monitors();
    guest_console_give(NULL);
    if (!was_open)
        log_line("tain: the monitor; 'help' lists what it knows, Ctrl-A n goes on to a guest");
    prompt();
}

static void prompt_close(struct guest *guest)
{
    if (guest_console_is_the_monitors())
        log_console("\r\n", 2);
    guest_console_give(&guest->vm);
}

/* --- Keys ----------------------------------------------------------------------------------------
 */

static struct guest *guest_of_line(void)
{
    for (u32 i = 0; i < guests_count(); i++)
        if (guest_console_owner() == &guest_at(i)->vm)
            return guest_at(i);
    return NULL;
}

static void next_guest(void)
{
    struct guest *next = guest_next(guest_of_line());
    if (next && next->state != GUEST_BUILDING)
        prompt_close(next);
}

/* The key after Ctrl-A; any other is none. */
static void key_escaped(u8 key)
{
    struct guest *guest = guest_of_line();
    if (key == 'c')
        prompt_open();
    else if (key == 'n')
        next_guest();
    else if (key == 'x' && guest)
        vm_end(&guest->vm, VM_END_BY_USER);
    else if (key == 'm' && guest)
        (void)vm_audit(&guest->vm);
    else if (key == 'a' && guest)
        (void)guest_console_type(CTRL_A);
}

static void line_run(void)
{
    char *words[COMMAND_WORDS_MAX];
    log_console("\r\n", 2);
    line[line_len] = 0;
    u32 count = command_split(line, words);
    switch (count ? command_run(words, count, guests_are_busy()) : COMMAND_DONE) {
    case COMMAND_POWEROFF:
        finished = true;
        return;
    case COMMAND_CONSOLE:
        if (guest_find(words[1])) {
            prompt_close(guest_find(words[1]));
            return;
        }
        break;
    case COMMAND_DONE:
        break;
    }
    prompt();
}

static void line_erase(u32 keys)
{
    for (; keys && line_len; keys--) {
        line_len--;
        log_console("\b \b", 3);
    }
}

static void key_at_prompt(u8 key)
{
    if (key == '\r' || key == '\n')
        line_run();
    else if (key == BACKSPACE || key == DELETE)
        line_erase(1);
    else if (key == CTRL_U)
        line_erase(line_len);
    else if (key >= ' ' && key < DELETE && line_len < LINE_BYTES - 1) {
        line[line_len++] = (char)key;
        log_console((const char *)&line[line_len - 1], 1);
    }
}

/* False: nobody takes it now. */
static bool key_take(u8 key)
{
    if (escaped || key == CTRL_A) {
        escaped = !escaped;
        if (!escaped)
            key_escaped(key);
        return true;
    }
    if (guest_console_is_the_monitors()) {
        key_at_prompt(key);
        return true;
    }
    return guest_console_owner() && guest_console_type(key);
}

static void keys_serve(void)
{
    for (;;) {
        int key = key_waiting >= 0 ? key_waiting : console_read();
        if (key < 0)
            return;
        bool taken = key_take((u8)key);
        key_waiting = taken ? -1 : key;
        if (!taken)
            return;
    }
}

/* --- The loop ------------------------------------------------------------------------------------
 */

void monitor_poll_at(u64 tsc)
{
    poll_tsc = tsc;
}

static void poll(void)
{
    u64 now = tsc_read();
    if (now < poll_tsc)
        return;
    poll_tsc = now + time_us_to_tsc(POLL_US);
    keys_serve();
}

void monitor_breathe(void)
{
    poll();
    cpu_serve_call();
    (void)schedule_run(poll_tsc);
}

static void serve(void)
{
    (void)guests_collect();
    poll();
    cpu_serve_call();
    if (!schedule_run(poll_tsc) && !cpu_call_is_waiting())
        interrupts_wait();
}

/* What the other processors do. */
static bool work(void)
{
    return schedule_run(~0ull);
}

void monitor_run(bool in_turn)
{
    escaped = finished = false;
    key_waiting = -1;
    guest_console_init();
    cpu_set_work(work);
    for (u32 i = 0; i < guests_count() && !finished; i++) {
        (void)guest_start(guest_at(i));
        while (in_turn && !finished && guest_next(NULL))
            serve();
    }
    while (!finished && (guest_next(NULL) || guest_console_is_the_monitors()))
        serve();
    for (u32 i = 0; i < guests_count(); i++)
        (void)guest_stop(guest_at(i));
}
