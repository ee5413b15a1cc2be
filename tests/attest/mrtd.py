#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Recomputes MRTD from a USB image's files alone: what each TD's report has to say.

    mrtd.py [--shared-bit N] IMAGE [GUEST]

Prints "MRTD  NAME" for each TD of tain.cfg. Read from IMAGE (a file, or the stick itself):
tain.cfg, kernels, initrds, and the boot shim out of BOOTX64.EFI. Where they go in the guest's
memory is decided by this tree's vmm/ (build/host/initial_pages): it has to be the one that the
image was made of. A flat binary, unlike Linux, is told the number of the SHARED bit, which
depends on the machine: 39 in Bochs (the default), 47 on a TDX server; Tain logs "GPAs of N bits",
and it is bit N - 1.
"""
import argparse
import hashlib
import os
import re
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "boot/image"))

from image import PARTITION_START_BYTES  # noqa: E402

INITIAL_PAGES = os.path.join(ROOT, "build/host/initial_pages")
BOOTLOADER = "EFI/BOOT/BOOTX64.EFI"
SHARED_BIT = 39  # Bochs
PAGE_BYTES = 4096
CHUNK_BYTES = 256
RECORD_BYTES = 128
LINE_BYTES_MAX = 1024  # of initial_pages; a path is shorter

# "jmp rel32" to the page's start, and zeros to the page's end.
RESET_VECTOR_BYTES = 16
RESET_VECTOR = struct.pack("<Bi11x", 0xe9, -(PAGE_BYTES - RESET_VECTOR_BYTES + 5))


class MrtdError(Exception):
    """What is wrong with the image, in one line."""


# --- The measurement ("TDH.MEM.PAGE.ADD", "TDH.MR.EXTEND") ------------------------------------

def record(call, address):
    return struct.pack("<16sQ", call, address).ljust(RECORD_BYTES, b"\0")


def measure(pieces):
    """MRTD in hex of a TD whose pages are added, and measured whole, in the order of `pieces`.

    A piece is (GPA, content); the rest of its last page is zero.
    """
    sha = hashlib.sha384()
    for start, content in pieces:
        for offset in range(0, len(content), PAGE_BYTES):
            page = content[offset:offset + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
            sha.update(record(b"MEM.PAGE.ADD", start + offset))
            for at in range(0, PAGE_BYTES, CHUNK_BYTES):
                sha.update(record(b"MR.EXTEND", start + offset + at))
                sha.update(page[at:at + CHUNK_BYTES])
    return sha.hexdigest()


# --- The image --------------------------------------------------------------------------------

def image_file(image, path):
    volume = "%s@@%d" % (image, PARTITION_START_BYTES)
    done = subprocess.run(["mcopy", "-i", volume, "::/" + path, "-"], check=False,
                          env=dict(os.environ, MTOOLS_SKIP_CHECK="1", LC_ALL="C"),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().split("\n")[0]
        raise MrtdError("%s: no %s: %s" % (image, path, why))
    return done.stdout


def boot_shim(program):
    """The page in BOOTX64.EFI whose last 16 bytes, a reset vector, jump to its start."""
    ends = [match.start() + RESET_VECTOR_BYTES
            for match in re.finditer(re.escape(RESET_VECTOR), program)]
    if len(ends) != 1 or ends[0] < PAGE_BYTES:
        raise MrtdError("%s: one boot shim expected, %d found" % (BOOTLOADER, len(ends)))
    return program[ends[0] - PAGE_BYTES:ends[0]]


def files_named(config):
    """The paths of kernels and initrds; whether the rest is right is config_parse's business."""
    return sorted(set(re.findall(rb"^[ \t]*(?:kernel|initrd)[ \t]*=[ \t]*(.*?)[ \t\r]*$", config,
                                 re.M)) - {b""})


# --- The layout -------------------------------------------------------------------------------

class Guest:
    """What initial_pages says of one guest; `form` is "linux", "flat" or "vm"."""

    def __init__(self, form, name):
        self.form = form
        self.name = name
        self.pieces = []

    def mrtd(self):
        return measure(self.pieces)


def guests_read(stream):
    """Reads what initial_pages writes: the guests that are there to their end."""
    guests = []
    guest = None
    at = 0
    while at < len(stream):
        line, _, _ = stream[at:at + LINE_BYTES_MAX].partition(b"\n")
        word, _, rest = line.decode(errors="replace").partition(" ")
        at += len(line) + 1
        if word == "piece":
            start, length = (int(number, 16) for number in rest.split(" ")[:2])
            guest.pieces.append((start, stream[at:at + length]))
            at += length
        elif word == "end":
            guests.append(guest)
        else:
            guest = Guest(word, rest)
    return guests


def guests_laid_out(image, shared_bit=SHARED_BIT):
    """The guests of an image, and whether there is one that could not be laid out."""
    if not os.path.exists(INITIAL_PAGES):
        raise MrtdError("%s is not built: make mrtd" % os.path.relpath(INITIAL_PAGES))
    config = image_file(image, "tain.cfg")
    contents = [("tain.cfg", config), ("shim", boot_shim(image_file(image, BOOTLOADER)))]
    for path in files_named(config):
        path = path.decode(errors="surrogateescape")
        contents.append((path, image_file(image, path)))
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, (path, content) in enumerate(contents):
            files.append(os.path.join(folder, "%d" % number))
            with open(files[-1], "wb") as file:
                file.write(content)
        pairs = ["%s=%s" % (path, file) for (path, _), file in zip(contents[2:], files[2:])]
        done = subprocess.run([INITIAL_PAGES, files[0], files[1], "%d" % shared_bit, *pairs],
                              stdout=subprocess.PIPE, check=False)
    return guests_read(done.stdout), done.returncode != 0


def image_mrtds(image, shared_bit=SHARED_BIT):
    """{name: MRTD in hex} of the TDs in an image, all of which can be laid out."""
    guests, failed = guests_laid_out(image, shared_bit)
    if failed:
        raise MrtdError("%s: a guest cannot be laid out" % image)
    return {guest.name: guest.mrtd() for guest in guests if guest.form != "vm"}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("guest", metavar="GUEST", nargs="?")
    parser.add_argument("--shared-bit", type=int, choices=range(32, 52), metavar="N")
    arguments = parser.parse_args()
    guests, failed = guests_laid_out(arguments.image, arguments.shared_bit or SHARED_BIT)
    if arguments.guest is not None:
        guests = [guest for guest in guests if guest.name == arguments.guest]
        failed = not guests
        if failed:
            raise MrtdError("%s: no guest %s" % (arguments.image, arguments.guest))
    for guest in guests:
        if guest.form == "vm":
            print("mrtd.py: guest %s is no TD: nobody measures it" % guest.name, file=sys.stderr)
            failed = failed or arguments.guest is not None
            continue
        if guest.form == "flat" and arguments.shared_bit is None:
            print("mrtd.py: guest %s is told the SHARED bit: taken as %d (--shared-bit)"
                  % (guest.name, SHARED_BIT), file=sys.stderr)
        print("%s  %s" % (guest.mrtd(), guest.name))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MrtdError as error:
        sys.exit("mrtd.py: %s" % error)
