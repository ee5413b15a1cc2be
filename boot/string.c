/* SPDX-License-Identifier: MIT */
#include "boot/string.h"

#include "boot/types.h"

#undef memcpy
#undef memset

/* Words first, then the rest: an emulator counts each repetition. */
void *memcpy(void *to, const void *from, size_t len)
{
    void *start = to;
    size_t words = len / sizeof(u64), bytes = len % sizeof(u64);
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
    return start;
}

void *memmove(void *to, const void *from, size_t len)
{
    if ((u64)to - (u64)from >= len)
        return memcpy(to, from, len);
    u8 *t = to;
    const u8 *f = from;
    while (len--)
        t[len] = f[len];
    return to;
}

void *memset(void *to, int byte, size_t len)
{
    void *start = to;
    size_t words = len / sizeof(u64), bytes = len % sizeof(u64);
    u64 pattern = (u8)byte * 0x0101010101010101ull;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(pattern) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t len)
{
    const u8 *x = a, *y = b;
    for (; len; len--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    size_t len = 0;
    while (text[len])
        len++;
    return len;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t len)
{
    for (; len && *a && *a == *b; a++, b++, len--)
        ;
    return len ? (u8)*a - (u8)*b : 0;
}
