# SPDX-License-Identifier: MIT
"""Tain takes a machine over, says what it found, and names what it misses in one line."""
import os

import pytest

from emulator import BUILD

GUEST = "[guest %s]\nkernel = guest.bin\nmemory = 32M\n"


def hello():
    return {"guest.bin": os.path.join(BUILD, "guests", "hello.bin")}


@pytest.mark.parametrize("cpus", [1, 4])
def test_qemu_boots_to_where_vmx_is_missing(boot, qemu_tcg, cpus):
    machine = boot(GUEST % "g", hello(), emulator=qemu_tcg, cpus=cpus)
    machine.expect("tain: a VMM for Intel TDX")
    machine.expect(r"boot: %d processors? in \d+ package" % cpus)
    machine.expect(r"vmx: cpu \d+ cannot enter VMX root operation: VMX .* is missing")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "PANIC" not in machine.text()
    assert "console of guest" not in machine.text()
    assert machine.lines()[-2].startswith("tain: exit "), machine.tail()


BAD_CONFIGS = [
    ("colour = green\n", "tain.cfg:1: key 'colour'"),
    ("[tain]\ncolour = green\n", "tain.cfg:2: key 'colour': expected strict, checker, module, guests"),
    ("[guest g]\nkernel = guest.bin\nsize = 1M\n", "tain.cfg:3: key 'size': expected kind"),
    ("[house]\n", "tain.cfg:1: section '[house]'"),
    ("[guest g]\nmemory = 32M\n", "tain.cfg:1: guest 'g': expected a line 'kernel = PATH'"),
    ("[guest g]\nkernel = nothing.bin\n", "nothing.bin"),
]


@pytest.mark.parametrize("config, message", BAD_CONFIGS)
def test_a_bad_tain_cfg_is_one_clear_line_and_no_guest(boot, qemu_tcg, config, message):
    machine = boot(config, hello(), emulator=qemu_tcg)
    assert machine.finish() not in (0, 70), machine.tail()
    assert sum(message in line for line in machine.lines()) == 1, machine.tail()
    assert "boot: no guest was started" in machine.text()
    assert "console of guest" not in machine.text()


def test_a_kernel_that_is_none_is_one_clear_line(boot, tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(b"no kernel at all\n" * 512)
    machine = boot("[guest g]\nkernel = junk\nmemory = 64M\n", {"junk": str(junk)})
    assert machine.finish() not in (0, 70), machine.tail()
    assert sum(line.startswith("guest g: junk ") for line in machine.lines()) == 1, machine.tail()
    assert "tain: guest g was not built" in machine.text()
    assert "console of guest" not in machine.text()


def test_more_memory_than_the_machine_has_is_one_clear_line(boot):
    machine = boot("[guest g]\nkernel = guest.bin\nmemory = 1G\n", hello(), memory_mib=512)
    assert machine.finish() not in (0, 70), machine.tail()
    said = [line for line in machine.lines() if line.startswith("guest g: ") and "1024 MiB" in line]
    assert len(said) == 1, machine.tail()
    assert "tain: guest g was not built" in machine.text()
    assert "console of guest" not in machine.text()
