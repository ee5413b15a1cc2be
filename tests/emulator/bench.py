#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Boots Tain with guests that measure it, in Bochs, where a tick is an instruction.

Prints a table, writes build/bench.json, and compares with goals; the exit status is 1 if one is
missed, 2 if the run went wrong.
"""
import argparse
import json
import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../boot/image"))

from emulator import BANNER, BUILD, EXIT, END_LIMIT_S, Bochs, exit_reason  # noqa: E402
from image import image_write  # noqa: E402

LIMIT_S = 900
LOG = os.path.join(BUILD, "bench.log")
MEMORY_MIB = 768

CONFIG = """\
[tain]
strict = %s
checker = no
test = measure
guests = in turn
[guest measure]
kind = td
kernel = measure.bin
memory = 256M
[guest teardown]
kind = td
kernel = teardown.bin
memory = 256M
[guest vm_measure]
kind = vm
kernel = vm_measure.bin
memory = 63M
"""
GUESTS = ("measure", "teardown", "vm_measure")

SPREAD = r"min (\d+) median (\d+) p99 (\d+)"
SERIES = re.compile(r"bench: (\w+): vmm %s n (\d+); module %s$" % (SPREAD, SPREAD), re.M)
TABLES = re.compile(r"bench: tables: (\d+) KiB per GiB; pages: (\d+) mirror, (\d+) external, "
                    r"(\d+) direct, (\d+) private, of 4 KiB (\d+)$", re.M)
GUEST_SERIES = re.compile(r"guest: series (\w+) n (\d+)$", re.M)

# Medians of the VMM's own part, at most.
#
# Removal at 25 a page is for memory in pages of 2 MiB, which guests get wherever they accept it so:
# one PAGE.WBINVD a page is left. A page of 4 KiB is three calls: RANGE.BLOCK, PAGE.REMOVE and
# PAGE.WBINVD. These are 26 instructions that nothing can spare: RAX, RCX and, for two of them, RDX
# to load (8), CALL and RET (6), the look at the carry flag and at RAX (9), the next operand (3).
# Counted as they are (tdx_call_each) they take 36; to freeze, find and publish the entry takes 25,
# the look at the table that was emptied 8.
GOALS = {
    "fault_4k": 500,
    "discard_2m": 25,
    "discard_4k": 85,
    "vm_cpuid": 150,
}

# Linux's KVM with an ordinary VM, and a C handler by hand, in the same emulator.
KVM = {
    "fault_4k": 2766,
    "fault_2m": 2674,
    "vm_fault_4k": 2766,
    "vm_fault_2m": 2674,
    "discard_4k": 250,
    "vm_cpuid": 964,
    "tables": "2.10 MiB per GiB",
}
HANDLER = {"vm_fault_4k": 72, "vm_fault_2m": 72, "vm_cpuid": 68}


class BenchError(Exception):
    """The run gave no figures; the message says why."""


def run(strict, extra_files=None, config=CONFIG):
    """What Tain said, without carriage returns."""
    with tempfile.TemporaryDirectory() as folder:
        config_file = os.path.join(folder, "tain.cfg")
        with open(config_file, "w") as file:
            file.write(config % ("yes" if strict else "no"))
        files = {"EFI/BOOT/BOOTX64.EFI": os.path.join(BUILD, "tain.efi"), "tain.cfg": config_file}
        for name in GUESTS:
            files[name + ".bin"] = os.path.join(BUILD, "guests", name + ".bin")
        files.update(extra_files or {})
        image = os.path.join(folder, "tain.img")
        image_write(image, files)
        with Bochs(image, 1, MEMORY_MIB) as emulator:
            return listen(emulator)


def listen(emulator):
    transcript = b""
    until = time.monotonic() + LIMIT_S
    late = None
    while True:
        data = emulator.read(0.2)
        transcript += data or b""
        if data == b"":
            break
        if data and EXIT.search(transcript, max(0, len(transcript) - 4096)):
            until = min(until, time.monotonic() + END_LIMIT_S)
        if time.monotonic() > until:
            late = LIMIT_S
            break
    status, reason = exit_reason(emulator, transcript, late)
    text = transcript[max(0, transcript.find(BANNER)):].decode(errors="replace").replace("\r", "")
    with open(LOG, "w") as file:
        file.write(text)
    if status != 0 or text.count("guest: PASS") != len(GUESTS):
        raise BenchError("the run failed, status %d %s; see %s" % (status, reason, LOG))
    return text


def spread(values):
    return dict(zip(("min", "median", "p99"), map(int, values)))


def figures(text):
    """name -> {vmm, module, n}, and `tables`."""
    found = {}
    for match in SERIES.finditer(text):
        values = match.groups()
        found[values[0]] = {"vmm": spread(values[1:4]), "module": spread(values[5:8]),
                            "n": int(values[4])}
    match = TABLES.search(text)
    if match:
        names = ("kib_per_gib", "mirror", "external", "direct", "private", "leaves_4k")
        found["tables"] = dict(zip(names, map(int, match.groups())))
    return found


def table(found):
    yield "%-20s %8s %8s %8s | %8s %8s %8s | %5s %6s %6s %6s" % (
        "ticks", "vmm min", "median", "p99", "mod. min", "median", "p99", "n", "goal", "KVM", "hand")
    for name, row in found.items():
        if name == "tables":
            continue
        vmm, module = row["vmm"], row["module"]
        yield "%-20s %8d %8d %8d | %8d %8d %8d | %5d %6s %6s %6s" % (
            name, vmm["min"], vmm["median"], vmm["p99"], module["min"], module["median"],
            module["p99"], row["n"], GOALS.get(name, ""), KVM.get(name, ""),
            HANDLER.get(name, ""))
    if "tables" in found:
        tables = found["tables"]
        yield "tables: %.2f MiB per GiB of private memory in pages of 4 KiB (%d mirror, " \
              "%d external, %d direct pages for %d); KVM: %s" % (
                  tables["kib_per_gib"] / 1024, tables["mirror"], tables["external"],
                  tables["direct"], tables["private"], KVM["tables"])


def missed(found):
    """A line for each goal that is not met; a series that nobody measured yet is none."""
    return ["%s: the VMM's part takes %d ticks, the goal is %d" %
            (name, found[name]["vmm"]["median"], goal)
            for name, goal in GOALS.items()
            if name in found and found[name]["vmm"]["median"] > goal]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", choices=["yes", "no"], default="no",
                        help="hide private pages from the VMM, as tain.cfg's strict does")
    arguments = parser.parse_args()
    try:
        found = figures(run(arguments.strict == "yes"))
    except BenchError as error:
        print("bench: %s" % error, file=sys.stderr)
        return 2
    for line in table(found):
        print(line)
    with open(os.path.join(BUILD, "bench.json"), "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
    lines = missed(found)
    for line in lines:
        print("bench: goal missed: " + line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
