#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds the sources to the rules of the house; prints each offence as FILE:LINE: WHAT.

    lint.py [--cc GCC] [--clang CLANG] [--flags FLAGS] [--efi-flags FLAGS]

Each rule is a function that yields offences; the last line counts the rules.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOORS = ("boot", "mm", "tdx", "vmm")  # a floor sees itself and what is before it
ANNEX = "tdx/soft"
ANNEX_SEES = ("boot", "tdx/abi", "tdx/soft")
FILE_LINES_MAX = 600
GCC_ONLY = ("-fno-tree-loop-distribute-patterns", "-maccumulate-outgoing-args")
UNNAMED = re.compile(r"(?:^|/)(?:helpers?|common|utils?|misc)\.[a-z]+$")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
CODE = (".c", ".h", ".def", ".asm", ".inc", ".py", ".mk", ".sh", ".ld")
LATER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b(?!\(#\d+\))")

arguments = None


def tracked():
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    return sorted(name for name in set(names.split("\0")) - {""}
                  if os.path.isfile(os.path.join(ROOT, name)))


def lines(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
        return file.read().split("\n")


def floor(name):
    """The index of the floor that a file is on; None for the garden and what is outside."""
    top = name.split("/")[0]
    return FLOORS.index(top) if top in FLOORS else None


def sources(files, *suffixes):
    return [name for name in files if floor(name) is not None and name.endswith(suffixes)]


# --- Rules ------------------------------------------------------------------------------------

def includes_look_down(files):
    for name in sources(files, ".c", ".h", ".def"):
        for number, text in enumerate(lines(name), 1):
            match = INCLUDE.match(text)
            if not match or match.group(1) == "<":
                continue
            target = match.group(2)
            if floor(target) is None:
                yield "%s:%d: '%s' is not written from the root" % (name, number, target)
            elif name.startswith(ANNEX + "/"):
                if os.path.dirname(target) not in ANNEX_SEES:
                    yield "%s:%d: the annex does not see '%s'" % (name, number, target)
            elif target.startswith(ANNEX + "/") and target != ANNEX + "/soft.h":
                yield "%s:%d: nobody looks into the annex past its door, soft.h" % (name, number)
            elif floor(target) > floor(name):
                yield "%s:%d: includes look down only, '%s' is upstairs" % (name, number, target)


def only_efi_sees_the_firmware(files):
    for name in sources(files, ".c", ".h"):
        for number, text in enumerate(lines(name), 1):
            match = INCLUDE.match(text)
            if match and match.group(1) == "<" and match.group(2).startswith("efi") \
                    and not name.startswith("boot/efi"):
                yield "%s:%d: only boot/efi*.c see GNU-EFI" % (name, number)


def own_header_first(files):
    for name in sources(files, ".c"):
        header = name[:-2] + ".h"
        if header not in files:
            continue
        own = [match.group(2) for match in map(INCLUDE.match, lines(name)) if match]
        own = [target for target in own if not target.startswith("efi")]  # its types come first
        if not own or own[0] != header:
            yield "%s:1: its first include is not its own header" % name


def files_say_their_licence(files):
    for name in files:
        if name.endswith(CODE) or os.path.basename(name) == "Makefile":
            head = lines(name)[:2]
            if not any("SPDX-License-Identifier: MIT" in text for text in head):
                yield "%s:1: no line 'SPDX-License-Identifier: MIT'" % name


def files_are_named_for_what_they_hold(files):
    for name in files:
        if UNNAMED.search(name):
            yield "%s:1: a name that says nothing" % name


def files_fit_a_reader(files):
    for name in sources(files, ".c", ".h", ".asm"):
        count = len(lines(name)) - 1
        if count > FILE_LINES_MAX:
            yield "%s:%d: over %d lines" % (name, count, FILE_LINES_MAX)


def nothing_is_left_for_later(files):
    for name in files:
        if not name.endswith(CODE):
            continue
        for number, text in enumerate(lines(name), 1):
            if LATER.search(text):
                yield "%s:%d: a note for later names no issue" % (name, number)


def hardware_words_have_no_bitfields(files):
    field = re.compile(r"^\s+(?:unsigned|signed|int|bool|u8|u16|u32|u64|uint\d+_t)\s+\w*\s*:\s*\d+\s*[;,]")
    for name in sources(files, ".c", ".h"):
        for number, text in enumerate(lines(name), 1):
            if field.match(text):
                yield "%s:%d: a bitfield: use a mask" % (name, number)


def text_is_tidy(files):
    for name in files:
        if not name.endswith(CODE + (".md",)):
            continue
        content = lines(name)
        for number, text in enumerate(content, 1):
            if text != text.rstrip():
                yield "%s:%d: blanks at the line's end" % (name, number)
        if content[-1]:
            yield "%s:%d: no newline at the end" % (name, len(content))


def formatting(files):
    names = [name for name in files if name.endswith((".c", ".h")) and
             (floor(name) is not None or name.startswith("tests/"))]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *names], cwd=ROOT, text=True,
                          stderr=subprocess.PIPE, check=False)
    seen = set()
    for text in done.stderr.split("\n"):
        match = re.match(r"([^:]+):(\d+):\d+: error: ", text)
        if match and match.group(1) not in seen:
            seen.add(match.group(1))
            yield "%s:%s: not as clang-format -i leaves it" % match.groups()
    if done.returncode and not seen:
        yield "clang-format: %s" % done.stderr.strip().split("\n")[0]


def command(compiler, name):
    """How `compiler` is asked to compile `name`."""
    flags = arguments.flags.split()
    if name.startswith("boot/efi."):
        flags += arguments.efi_flags.split()
    words = compiler.split()
    if "clang" in words[0]:
        flags = [flag for flag in flags if flag not in GCC_ONLY] + [
            "--target=x86_64-linux-gnu",
            "-fno-integrated-as"]  # it would read the lines of offsets.c as instructions
    return [*words, *flags, "-I."]


def compile_all(compiler, jobs):
    """Each job is (name, the rest of the command line, standard input); yields what goes wrong."""
    if not shutil.which(compiler.split()[0]):
        yield "%s is not installed" % compiler
        return

    def compile_one(job):
        name, rest, text = job
        return name, subprocess.run([*command(compiler, name), *rest], cwd=ROOT, input=text,
                                    text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    check=False)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, done in pool.map(compile_one, jobs):
            if done.returncode:
                said = done.stdout.strip().split("\n")
                errors = [text for text in said if "error: " in text]
                yield "%s: %s" % (name, (errors or said)[0])


def headers_stand_alone(files):
    for compiler in (arguments.cc, arguments.clang):
        # Twice: the guard too.
        yield from compile_all(compiler, [
            (name, ["-fsyntax-only", "-x", "c", "-"], '#include "%s"\n#include "%s"\n' % (name, name))
            for name in sources(files, ".h")])


def warnings_are_errors(compiler, files):
    # Compiled to assembly, not only parsed: some warnings come from the optimiser.
    with tempfile.TemporaryDirectory() as folder:
        yield from compile_all(compiler, [
            (name, ["-S", name, "-o", os.path.join(folder, name.replace("/", "-") + ".s")], None)
            for name in sources(files, ".c")])


def gcc_warns_of_nothing(files):
    yield from warnings_are_errors(arguments.cc, files)


def clang_warns_of_nothing(files):
    yield from warnings_are_errors(arguments.clang, files)


RULES = (includes_look_down, only_efi_sees_the_firmware, own_header_first, files_say_their_licence,
         files_are_named_for_what_they_hold, files_fit_a_reader, nothing_is_left_for_later,
         hardware_words_have_no_bitfields, text_is_tidy, formatting, headers_stand_alone,
         gcc_warns_of_nothing, clang_warns_of_nothing)


def main():
    global arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cc", default="x86_64-linux-gnu-gcc")
    parser.add_argument("--clang", default="clang")
    parser.add_argument("--flags", default="-std=gnu2x -O2 -ffreestanding -mgeneral-regs-only")
    parser.add_argument("--efi-flags", default="")
    arguments = parser.parse_args()
    files = tracked()
    failed = 0
    for rule in RULES:
        offences = list(rule(files))
        failed += bool(offences)
        print("lint: %-36s %s" % (rule.__name__.replace("_", " "),
                                  "ok" if not offences else "%d offences" % len(offences)))
        for offence in offences:
            print("  " + offence)
        sys.stdout.flush()
    print("lint: %d passed, %d failed" % (len(RULES) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
