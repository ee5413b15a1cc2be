#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Turns `nm` of the linked image into the table that boot/symbols.h declares."""
import sys

symbols = []
for line in sys.stdin:
    fields = line.split()
    if len(fields) == 3 and fields[1] in "tT" and not fields[2].startswith("."):
        symbols.append((int(fields[0], 16), fields[2]))
symbols.sort()

print('#include "boot/symbols.h"')
print('#define IN_SYMBOLS __attribute__((section(".symbols")))')
print("IN_SYMBOLS const u32 symbol_count = %d;" % len(symbols))
print("IN_SYMBOLS const struct symbol symbol_table[] = {")
at = 0
for address, name in symbols:
    print("    {0x%x, %d}," % (address, at))
    at += len(name) + 1
print("    {~0u, 0}};")
print("IN_SYMBOLS const char symbol_names[] =")
for address, name in symbols:
    print('    "%s\\0"' % name)
print('    "";')
