/* SPDX-License-Identifier: MIT */
#include "boot/config.h"

#include "boot/log.h"
#include "boot/string.h"

/* The part of the text that one line, key or value is. */
struct span {
    const char *start;
    size_t len;
};

enum section {
    SECTION_NONE,
    SECTION_TAIN,
    SECTION_GUEST,
};

struct parser {
    struct config *config;
    struct guest_config *guest;
    enum section section;
    u32 line;
    char *message;
};

#define MEMORY_MINIMUM (16 * MIB)
#define VCPUS_MAXIMUM 64
#define PROCESSOR_MAXIMUM 65535

static enum error fail(struct parser *p, const char *what, struct span found, const char *expected)
{
    format_string(p->message, CONFIG_MESSAGE_BYTES, "tain.cfg:%u: %s '%.*s': expected %s", p->line,
                  what, (int)(found.len < 48 ? found.len : 48), found.start, expected);
    return ERR_INVALID;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span s)
{
    while (s.len && is_blank(s.start[0])) {
        s.start++;
        s.len--;
    }
    while (s.len && is_blank(s.start[s.len - 1]))
        s.len--;
    return s;
}

static bool span_is(struct span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.start, text, s.len) == 0;
}

/* Splits at the first `c`; false if there is none. */
static bool split(struct span s, char c, struct span *before, struct span *after)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.start[i] != c)
            continue;
        *before = trim((struct span){s.start, i});
        *after = trim((struct span){s.start + i + 1, s.len - i - 1});
        return true;
    }
    return false;
}

static enum error copy(struct parser *p, struct span value, char *out, size_t out_bytes)
{
    if (value.len == 0)
        return fail(p, "value", value, "some text");
    if (value.len >= out_bytes)
        return fail(p, "value", value, "a shorter text");
    memcpy(out, value.start, value.len);
    out[value.len] = 0;
    return OK;
}

/* A decimal number, no larger than `maximum`. */
static bool parse_number(struct span s, u64 maximum, u64 *number)
{
    u64 n = 0;
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.start[i] < '0' || s.start[i] > '9')
            return false;
        n = n * 10 + (u64)(s.start[i] - '0');
        if (n > maximum)
            return false;
    }
    *number = n;
    return true;
}

static enum error parse_memory(struct parser *p, struct span value)
{
    static const char expected[] = "a size of at least 16M, such as 256M or 1G";
    u64 unit = 0, number;
    if (value.len)
        unit = value.start[value.len - 1] == 'M'   ? MIB
               : value.start[value.len - 1] == 'G' ? GIB
                                                   : 0;
    struct span digits = {value.start, value.len ? value.len - 1 : 0};
    if (!unit || !parse_number(digits, 1ull << 30, &number) || number * unit < MEMORY_MINIMUM)
        return fail(p, "memory", value, expected);
    p->guest->memory_bytes = number * unit;
    return OK;
}

static enum error parse_vcpus(struct parser *p, struct span value)
{
    u64 number;
    if (!parse_number(value, VCPUS_MAXIMUM, &number) || number == 0)
        return fail(p, "vcpus", value, "a number from 1 to 64");
    p->guest->vcpus = (u32)number;
    return OK;
}

static enum error parse_processors(struct parser *p, struct span value)
{
    static const char expected[] = "up to 64 numbers of processors, such as 0, 2, 3";
    struct guest_config *g = p->guest;
    struct span rest = value, first;
    g->processor_count = 0;
    for (bool more = true; more;) {
        u64 number;
        struct span all = rest;
        more = split(all, ',', &first, &rest);
        if (g->processor_count == CONFIG_PROCESSORS_MAX ||
            !parse_number(more ? first : all, PROCESSOR_MAXIMUM, &number))
            return fail(p, "processors", value, expected);
        g->processors[g->processor_count++] = (u32)number;
    }
    return OK;
}

static enum error parse_switch(struct parser *p, const char *key, struct span value, bool *on)
{
    if (!span_is(value, "yes") && !span_is(value, "no"))
        return fail(p, key, value, "yes or no");
    *on = span_is(value, "yes");
    return OK;
}

static enum error parse_kind(struct parser *p, struct span value)
{
    if (span_is(value, "td"))
        p->guest->kind = GUEST_TD;
    else if (span_is(value, "vm"))
        p->guest->kind = GUEST_VM;
    else
        return fail(p, "kind", value, "td or vm");
    return OK;
}

static enum error parse_guest_key(struct parser *p, struct span key, struct span value)
{
    struct guest_config *g = p->guest;
    if (span_is(key, "kind"))
        return parse_kind(p, value);
    if (span_is(key, "kernel"))
        return copy(p, value, g->kernel, sizeof g->kernel);
    if (span_is(key, "initrd"))
        return copy(p, value, g->initrd, sizeof g->initrd);
    if (span_is(key, "cmdline"))
        return copy(p, value, g->cmdline, sizeof g->cmdline);
    if (span_is(key, "memory"))
        return parse_memory(p, value);
    if (span_is(key, "vcpus"))
        return parse_vcpus(p, value);
    if (span_is(key, "promote"))
        return parse_switch(p, "promote", value, &g->promote);
    if (span_is(key, "processors"))
        return parse_processors(p, value);
    return fail(p, "key", key,
                "kind, kernel, initrd, cmdline, memory, vcpus, processors or promote");
}

