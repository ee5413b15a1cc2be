/* SPDX-License-Identifier: MIT */
#include "boot/log.h"

/* Where characters go, and how many would have gone there without the limit. */
struct sink {
    char *out;
    size_t room_bytes;
    size_t len_bytes;
};

struct spec {
    u32 width;
    char pad;
    u32 longs;
    bool prefix; /* '#': 0x before what is not zero */
};

static void put(struct sink *sink, char c)
{
    if (sink->len_bytes + 1 < sink->room_bytes)
        sink->out[sink->len_bytes] = c;
    sink->len_bytes++;
}

static void put_text(struct sink *sink, const char *text, struct spec spec, size_t limit)
{
    size_t len = 0;
    while (len < limit && text[len])
        len++;
    for (size_t i = 0; i < len; i++)
        put(sink, text[i]);
    for (size_t i = len; i < spec.width; i++)
        put(sink, ' ');
}

static void put_number(struct sink *sink, u64 value, u32 base, char sign, struct spec spec)
{
    bool prefix = spec.prefix && base == 16 && value;
    char digits[24];
    u32 len = 0;
    do {
        digits[len++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);

    u32 total = len + (sign ? 1 : 0) + (prefix ? 2 : 0);
    if (spec.pad == ' ')
        for (; total < spec.width; total++)
            put(sink, ' ');
    if (sign)
        put(sink, sign);
    if (prefix) {
        put(sink, '0');
        put(sink, 'x');
    }
    if (spec.pad == '0')
        for (; total < spec.width; total++)
            put(sink, '0');
    while (len)
        put(sink, digits[--len]);
}

/* A wrapper lets the argument list travel by pointer. */
struct arguments {
    va_list list;
};

static u64 next_unsigned(struct arguments *arguments, u32 longs)
{
    return longs ? va_arg(arguments->list, u64) : va_arg(arguments->list, u32);
}

static i64 next_signed(struct arguments *arguments, u32 longs)
{
    return longs ? va_arg(arguments->list, i64) : va_arg(arguments->list, i32);
}

static void convert(struct sink *sink, char conversion, struct spec spec,
                    struct arguments *arguments, size_t precision)
{
    static const struct spec plain = {.pad = ' '};
    i64 value;

    switch (conversion) {
    case 's':
        put_text(sink, va_arg(arguments->list, const char *), spec, precision);
        break;
    case 'c':
        put(sink, (char)va_arg(arguments->list, int));
        break;
    case 'd':
        value = next_signed(arguments, spec.longs);
        put_number(sink, value < 0 ? 0 - (u64)value : (u64)value, 10, value < 0 ? '-' : 0, spec);
        break;
    case 'u':
        put_number(sink, next_unsigned(arguments, spec.longs), 10, 0, spec);
        break;
    case 'x':
        put_number(sink, next_unsigned(arguments, spec.longs), 16, 0, spec);
        break;
    case 'p':
        put_text(sink, "0x", plain, 2);
        put_number(sink, (u64)va_arg(arguments->list, void *), 16, 0, spec);
        break;
    default:
        put(sink, conversion);
        break;
    }
}

int format_string_v(char *out, size_t out_bytes, const char *format, va_list list)
{
    struct sink sink = {.out = out, .room_bytes = out_bytes};
    struct arguments arguments;

    va_copy(arguments.list, list);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            put(&sink, *p);
            continue;
        }
        struct spec spec = {.pad = ' '};
        size_t precision = ~0ull;
        p++;
        if (*p == '#') {
            spec.prefix = true;
            p++;
        }
        if (*p == '-') /* text is always left-aligned, numbers right-aligned */
            p++;
        if (*p == '0')
            spec.pad = *p++;
        for (; *p >= '0' && *p <= '9'; p++)
            spec.width = spec.width * 10 + (u32)(*p - '0');
        if (p[0] == '.' && p[1] == '*') {
            precision = (size_t)va_arg(arguments.list, int);
            p += 2;
        }
        for (; *p == 'l' || *p == 'z'; p++)
            spec.longs++;
        if (!*p)
            break;
        convert(&sink, *p, spec, &arguments, precision);
    }
    va_end(arguments.list);
    if (out_bytes)
        out[sink.len_bytes < out_bytes ? sink.len_bytes : out_bytes - 1] = 0;
    return (int)sink.len_bytes;
}

int format_string(char *out, size_t out_bytes, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int len = format_string_v(out, out_bytes, format, list);
    va_end(list);
    return len;
}
