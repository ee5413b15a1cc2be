/* SPDX-License-Identifier: MIT */
/* The monitor's commands: words in, lines on the log out. */
#ifndef VMM_COMMANDS_H
#define VMM_COMMANDS_H

#include "boot/types.h"

#define COMMAND_WORDS_MAX 6

enum command_result {
    COMMAND_DONE,
    COMMAND_CONSOLE,  /* the line goes to the guest of the second word */
    COMMAND_POWEROFF, /* no more */
};

/* Cuts the line into words, in place; their number. */
u32 command_split(char *line, char *words[COMMAND_WORDS_MAX]);
/* `busy`: a guest is being built; what would change guests is refused. count > 0. */
enum command_result command_run(char **words, u32 count, bool busy);

#endif
