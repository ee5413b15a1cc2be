# SPDX-License-Identifier: MIT
"""Several guests at once, and the monitor on the serial line that starts and stops them."""
import os
import re

import pytest

from emulator import BUILD

ROUNDS = 100  # of start and stop


def guest(name, kind="td", memory="32M", more=""):
    kernel = {"td": "echo", "vm": "vm_echo"}[kind]
    return "[guest %s]\nkind = %s\nkernel = %s.bin\nmemory = %s\n%s\n" % (name, kind, kernel,
                                                                       memory, more)


def files(*names):
    return {name + ".bin": os.path.join(BUILD, "guests", name + ".bin") for name in names}


def monitor(machine):
    machine.type("\x01c")
    machine.expect("tain: the monitor;")
    machine.expect("tain> ")


def command(machine, text, answer):
    machine.type(text + "\r")
    match = machine.expect(answer)
    machine.expect("tain> ")
    return match


def echoes(machine, key):
    machine.type(key)
    machine.expect(re.escape("[%s]" % key))


@pytest.fixture
def two_guests(boot):
    return boot(guest("one") + guest("two", "vm"), files("echo", "vm_echo"), cpus=2)


def test_a_td_and_a_vm_run_together_and_share_the_line(two_guests):
    machine = two_guests
    machine.expect("tain: console of guest one;")
    machine.expect("guest two: built")
    machine.expect("guest: type")
    echoes(machine, "a")
    machine.type("\x01n")
    machine.expect("tain: console of guest two;")
    machine.expect("guest: type")
    echoes(machine, "b")
    monitor(machine)
    command(machine, "guests", r"one: td, running, 32 MiB, 1 vCPU, started 1 time\r?$")
    command(machine, "pause one", "monitor: guest one is paused")
    command(machine, "frob", "monitor: 'frob' is no command")
    command(machine, "resume one", "monitor: guest one is running")
    command(machine, "audit", "audit of guest two: every page is mapped once")
    machine.type("console one\r")
    machine.expect("tain: console of guest one;")
    echoes(machine, "c")
    machine.type("q")
    machine.expect("tain: guest one ended: powered off")
    machine.expect("tain: console of guest two;")
    echoes(machine, "d")
    machine.type("\x01x")
    machine.expect("tain: guest two ended: ended from the console")
    assert machine.finish() == 0, machine.tail()
    assert "summary: audit: mirror and external table agree" in machine.text(), machine.tail()


def pages(machine):
    """Pages by owner, as the monitor tells them."""
    machine.type("memory\r")
    match = machine.expect(r"^  free: (\d+) pages\r?\n(?:  .*\n)*  sum: (\d+) pages\r?$")
    machine.expect("tain> ")
    return match.group(0).decode().replace("\r", "")


def test_a_hundred_starts_and_stops_lose_no_page(boot):
    machine = boot("[tain]\nstrict = yes\n" + guest("one", memory="16M") + guest("two", "vm", "16M"),
                   files("echo", "vm_echo"), cpus=2)
    machine.expect("guest two: built")
    monitor(machine)
    command(machine, "stop two", "monitor: guest two is absent")
    command(machine, "stop one", "monitor: guest one is absent")
    before = pages(machine)
    for _ in range(ROUNDS // 2):
        for name in ("one", "two"):
            command(machine, "start " + name, "monitor: guest %s is running" % name)
            command(machine, "stop " + name, "monitor: guest %s is absent" % name)
    assert pages(machine) == before
    command(machine, "guests", r"one: td, absent, 16 MiB, 1 vCPU, started %d times" %
            (ROUNDS // 2 + 1))
    machine.type("poweroff\r")
    assert machine.finish() == 0, machine.tail()


def test_two_tds_share_two_processors(boot):
    """Both hammer memory from two vCPUs each; every vCPU of theirs moves once."""
    config = "[tain]\ntest = measure\nguests = together\n" + "".join(
        "[guest %s]\nkind = td\nkernel = hammer.bin\nmemory = 32M\nvcpus = 2\n" % name
        for name in ("one", "two"))
    machine = boot(config, files("hammer"), cpus=2)
    machine.expect("guest two: built")
    monitor(machine)
    for name, vcpu, cpu in (("one", 0, 1), ("one", 1, 0), ("two", 0, 1), ("two", 1, 0)):
        command(machine, "move %s %d %d" % (name, vcpu, cpu),
                "monitor: vCPU %d of guest %s is on processor %d" % (vcpu, name, cpu))
    machine.type("console one\r")
    machine.expect("tain: guest (one|two) ended: powered off")
    assert machine.finish() == 0, machine.tail()
    text = machine.text()
    assert text.count("guest: PASS") == 2, machine.tail()
    assert text.count("summary: audit: mirror and external table agree") == 2, machine.tail()
    assert text.count("summary: teardown: complete") == 2, machine.tail()


def test_four_vcpus_share_one_processor(boot):
    config = "[tain]\ntest = measure\n[guest one]\nkind = td\nkernel = hammer.bin\nmemory = 32M\n" \
             "vcpus = 4\nprocessors = 0\n"
    machine = boot(config, files("hammer"), cpus=1)
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert "summary: audit: mirror and external table agree" in machine.text(), machine.tail()
