/* SPDX-License-Identifier: MIT */
#include "vmm/commands.h"

#include "boot/cpu.h"
#include "boot/log.h"
#include "boot/string.h"
#include "vmm/guests.h"
#include "vmm/schedule.h"

typedef unsigned long long number; /* what %llu takes */

typedef enum command_result command_handler(char **words, u32 count);

#define COMMAND(name, arguments, least, most, changes, text) static command_handler command_##name;
#include "vmm/commands.def"
#undef COMMAND

static const struct command {
    const char *name, *arguments, *text;
    u32 least, most; /* words, its own included */
    bool changes;
    command_handler *handler;
} commands[] = {
#define COMMAND(name, arguments, least, most, changes, text) \
    {#name, arguments, text, least, most, changes, command_##name},
#include "vmm/commands.def"
#undef COMMAND
};

u32 command_split(char *line, char *words[COMMAND_WORDS_MAX])
{
    u32 count = 0;
    for (;;) {
        while (*line == ' ')
            *line++ = 0;
        if (!*line || count == COMMAND_WORDS_MAX)
            return count;
        words[count++] = line;
        while (*line && *line != ' ')
            line++;
    }
}

/* With a line if there is none. */
static struct guest *guest_named(const char *name)
{
    struct guest *guest = guest_find(name);
    if (!guest)
        log_line("monitor: tain.cfg has no guest '%s'", name);
    return guest;
}

static bool word_number(const char *word, u32 limit, u32 *value)
{
    u32 n = 0;
    for (; *word >= '0' && *word <= '9' && n < limit; word++)
        n = n * 10 + (u32)(*word - '0');
    *value = n;
    return !*word && n < limit;
}

static enum command_result command_help(char **words, u32 count)
{
    (void)words;
    (void)count;
    for (u32 i = 0; i < ARRAY_LENGTH(commands); i++)
        log_line("  %s %s: %s", commands[i].name, commands[i].arguments, commands[i].text);
    log_line("Keys: Ctrl-A c the monitor, n the next guest's console, x ends the guest, m audits "
             "it, a Ctrl-A itself.");
    return COMMAND_DONE;
}

static void print_guest(const struct guest *guest)
{
    const struct guest_config *config = guest->config;
    const struct vm *vm = &guest->vm;
    log_line("  %s: %s, %s, %llu MiB, %u vCPU%s, started %u time%s", config->name,
             config->kind == GUEST_TD ? "td" : "vm", guest_state_name(guest->state),
             (number)(config->memory_bytes / MIB), config->vcpus, config->vcpus == 1 ? "" : "s",
             guest->starts, guest->starts == 1 ? "" : "s");
    if (!guest_has_vm(guest))
        return;
    for (u32 i = 0; i < vm->vcpu_count; i++)
        log_line("    vCPU %u on processor %u, %s, ran %llu ticks", i, vm->vcpus[i]->cpu,
                 vm->vcpus[i]->halted ? "waits" : "runs", (number)vm->vcpus[i]->ran_ticks);
}

static enum command_result command_guests(char **words, u32 count)
{
    (void)words;
    (void)count;
    for (u32 i = 0; i < guests_count(); i++)
        print_guest(guest_at(i));
    return COMMAND_DONE;
}

/* What a guest's state forbids is said; what else fails has been said where it did. */
static void guest_do(const char *name, enum error (*action)(struct guest *guest), const char *what)
{
    struct guest *guest = guest_named(name);
    if (!guest)
        return;
    const char *state = guest_state_name(guest->state);
    enum error e = action(guest);
    if (e == ERR_STATE)
        log_line("monitor: guest %s is %s: it cannot be %s", guest->config->name, state, what);
    else if (!e)
        log_line("monitor: guest %s is %s", guest->config->name, guest_state_name(guest->state));
}

static enum command_result command_start(char **words, u32 count)
{
    (void)count;
    guest_do(words[1], guest_start, "started");
    return COMMAND_DONE;
}

static enum command_result command_pause(char **words, u32 count)
{
    (void)count;
    guest_do(words[1], guest_pause, "paused");
    return COMMAND_DONE;
}

static enum command_result command_resume(char **words, u32 count)
{
    (void)count;
    guest_do(words[1], guest_resume, "resumed");
    return COMMAND_DONE;
}

static enum command_result command_stop(char **words, u32 count)
{
    (void)count;
    guest_do(words[1], guest_stop, "stopped");
    return COMMAND_DONE;
}

static enum command_result command_console(char **words, u32 count)
{
    (void)count;
    struct guest *guest = guest_named(words[1]);
    if (guest && guest_has_vm(guest))
        return COMMAND_CONSOLE;
    if (guest)
        log_line("monitor: guest %s is %s: it has no console now", words[1],
                 guest_state_name(guest->state));
    return COMMAND_DONE;
}

static enum command_result command_audit(char **words, u32 count)
{
    for (u32 i = 0; i < guests_count(); i++) {
        struct guest *guest = guest_at(i);
        if (guest_has_vm(guest) && (count == 1 || strcmp(guest->config->name, words[1]) == 0))
            (void)vm_audit(&guest->vm);
    }
    if (count > 1)
        (void)guest_named(words[1]);
    return COMMAND_DONE;
}

static enum command_result command_move(char **words, u32 count)
{
    (void)count;
    u32 vcpu, cpu;
    struct guest *guest = guest_named(words[1]);
    if (!guest)
        return COMMAND_DONE;
    if (!guest_has_vm(guest) || !word_number(words[2], guest->vm.vcpu_count, &vcpu) ||
        !word_number(words[3], cpu_count(), &cpu)) {
        log_line("monitor: guest %s has no vCPU %s, or the machine no processor %s", words[1],
                 words[2], words[3]);
        return COMMAND_DONE;
    }
    enum error e = schedule_move(guest->vm.vcpus[vcpu], cpu);
    log_line("monitor: vCPU %u of guest %s is on processor %u%s%s", vcpu, guest->config->name,
             guest->vm.vcpus[vcpu]->cpu, e ? ": " : "", e ? error_name(e) : "");
    return COMMAND_DONE;
}

static enum command_result command_memory(char **words, u32 count)
{
    (void)words;
    (void)count;
    struct pages_stats stats;
    pages_statistics(&stats);
    for (enum page_owner owner = 0; owner < PAGE_OWNER_KINDS; owner++)
        if (stats.pages[owner])
            log_line("  %s: %llu pages", page_owner_name(owner), (number)stats.pages[owner]);
    log_line("  sum: %llu pages", (number)stats.total_pages);
    return COMMAND_DONE;
}

static enum command_result command_poweroff(char **words, u32 count)
{
    (void)words;
    (void)count;
    return COMMAND_POWEROFF;
}

enum command_result command_run(char **words, u32 count, bool busy)
{
    for (u32 i = 0; i < ARRAY_LENGTH(commands); i++) {
        const struct command *command = &commands[i];
        if (strcmp(command->name, words[0]) != 0)
            continue;
        if (count < command->least || count > command->most) {
            log_line("monitor: %s %s", command->name, command->arguments);
            return COMMAND_DONE;
        }
        if (busy && command->changes) {
            log_line("monitor: a guest is being built: %s has to wait", command->name);
            return COMMAND_DONE;
        }
        return command->handler(words, count);
    }
    log_line("monitor: '%s' is no command; 'help' lists them", words[0]);
    return COMMAND_DONE;
}
