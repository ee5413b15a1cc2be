# SPDX-License-Identifier: MIT
"""What the emulator cases share: an image of their own, and a machine that runs it."""
import os
import re
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in (".", "../attest", "../../boot/image"):
    sys.path.insert(0, os.path.join(HERE, folder))

from emulator import BANNER, BUILD, END_LIMIT_S, EXIT, Bochs, Qemu, exit_reason  # noqa: E402
from image import image_write  # noqa: E402

BOOT_LIMIT_S = 240  # firmware, with another emulator on the same two cores


class Machine:
    """One emulator, everything it said, and what a case wants of it."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.transcript = b""
        self.at = 0  # what expect() has passed
        self.status = None
        self.reason = ""

    def _hear(self, timeout_s):
        data = self.emulator.read(timeout_s)
        self.transcript += data or b""
        return data != b""

    def expect(self, pattern, timeout_s=BOOT_LIMIT_S):
        """Waits for the pattern behind what was expected before; returns the match."""
        pattern = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.M)
        until = time.monotonic() + timeout_s
        alive = True
        while True:
            match = pattern.search(self.transcript, self.at)
            if match:
                self.at = match.end()
                return match
            if not alive or time.monotonic() > until:
                why = "the emulator ended" if not alive else "not within %d s" % timeout_s
                pytest.fail("%r: %s; at the end:\n%s" % (pattern.pattern, why, self.tail()))
            alive = self._hear(0.2)

    def type(self, text):
        """Types as a person does: the next key when the one before was taken."""
        for key in text.encode():
            heard = len(self.transcript)
            self.emulator.write(bytes([key]))
            until = time.monotonic() + 0.5
            while len(self.transcript) == heard and time.monotonic() < until and self._hear(0.02):
                pass

    def finish(self, timeout_s=BOOT_LIMIT_S):
        """Waits for the end; returns the status as `make run` would."""
        until = time.monotonic() + timeout_s
        late = None
        while self._hear(0.2):
            now = time.monotonic()
            if EXIT.search(self.transcript):
                until = min(until, now + END_LIMIT_S)
            if now > until:
                late = timeout_s
                break
        if late is None:
            self.emulator.wait(END_LIMIT_S)
        self.status, self.reason = exit_reason(self.emulator, self.transcript, late)
        return self.status

    def text(self):
        """From Tain's first line on, without carriage returns."""
        return self.transcript[max(0, self.transcript.find(BANNER)):].decode(
            errors="replace").replace("\r", "")

    def lines(self):
        return self.text().split("\n")

    def tail(self):
        return "\n".join(self.lines()[-40:]) + "\n" + self.reason


@pytest.fixture
def boot(tmp_path):
    """boot(tain_cfg, files, emulator, ...) -> Machine; ended and removed after the case."""
    running = []

    def start(config, files=None, emulator=Bochs, cpus=1, memory_mib=512):
        config_file = tmp_path / "tain.cfg"
        config_file.write_text(config)
        contents = {"EFI/BOOT/BOOTX64.EFI": os.path.join(BUILD, "tain.efi")}
        contents["tain.cfg"] = str(config_file)
        contents.update(files or {})
        image = str(tmp_path / "tain.img")
        image_write(image, contents)
        machine = Machine(emulator(image, cpus, memory_mib).__enter__())
        running.append(machine)
        return machine

    yield start
    for machine in running:
        machine.emulator.close()


@pytest.fixture
def boot_guest(boot):
    """boot_guest(name, more_tain_lines) boots with one small guest of tests/guests."""

    def start(name, tain="", guest="", **options):
        config = "[tain]\nstrict = yes\n%s\n[guest %s]\nkind = td\nkernel = guest.bin\n" \
                 "memory = 32M\n%s\n" % (tain, name, guest)
        return boot(config, {"guest.bin": os.path.join(BUILD, "guests", name + ".bin")}, **options)

    return start


class QemuTcg(Qemu):
    """QEMU without KVM: the same machine on every host, and none with VMX."""

    @staticmethod
    def accelerator():
        return ["-accel", "tcg", "-cpu", "max"]


@pytest.fixture
def qemu_tcg():
    return QemuTcg
