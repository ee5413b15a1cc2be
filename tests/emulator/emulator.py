# SPDX-License-Identifier: MIT
"""Runs a disk image in an emulator, joined to its first serial line.

An Emulator is a context manager: leaving it ends the process and removes its working folder.
Bytes of the serial line arrive through read(), which says b"" when the emulator is gone.
"""
import ctypes
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
RUNS = os.path.join(BUILD, "run")
OVMF = "/usr/share/ovmf/OVMF.fd"

BANNER = b"tain: a VMM for Intel TDX"
CONSOLE = b"tain: console of guest"
EXIT = re.compile(rb"tain: exit (\d+)\r?\n")

CONNECT_LIMIT_S = 20
END_LIMIT_S = 10  # between Tain's last line and the emulator's end
START_TRIES = 4

# ips: what the reference figures of docs and tests were taken with; the TSC then runs at 100 MHz.
# sound, speaker: Bochs 2.7's sound thread crashes now and then as it starts.
BOCHSRC = """\
display_library: rfb, options="timeout=0"
romimage: file="{ovmf}", address=0x0, options=none
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=tigerlake, count={cpus}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={memory_mib}, host={memory_mib}
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=volatile, path=disk.img
com1: enabled=1, mode=socket-server, dev=127.0.0.1:{port}
port_e9_hack: enabled=1
sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
clock: sync=none, time0=1000000000
"""


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def end_with_parent():
    """In the new process: it is killed when ours goes, however ours goes."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_port():
    """A port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class EmulatorError(Exception):
    """The emulator could not be started; the message says why in one line."""


