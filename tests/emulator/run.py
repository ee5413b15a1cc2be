#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the image in an emulator, with this terminal as its serial line.

At a terminal, every key goes to the guest (Ctrl-A x ends it), but Ctrl-] stops the emulator; so does
Ctrl-C while the firmware still starts. Standard input that is no terminal
is held back until the guest has a console and then typed line by line as the guest takes it.
The exit status is Tain's; where Tain did not say one, the last line says why.
"""
import argparse
import os
import re
import select
import signal
import sys
import termios
import time
import tty

from emulator import BANNER, CONSOLE, EMULATORS, END_LIMIT_S, EXIT, EmulatorError, exit_reason

PROMPT = re.compile(rb"[#$>] (?:\x1b\[[0-9;]*[a-zA-Z])*$")
QUIET_S = 60  # a guest that shows no prompt, yet is silent for so long, may wait for input
ECHO_LIMIT_S = 0.5  # a key whose echo has not come by then has none
TAIL_BYTES = 4096
CTRL_C, CTRL_BRACKET = b"\x03", b"\x1d"


class Typist:
    """Types a file into the guest: a line at a prompt, a key at the echo of the one before."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.lines = None  # read when there is a console
        self.keys = b""
        self.key_s = 0.0
        self.echoed = True

    def heard(self, data):
        self.echoed = self.echoed or bool(data)

    def next_key(self, tail, quiet_s):
        """The byte to send now, or b""."""
        if self.lines is None:
            self.lines = self._read_all()
        if not self.keys:
            if not self.lines or not (PROMPT.search(tail) or quiet_s > QUIET_S):
                return b""
            self.keys = self.lines.pop(0)
            self.echoed = True
        if not self.echoed and time.monotonic() - self.key_s < ECHO_LIMIT_S:
            return b""
        key, self.keys = self.keys[:1], self.keys[1:]
        self.key_s, self.echoed = time.monotonic(), False
        return key

    def _read_all(self):
        data = b""
        while True:
            block = os.read(self.descriptor, 65536)
            if not block:
                break
            data += block
        if data and not data.endswith(b"\n"):
            data += b"\n"
        return [line + b"\r" for line in data.split(b"\n")[:-1]]


class Session:
    def __init__(self, emulator, timeout_s):
        self.emulator = emulator
        self.timeout_s = timeout_s
        self.start_s = self.heard_s = time.monotonic()
        self.transcript = bytearray()
        self.shown_bytes = None  # of the transcript; None before Tain's banner
        self.terminal = sys.stdin.isatty()
        self.typist = None if self.terminal else Typist(sys.stdin.fileno())
        self.has_console = False

    def run(self):
        """Until the emulator ends; returns the status and the reason."""
        end_s = None
        while True:
            data = self.emulator.read(0.02)
            now = time.monotonic()
            if data == b"":
                break
            if data:
                self._hear(data)
            if end_s is None and EXIT.search(self.transcript, max(0, len(self.transcript) - 512)):
                end_s = now + END_LIMIT_S
            if end_s is not None and now > end_s:
                break
            if self.timeout_s and now - self.start_s > self.timeout_s:
                self._finish_line()
                return exit_reason(self.emulator, bytes(self.transcript), self.timeout_s)
            if self.shown_bytes is None:
                self._progress(now)
            else:
                self._type(now)
        self._finish_line()
        self.emulator.wait(END_LIMIT_S)
        return exit_reason(self.emulator, bytes(self.transcript), None)

    def _hear(self, data):
        self.transcript += data
        self.heard_s = time.monotonic()
        if self.typist:
            self.typist.heard(data)
        if self.shown_bytes is None:
            # Before it, the firmware's own console: escape sequences for a screen of its own.
            at = self.transcript.find(BANNER)
            if at < 0:
                return
            self.shown_bytes = at
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
        if not self.has_console:
            self.has_console = CONSOLE in self.transcript[max(0, self.shown_bytes - 80):]
        sys.stdout.buffer.write(self.transcript[self.shown_bytes:])
        sys.stdout.buffer.flush()
        self.shown_bytes = len(self.transcript)

    def _keys(self):
        """What was typed at the terminal; Ctrl-] is for us."""
        if not self.terminal or not select.select([sys.stdin], [], [], 0)[0]:
            return b""
        keys = os.read(sys.stdin.fileno(), 16)
        if CTRL_BRACKET in keys:
            raise KeyboardInterrupt
        return keys

    def _progress(self, now):
        # The firmware has the line for a console of its own: nothing may reach it.
        if CTRL_C in self._keys():
            raise KeyboardInterrupt
        if sys.stderr.isatty():
            sys.stderr.write("\r%s: the firmware starts: %d s" % (self.emulator.name,
                                                                  now - self.start_s))
            sys.stderr.flush()

    def _type(self, now):
        if self.terminal:
            self.emulator.write(self._keys())
        elif self.has_console:
            key = self.typist.next_key(bytes(self.transcript[-TAIL_BYTES:]), now - self.heard_s)
            if key:
                self.emulator.write(key)

    def _finish_line(self):
        if self.shown_bytes and not self.transcript.endswith(b"\n"):
            sys.stdout.buffer.write(b"\r\n")
            sys.stdout.buffer.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--emulator", choices=sorted(EMULATORS), default="bochs")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--timeout-s", type=int, default=0, help="0: none")
    arguments = parser.parse_args()

    emulator = EMULATORS[arguments.emulator](arguments.image, arguments.cpus,
                                             arguments.memory_mib)
    mode = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up on the way out
    print("%s starts; the firmware takes some seconds%s" %
          (emulator.name, "; Ctrl-] stops it all" if sys.stdin.isatty() else ""), file=sys.stderr)
    try:
        with emulator:
            if sys.stdin.isatty():
                mode = termios.tcgetattr(sys.stdin)
                tty.setraw(sys.stdin)
            status, reason = Session(emulator, arguments.timeout_s).run()
    except EmulatorError as error:
        status, reason = 71, str(error)
    except KeyboardInterrupt:
        status, reason = 130, "interrupted"
    finally:
        if mode:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, mode)
    if reason:
        sys.stdout.flush()
        print("run: %s" % reason, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
