# SPDX-License-Identifier: MIT
"""All vCPUs hammer the same memory: the guest's counts against those of VMM and module."""
import re
import time

import pytest
from test_guests import assert_survived

AREA_PAGES = 6 * 512
WALL_LIMIT_S = 60  # from the guest's first instruction to the end


def number(machine, pattern):
    found = re.search(pattern, machine.text())
    assert found, "%s\n%s" % (pattern, machine.tail())
    return int(found.group(1))


@pytest.mark.parametrize("cpus", [2, 4])
def test_all_vcpus_hammer_the_same_memory(boot_guest, cpus):
    machine = boot_guest("hammer", tain="test = measure", guest="vcpus = %d" % cpus, cpus=cpus)
    machine.expect("tain: console of guest hammer")
    start_s = time.monotonic()
    assert machine.finish(WALL_LIMIT_S) == 0, machine.tail()
    print("%.1f s" % (time.monotonic() - start_s))
    print("\n".join(line for line in machine.lines() if re.match("guest: |summary: ", line)))
    assert "guest: PASS" in machine.text(), machine.tail()
    assert_survived(machine)
    audits = re.findall(r"audit of guest hammer: (.*);", machine.text())
    assert len(audits) >= cpus + 2, machine.tail()
    assert all("mirror and external table agree" in audit for audit in audits), machine.tail()

    assert number(machine, r"guest: vCPUs: (\d+)") == cpus
    assert number(machine, r"guest: bytes verified: (\d+)") > 0
    assert number(machine, r"guest: conversions: (\d+)") > 0
    assert number(machine, r"guest: discards: (\d+)") > 0
    assert number(machine, r"guest: accepts lost: (\d+)") > 0
    assert (number(machine, r"guest: MapGPA calls: (\d+)") ==
            number(machine, r"summary: TDVMCALL MapGPA: (\d+)"))

    # At its end the guest has accepted the whole area, and nothing else but what was measured.
    expected = AREA_PAGES + number(machine, r"; (\d+) measured, ")
    assert number(machine, r"as the module has them: (\d+) accepted or measured, 0 ") == expected
    leaves = re.search(r"leaves at the end: (\d+) of 4 KiB, (\d+) of 2 MiB, 0 of 1", machine.text())
    assert leaves, machine.tail()
    assert int(leaves.group(1)) + 512 * int(leaves.group(2)) == expected, machine.tail()

    assert number(machine, r" (\d+) demoted, ") > 0
    assert number(machine, r" (\d+) promoted, ") > 0
    races = number(machine, r" (\d+) races lost, ")
    assert races + number(machine, r" races lost, (\d+) busy") > 0, machine.tail()
