# SPDX-License-Identifier: MIT
"""The unmodified Debian kernel as a TD, to a shell and back."""
import os
import re
import subprocess
import sys

import pexpect
import pytest

from emulator import BUILD, ROOT
from mrtd import image_mrtds
from test_guests import assert_all_was_given_back

IMAGE = os.path.join(BUILD, "tain.img")
RUN = [sys.executable, os.path.join(ROOT, "tests/emulator/run.py")]
LINUX_LIMIT_S = 420  # against a hang; on two quiet cores a run takes about one minute


def guest_files():
    return {"guest/kernel": os.path.join(BUILD, "guest/kernel"),
            "guest/initrd": os.path.join(BUILD, "guest/initrd")}


def default_config():
    with open(os.path.join(BUILD, "tain.cfg"), encoding="utf-8") as file:
        return file.read()


def assert_measured(said, image):
    """What the module measured is what the image's files say."""
    assert re.findall(r"summary: MRTD (\w+)", said) == [image_mrtds(image)["linux"]], said[-4000:]


def assert_large_pages(machine):
    """Where the kernel accepted 2 MiB it got one page, and most of its memory came so."""
    accepts = re.search(r"summary: accepts of 2 MiB: (\d+) asked for, (\d+) mapped by one page",
                        machine.text())
    leaves = re.search(r"summary: leaves at the end: \d+ of 4 KiB, (\d+) of 2 MiB", machine.text())
    assert accepts and leaves, machine.tail()
    asked, mapped = map(int, accepts.groups())
    assert mapped == asked > 0 and int(leaves.group(1)) > 64, machine.tail()


def test_a_command_typed_in_the_shell_is_answered(boot):
    """Two vCPUs on two processors; the second one starts through the wake-up mailbox."""
    config = default_config()
    assert "vcpus = 1\n" in config
    machine = boot(config.replace("vcpus = 1\n", "vcpus = 2\n"), guest_files(), cpus=2,
                   memory_mib=1024)
    machine.expect("tain: console of guest linux")
    machine.expect("and it runs as a TDX guest", LINUX_LIMIT_S)
    machine.expect(r"td:\S+# ", 30)
    machine.type("echo answer-$((6*7))\r")
    machine.expect(r"^answer-42\r?$", 30)
    machine.expect(r"td:\S+# ", 30)
    machine.type("echo processors: $(nproc)\r")
    machine.expect(r"^processors: 2\r?$", 30)
    machine.expect(r"td:\S+# ", 30)
    machine.type("dmesg | grep -i tdx\r")
    machine.expect(r"tdx: Guest detected", 30)
    machine.expect(r"td:\S+# ", 30)
    machine.type("\x01m")
    machine.expect("tain: audit of guest linux: mirror and external table agree", 60)
    machine.type("poweroff\r")
    assert machine.finish() == 0, machine.tail()
    assert "tain: guest linux ended: powered off" in machine.text(), machine.tail()
    assert_all_was_given_back(machine)
    assert_large_pages(machine)
    assert_measured(machine.text(), machine.emulator.image)


def test_a_script_on_standard_input_runs_to_its_end():
    script = b"echo hello-from-td; dmesg | grep -i tdx; poweroff\n"
    done = subprocess.run([*RUN, IMAGE, "--timeout-s", str(LINUX_LIMIT_S)], input=script,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=LINUX_LIMIT_S + 60, check=False)
    said = done.stdout.decode(errors="replace").replace("\r", "")
    assert done.returncode == 0, said[-4000:]
    assert "\nhello-from-td\n" in said, said[-4000:]
    assert "tdx: Guest detected" in said.split("\nhello-from-td\n", 1)[1], said[-4000:]
    assert_measured(said, IMAGE)


@pytest.mark.parametrize("keys, status", [("\x01x", 0)])
def test_a_terminal_is_the_guests_console(tmp_path, keys, status):
    """Every key goes through, Ctrl-C too; the terminal is as it was when the run ends."""
    from image import image_write
    config = tmp_path / "tain.cfg"
    config.write_text("[guest echo]\nkernel = guest.bin\nmemory = 32M\n")
    image = str(tmp_path / "tain.img")
    image_write(image, {"EFI/BOOT/BOOTX64.EFI": os.path.join(BUILD, "tain.efi"),
                        "tain.cfg": str(config),
                        "guest.bin": os.path.join(BUILD, "guests/echo.bin")})
    child = pexpect.spawn(RUN[0], [*RUN[1:], image, "--timeout-s", "100"], timeout=110)
    child.expect_exact("guest: type")
    child.send("\x03")
    child.expect_exact("[\x03]", timeout=30)
    child.send(keys)
    child.expect_exact("tain: exit %d" % status)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == status
