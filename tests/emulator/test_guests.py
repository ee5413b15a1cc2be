# SPDX-License-Identifier: MIT
"""Small guests in Bochs: each does one thing, and Tain goes on as the ABI says."""
import re

import pytest

SUMMARY_LEAKED = re.compile(r"summary: external pages: (\d+) taken, (\d+) returned, (\d+) leaked; "
                            r"private pages leaked: (\d+)")


def assert_all_was_given_back(machine):
    leaked = SUMMARY_LEAKED.search(machine.text())
    assert leaked, machine.tail()
    taken, returned, external, private = map(int, leaked.groups())
    assert taken > 0 and returned == taken and external == 0 and private == 0, machine.tail()
    assert "summary: audit: mirror and external table agree" in machine.text(), machine.tail()
    assert "summary: teardown: complete" in machine.text(), machine.tail()
    assert "summary: checker: rules broken 0 times" in machine.text(), machine.tail()


def assert_survived(machine):
    assert "PANIC" not in machine.text(), machine.tail()
    assert_all_was_given_back(machine)


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_guest_says_hello(boot_guest, cpus):
    machine = boot_guest("hello", cpus=cpus)
    machine.expect(r"boot: %d processors? in" % cpus)
    machine.expect("the software TDX module takes its place")
    machine.expect("tain: console of guest hello")
    machine.expect("guest: hello")
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine)
    assert re.search(r"summary: MRTD [0-9a-f]{96}$", machine.text(), re.M)
    # What the VMM counted as it built, and what the module has at the end.
    measured = re.search(r"; (\d+) measured, 0 mapped by faults$", machine.text(), re.M)
    assert measured, machine.tail()
    assert ("as the module has them: %s accepted or measured, 0 pending" % measured.group(1)
            in machine.text()), machine.tail()
    assert re.search(r"summary: SEAMCALL TDH\.MEM\.PAGE\.ADD: [1-9]\d*, failed 0", machine.text())


@pytest.mark.parametrize("name", ["hello", "mapgpa"])
def test_a_guest_on_a_module_with_dynamic_pamt(boot_guest, name):
    machine = boot_guest(name, cpus=2, tain="module = new")
    machine.expect("the PAMT of 4 KiB pages is dynamic")
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine)
    pairs = re.search(r"summary: PAMT pairs: (\d+) added, (\d+) removed, 0 now; pages lost: 0",
                      machine.text())
    assert pairs and int(pairs.group(1)) == int(pairs.group(2)) > 0, machine.tail()


def test_the_same_guest_has_the_same_measurement(boot_guest):
    machine = boot_guest("hello", guest="[guest again]\nkernel = guest.bin\nmemory = 32M\n")
    assert machine.finish() == 0, machine.tail()
    measurements = re.findall(r"summary: MRTD (\w+)", machine.text())
    assert len(measurements) == 2 and measurements[0] == measurements[1], machine.tail()


def test_touching_an_unaccepted_page_ends_the_guest(boot_guest):
    machine = boot_guest("touch")
    machine.expect("guest: touching a page that is not accepted")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    # Tain creates its TDs with SEPT_VE_DISABLE: the VMM is told the address, the guest nothing.
    assert "touched a private page before accepting it: GPA 0x1000000" in machine.text(), \
        machine.tail()
    assert_survived(machine)


def test_a_triple_fault_ends_the_guest(boot_guest):
    machine = boot_guest("triple")
    machine.expect("guest: triple fault")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert "tain: guest triple ended: triple fault" in machine.text(), machine.tail()
    assert_survived(machine)


@pytest.mark.parametrize("name, said", [
    ("unknown", "guest: refused as unsupported"),
    ("mapgpa", "guest: private again, and zero"),
])
def test_a_guest_that_checks_itself(boot_guest, name, said):
    machine = boot_guest(name)
    machine.expect(said)
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine)


def test_keys_reach_the_guest_and_ctrl_a_x_ends_it(boot_guest):
    machine = boot_guest("echo")
    machine.expect("guest: type")
    for key in "az":
        machine.type(key)
        machine.expect(r"\[%s\]" % key, 30)
    machine.type("\x01x")
    assert machine.finish() == 0, machine.tail()
    assert "ended from the console" in machine.text(), machine.tail()
    assert_survived(machine)


# The calls that build a TD, those that bring the module up, and one of the run.
MODULE_LEAVES = ["SYS.INIT", "SYS.LP.INIT", "SYS.RD", "SYS.CONFIG", "SYS.KEY.CONFIG",
                 "SYS.TDMR.INIT"]
BUILD_LEAVES = ["MNG.CREATE", "MNG.KEY.CONFIG", "MNG.ADDCX", "MNG.INIT", "VP.CREATE", "VP.ADDCX",
                "VP.INIT", "VP.WR", "MEM.SEPT.ADD", "MEM.PAGE.ADD", "MR.EXTEND", "MR.FINALIZE"]