class Emulator:
    name = ""
    waits_for_debugger = False  # then it says nothing until it is told to go

    def __init__(self, image, cpus=1, memory_mib=1024):
        self.image = os.path.abspath(image)
        self.cpus = cpus
        self.memory_mib = memory_mib
        self.folder = None
        self.process = None
        self.line = None

    def command(self, port):
        """The command line, to be run in self.folder; may write files there."""
        raise NotImplementedError

    def log_reason(self):
        """What the emulator itself says about its end, or an empty string."""
        return ""

    # --- Life ---------------------------------------------------------------------------------

    def __enter__(self):
        reason = ""
        for _ in range(START_TRIES):
            try:
                self._start()
                return self
            except EmulatorError as error:
                reason = str(error)
                self.close()
        raise EmulatorError("%s does not start: %s" % (self.name, reason))

    def __exit__(self, *_):
        self.close()

    def _start(self):
        os.makedirs(RUNS, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix=self.name.lower() + "-", dir=RUNS)
        os.symlink(self.image, os.path.join(self.folder, "disk.img"))
        port = free_port()
        command = self.command(port)
        with open(os.path.join(self.folder, "output"), "wb") as output:
            # A session of its own: Ctrl-C at the terminal is for the guest, not for the emulator.
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=subprocess.STDOUT,
                                            start_new_session=True, preexec_fn=end_with_parent)
        self._connect(port)
        # Bochs may yet crash before the firmware says anything: then it is started again.
        if not self.waits_for_debugger and not self._first_byte():
            raise EmulatorError(self.reason() or "it ended before its first output")

    def _connect(self, port):
        until = time.monotonic() + CONNECT_LIMIT_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise EmulatorError(self.reason() or "it ended at once")
            try:
                self.line = socket.create_connection(("127.0.0.1", port), timeout=1)
                self.line.setblocking(False)
                return
            except OSError:
                time.sleep(0.05)
        raise EmulatorError("its serial line did not open within %d s" % CONNECT_LIMIT_S)

    def _first_byte(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if select.select([self.line], [], [], 0.2)[0]:
                try:
                    return len(self.line.recv(1, socket.MSG_PEEK)) == 1
                except OSError:
                    return False
            if self.process.poll() is not None:
                return False
        raise EmulatorError("nothing on the serial line within 60 s")

    def close(self):
        if self.line:
            self.line.close()
            self.line = None
        if self.process and self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait()
        self.process = None
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    # --- The serial line ----------------------------------------------------------------------

    def read(self, timeout_s):
        """Bytes that arrived; None if there were none in that time; b"" at the end."""
        if not select.select([self.line], [], [], timeout_s)[0]:
            return b"" if self.process.poll() is not None else None
        try:
            return self.line.recv(65536)
        except ConnectionResetError:
            return b""

    def write(self, data):
        while data:
            select.select([], [self.line], [])
            data = data[self.line.send(data):]

    def wait(self, timeout_s):
        """True if the emulator ended in that time."""
        try:
            self.process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            return False

    def reason(self):
        """Why the emulator ended, as far as it says so."""
        said = self.log_reason()
        if said:
            return said
        status = self.process.poll() if self.process else None
        if status is not None and status < 0:
            return "%s was ended by signal %d" % (self.name, -status)
        try:
            with open(os.path.join(self.folder, "output"), errors="replace") as output:
                lines = [line.strip() for line in output if line.strip()]
        except OSError:
            lines = []
        return lines[-1] if lines and status else ""


class Bochs(Emulator):
    name = "Bochs"

    def command(self, port):
        with open(os.path.join(self.folder, "bochsrc"), "w") as file:
            file.write(BOCHSRC.format(ovmf=OVMF, cpus=self.cpus, memory_mib=self.memory_mib,
                                      port=port))
        with open(os.path.join(self.folder, "go"), "w") as file:
            file.write("c\n")  # Debian's Bochs has its debugger in, and would wait
        return ["bochs", "-q", "-f", "bochsrc", "-rc", "go"]

    def log_reason(self):
        try:
            with open(os.path.join(self.folder, "bochs.log"), errors="replace") as log:
                panics = [line for line in log if ">>PANIC<<" in line]
        except OSError:
            return ""
        # Both are how a machine goes off, and no reason for anything.
        panics = [line for line in panics
                  if "soft power off" not in line and "shutdown requested" not in line]
        if not panics:
            return ""
        text = panics[-1].split(">>PANIC<<", 1)[1].strip()
        if "3rd" in text and "no resolution" in text:
            text = "triple fault (%s)" % text
        return "Bochs: " + text


class Qemu(Emulator):
    name = "QEMU"

    def __init__(self, image, cpus=1, memory_mib=1024, extra=()):
        super().__init__(image, cpus, memory_mib)
        self.extra = list(extra)

    def command(self, port):
        return ["qemu-system-x86_64", *self.accelerator(), "-m", str(self.memory_mib),
                "-smp", str(self.cpus), "-bios", OVMF, "-display", "none", "-no-reboot",
                "-net", "none", "-drive", "file=disk.img,format=raw,snapshot=on",
                "-serial", "tcp:127.0.0.1:%d,server=on,wait=on" % port,
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *self.extra]

    @staticmethod
    def accelerator():
        """KVM where it can give the machine VMX; else TCG, which has none."""
        try:
            with open("/sys/module/kvm_intel/parameters/nested") as nested:
                if nested.read().strip() in "Y1" and os.access("/dev/kvm", os.R_OK | os.W_OK):
                    return ["-accel", "kvm", "-cpu", "host"]
        except OSError:
            pass
        return ["-accel", "tcg", "-cpu", "max"]


EMULATORS = {"bochs": Bochs, "qemu": Qemu}


def exit_reason(emulator, transcript, timed_out_s):
    """Tain's status and, where it is not Tain's own word, the reason in one line."""
    found = None
    for found in EXIT.finditer(transcript):
        pass
    if found:
        return int(found.group(1)), ""
    if timed_out_s is not None:
        return 124, "no end within %d s" % timed_out_s
    panic = re.search(rb"PANIC on cpu[^\r\n]*", transcript)
    if panic:
        return 70, "Tain: " + panic.group().decode(errors="replace")
    said = emulator.reason()
    if BANNER not in transcript:
        return 71, said or "%s ended before Tain started" % emulator.name
    return 71, said or "%s ended without Tain's last line" % emulator.name
