/* SPDX-License-Identifier: MIT */
/* The freestanding part of the C library's string functions; same contracts. */
#ifndef BOOT_STRING_H
#define BOOT_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t len);

/* Copies of a small constant size become moves: freestanding code has no built-ins otherwise. */
#define memcpy(to, from, len) __builtin_memcpy(to, from, len)
#define memset(to, byte, len) __builtin_memset(to, byte, len)

#endif