def inject(boot_guest, leaf, nth=1):
    machine = boot_guest("hello", tain="inject = TDH.%s:%d:OPERAND_INVALID" % (leaf, nth))
    status = machine.finish()
    assert status not in (0, 70), machine.tail()
    assert "tdx: TDH.%s is made to fail: OPERAND_INVALID (inject)" % leaf in machine.text(), \
        machine.tail()
    assert "PANIC" not in machine.text(), machine.tail()
    assert "console of guest" not in machine.text(), machine.tail()
    assert " is leaked" not in machine.text(), machine.tail()
    return machine


@pytest.mark.parametrize("leaf", MODULE_LEAVES)
def test_a_module_that_does_not_come_up_is_named(boot_guest, leaf):
    machine = inject(boot_guest, leaf)
    assert re.search(r"tdx: TDH\.%s refused: OPERAND_INVALID" % re.escape(leaf), machine.text())
    assert "tain: no guest was run: " in machine.text(), machine.tail()


@pytest.mark.parametrize("leaf", BUILD_LEAVES)
def test_a_build_that_is_refused_is_undone(boot_guest, leaf):
    machine = inject(boot_guest, leaf)
    assert re.search(r"tdx: TDH\.%s refused: OPERAND_INVALID" % re.escape(leaf), machine.text())
    assert "tain: guest hello was not built: " in machine.text(), machine.tail()
    assert "not all was given back" not in machine.text(), machine.tail()


@pytest.mark.parametrize("leaf", ["MEM.SEPT.ADD", "MEM.PAGE.ADD", "MR.EXTEND"])
def test_a_refusal_half_way_is_undone(boot_guest, leaf):
    machine = inject(boot_guest, leaf, nth=3)
    assert "tain: guest hello was not built: " in machine.text(), machine.tail()
    assert "not all was given back" not in machine.text(), machine.tail()


def test_answers_that_mean_ask_again_cost_nothing(boot_guest):
    again = ["SYS.TDMR.INIT:1:INTERRUPTED_RESUMABLE", "MNG.CREATE:1:RND_NO_ENTROPY",
             "MEM.PAGE.AUG:1:OPERAND_BUSY", "VP.ENTER:3:OPERAND_BUSY",
             "MEM.TRACK:1:PREVIOUS_TLB_EPOCH_BUSY", "PHYMEM.CACHE.WB:1:INTERRUPTED_RESUMABLE",
             "PHYMEM.PAGE.RECLAIM:9:OPERAND_BUSY", "MEM.SEPT.RD:5:OPERAND_BUSY"]
    machine = boot_guest("mapgpa", tain="".join("inject = TDH.%s\n" % line for line in again))
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    for line in again:
        leaf, _, status = line.split(":")
        assert "tdx: TDH.%s is made to fail: %s (inject)" % (leaf, status) in machine.text(), line
    assert " refused: " not in machine.text(), machine.tail()
    assert_survived(machine)


def test_after_an_undone_build_another_guest_runs(boot_guest):
    machine = boot_guest("hello", tain="inject = TDH.MR.FINALIZE:1:OPERAND_INVALID",
                         guest="[guest second]\nkernel = guest.bin\nmemory = 32M\n")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "tain: guest hello was not built" in machine.text(), machine.tail()
    assert "tain: guest second ended: powered off" in machine.text(), machine.tail()
    assert_survived(machine)


def test_the_audit_sees_a_corrupted_mirror(boot_guest):
    machine = boot_guest("hello", tain="test = corrupt-mirror")
    machine.expect("guest: PASS")
    assert machine.finish() not in (0, 70), machine.tail()
    assert re.search(r"tain: guest hello ended: .*; the audit failed: \S", machine.text()), \
        machine.tail()
    assert "mirror and external table agree" not in machine.text()


def test_strict_mode_catches_a_touch_of_a_private_page(boot_guest):
    machine = boot_guest("hello", tain="test = touch-private")
    page = machine.expect(r"tain: test touch-private: writing to (0x[0-9a-f]+),").group(1).decode()
    assert machine.finish() == 70, machine.tail()
    panic = [line for line in machine.lines() if "PANIC on cpu 0: " in line]
    assert len(panic) == 1 and page in panic[0], machine.tail()
    assert "it could be written" not in machine.text()
    # Who wrote (the function may be inlined), what the page is, and whose.
    assert re.search(r"(selftest_before_start|guest_start|monitor_run|vmm_main)[.\w]*\+0x[0-9a-f]+ wrote to a page that "
                     r"the VMM gave to the TDX module: private to us, private memory of TD "
                     r"0x[0-9a-f]+ to the module", panic[0]), machine.tail()


def test_without_strict_mode_the_page_stays_mapped(boot_guest):
    machine = boot_guest("hello", tain="strict = no\ntest = touch-private")
    machine.expect("tain: test touch-private: it could be written")
    assert machine.finish() == 0, machine.tail()
