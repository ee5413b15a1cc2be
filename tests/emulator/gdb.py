#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""gdb.py IMAGE ELF: gdb on QEMU's stub, stopped at vmm_main.

Where the firmware loads Tain depends on the machine, but is the same for the same machine: a first
run, not stopped, tells the address; the second one waits for gdb.
"""
import re
import signal
import subprocess
import sys
import time

from emulator import EmulatorError, Qemu, free_port

LIMIT_S = 60
BASE = re.compile(rb"boot: image at (0x[0-9a-f]+)")


def image_base(image):
    heard = b""
    until = time.monotonic() + LIMIT_S
    with Qemu(image, extra=["-no-shutdown"]) as qemu:
        while time.monotonic() < until:
            data = qemu.read(0.2)
            if data == b"":
                break
            heard += data or b""
            found = BASE.search(heard)
            if found:
                return found.group(1).decode()
    sys.exit("gdb.py: Tain did not say within %d s where it is" % LIMIT_S)


def main():
    image, elf = sys.argv[1:]
    base = image_base(image)
    print("Tain is at %s" % base, file=sys.stderr)
    stub = "127.0.0.1:%d" % free_port()
    qemu = Qemu(image, extra=["-no-shutdown", "-gdb", "tcp:" + stub, "-S"])
    qemu.waits_for_debugger = True
    with qemu:
        # Hardware breakpoints: the code is not there yet when they are set.
        gdb = subprocess.Popen(["gdb", "-q", "-iex", "set confirm off",
                                "-ex", "add-symbol-file %s -o %s" % (elf, base),
                                "-ex", "target remote " + stub, "-ex", "hbreak vmm_main",
                                "-ex", "continue"])
        # Ctrl-C stops the machine: it is for gdb, which would be gone with us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while gdb.poll() is None:
            data = qemu.read(0.1)  # Tain's log, beside gdb's own output
            if data == b"":
                break
            if data and b"tain" in data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        gdb.wait()


if __name__ == "__main__":
    try:
        main()
    except EmulatorError as error:
        sys.exit("gdb.py: %s" % error)
