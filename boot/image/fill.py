#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Prints a template with each @NAME@ replaced:  fill.py TEMPLATE NAME=VALUE..."""
import sys

with open(sys.argv[1], encoding="utf-8") as template:
    text = template.read()
for argument in sys.argv[2:]:
    name, value = argument.split("=", 1)
    text = text.replace("@%s@" % name, value)
sys.stdout.write(text)