/* inject = LEAF:N:STATUS */
static enum error parse_inject(struct parser *p, struct span value)
{
    static const char expected[] = "LEAF:N:STATUS, such as TDH.MEM.PAGE.ADD:1:OPERAND_BUSY";
    struct span leaf, rest, nth, status;
    u64 number;
    if (p->config->inject_count == CONFIG_INJECT_MAX)
        return fail(p, "inject", value, "at most 8 of them");
    struct inject_config *inject = &p->config->inject[p->config->inject_count];
    if (!split(value, ':', &leaf, &rest) || !split(rest, ':', &nth, &status) ||
        !parse_number(nth, ~0u, &number) || number == 0 || leaf.len >= sizeof inject->leaf ||
        status.len >= sizeof inject->status || !leaf.len || !status.len)
        return fail(p, "inject", value, expected);
    memcpy(inject->leaf, leaf.start, leaf.len);
    memcpy(inject->status, status.start, status.len);
    inject->nth = (u32)number;
    inject->line = p->line;
    p->config->inject_count++;
    return OK;
}

static enum error parse_tain_key(struct parser *p, struct span key, struct span value)
{
    if (span_is(key, "strict"))
        return parse_switch(p, "strict", value, &p->config->strict);
    if (span_is(key, "checker"))
        return parse_switch(p, "checker", value, &p->config->checker);
    if (span_is(key, "module")) {
        if (!span_is(value, "1.5") && !span_is(value, "new"))
            return fail(p, "module", value, "1.5 or new");
        p->config->newer_module = span_is(value, "new");
        return OK;
    }
    if (span_is(key, "guests")) {
        if (!span_is(value, "together") && !span_is(value, "in turn"))
            return fail(p, "guests", value, "together or in turn");
        p->config->in_turn = span_is(value, "in turn");
        return OK;
    }
    if (span_is(key, "inject"))
        return parse_inject(p, value);
    if (span_is(key, "test"))
        return copy(p, value, p->config->test, sizeof p->config->test);
    return fail(p, "key", key, "strict, checker, module, guests, inject or test");
}

/* A guest section is complete when the next one starts, or the text ends. */
static enum error finish_section(struct parser *p)
{
    if (p->section == SECTION_GUEST && !p->guest->kernel[0]) {
        struct span name = {p->guest->name, strlen(p->guest->name)};
        p->line = p->guest->line;
        return fail(p, "guest", name, "a line 'kernel = PATH' in its section");
    }
    return OK;
}

static enum error parse_section(struct parser *p, struct span line)
{
    static const char expected[] = "[tain] or [guest NAME]";
    struct span inside, word, name;
    enum error error = finish_section(p);
    if (error)
        return error;
    if (line.len < 2 || line.start[line.len - 1] != ']')
        return fail(p, "section", line, expected);
    inside = trim((struct span){line.start + 1, line.len - 2});
    if (span_is(inside, "tain")) {
        p->section = SECTION_TAIN;
        return OK;
    }
    if (!split(inside, ' ', &word, &name) || !span_is(word, "guest") || !name.len)
        return fail(p, "section", line, expected);
    if (p->config->guest_count == CONFIG_GUESTS_MAX)
        return fail(p, "section", line, "at most 8 guests");
    for (u32 i = 0; i < p->config->guest_count; i++)
        if (span_is(name, p->config->guests[i].name))
            return fail(p, "guest", name, "a name that no other guest has");
    p->section = SECTION_GUEST;
    p->guest = &p->config->guests[p->config->guest_count++];
    *p->guest = (struct guest_config){
        .kind = GUEST_TD, .memory_bytes = 256 * MIB, .vcpus = 1, .promote = true, .line = p->line};
    return copy(p, name, p->guest->name, sizeof p->guest->name);
}

static enum error parse_line(struct parser *p, struct span line)
{
    struct span key, value;
    if (!line.len || line.start[0] == '#')
        return OK;
    if (line.start[0] == '[')
        return parse_section(p, line);
    if (!split(line, '=', &key, &value))
        return fail(p, "line", line, "KEY = VALUE, [SECTION] or # COMMENT");
    switch (p->section) {
    case SECTION_TAIN:
        return parse_tain_key(p, key, value);
    case SECTION_GUEST:
        return parse_guest_key(p, key, value);
    case SECTION_NONE:
        break;
    }
    return fail(p, "key", key, "a section, [tain] or [guest NAME], before it");
}

enum error config_parse(const char *text, size_t len_bytes, struct config *config,
                        char message[CONFIG_MESSAGE_BYTES])
{
    struct parser parser = {.config = config, .message = message};
    struct span rest = {text, len_bytes};
    enum error error = OK;

    *config = (struct config){.strict = true, .checker = true};
    message[0] = 0;
    while (rest.len && !error) {
        size_t len = 0;
        while (len < rest.len && rest.start[len] != '\n')
            len++;
        parser.line++;
        error = parse_line(&parser, trim((struct span){rest.start, len}));
        size_t eaten = len < rest.len ? len + 1 : len;
        rest.start += eaten;
        rest.len -= eaten;
    }
    return error ? error : finish_section(&parser);
}
