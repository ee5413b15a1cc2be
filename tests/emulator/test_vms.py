# SPDX-License-Identifier: MIT
"""Ordinary VMs (kind = vm) in Bochs: what they can do, and that Tain survives what they cannot."""
import os
import re

import pytest

from emulator import BUILD
from test_linux import LINUX_LIMIT_S, default_config, guest_files

IN_TURN = "[tain]\nguests = in turn\n"


def guest_file(name):
    return os.path.join(BUILD, "guests", name + ".bin")


@pytest.fixture
def boot_vm(boot):
    """boot_vm(name) boots with one small guest of tests/guests as a VM."""

    def start(name, memory="32M", tain=""):
        config = "[tain]\n%s\n[guest %s]\nkind = vm\nkernel = guest.bin\nmemory = %s\n" \
            % (tain, name, memory)
        return boot(config, {"guest.bin": guest_file(name)})

    return start


def assert_survived(machine, vms=1):
    text = machine.text()
    assert "PANIC" not in text, machine.tail()
    assert text.count("summary: audit: every page is mapped once") == vms, machine.tail()
    assert text.count("summary: teardown: complete") >= vms, machine.tail()


def exits(machine, reason):
    match = re.search(r"summary: exits: %s: (\d+)$" % reason, machine.text(), re.M)
    return int(match.group(1)) if match else 0


def test_a_vm_says_hello(boot_vm):
    machine = boot_vm("vm_hello", memory="128M")
    machine.expect("tain: console of guest vm_hello")
    machine.expect("guest: hello")
    machine.expect("guest: 64 MiB were zero, and hold what was written")
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine)
    # 2 MiB for each violation, the stack's too, and no violation for memory that is there.
    assert exits(machine, "EPT_VIOLATION") == (64 << 20) // (2 << 20) + 1, machine.tail()
    assert exits(machine, "CPUID") > 0 and exits(machine, "IO") > 0, machine.tail()
    # Nothing of a TD is made, or spoken of.
    assert "SEAMCALL" not in machine.text() and "MRTD" not in machine.text(), machine.tail()


def test_a_td_and_a_vm_run_one_after_the_other(boot):
    config = "[guest %s]\nkind = %s\nkernel = %s.bin\nmemory = 80M\n"
    order = [("one", "td", "hello"), ("two", "vm", "vm_hello"), ("three", "td", "hello"),
             ("four", "vm", "vm_hello")]
    machine = boot(IN_TURN + "".join(config % guest for guest in order),
                   {name + ".bin": guest_file(name) for name in ("hello", "vm_hello")})
    for name, _, _ in order:
        machine.expect("tain: console of guest %s;" % name)
        machine.expect("guest: PASS")
        machine.expect("tain: guest %s ended: powered off" % name)
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine, vms=2)
    assert machine.text().count("summary: audit: mirror and external table agree") == 2
    measurements = re.findall(r"summary: MRTD (\w+)", machine.text())
    assert len(measurements) == 2 and measurements[0] == measurements[1], machine.tail()


def test_a_triple_fault_ends_the_vm(boot_vm):
    machine = boot_vm("vm_triple")
    machine.expect("guest: triple fault")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert re.search(r"^guest vm_triple: vCPU 0 triple fault: exit reason 0x2 \(TRIPLE_FAULT\), "
                     r"RIP 0x1000\w\w, qualification 0", machine.text(), re.M), machine.tail()
    assert "tain: guest vm_triple ended: triple fault" in machine.text(), machine.tail()
    assert_survived(machine)


def test_a_write_to_no_memory_ends_the_vm(boot_vm):
    machine = boot_vm("vm_hole")
    machine.expect("guest: writing to no memory")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert re.search(r"touched memory that it does not have: exit reason 0x30 \(EPT_VIOLATION\), "
                     r"RIP 0x1000\w\w, qualification 0x\w*2, GPA 0xc0000000", machine.text()), \
        machine.tail()
    assert_survived(machine)


def test_a_vm_that_halts_can_be_ended(boot_vm):
    machine = boot_vm("vm_idle")
    machine.expect("guest: halting with interrupts enabled")
    machine.type("\x01m")
    machine.expect("tain: audit of guest vm_idle: every page is mapped once", 30)
    machine.type("\x01x")
    assert machine.finish() == 0, machine.tail()
    assert exits(machine, "HLT") == 1 and "ended from the console" in machine.text()
    assert_survived(machine)


def test_the_memory_of_a_vm_is_given_back(boot):
    # Eight times 64 MiB are more than the machine has.
    config = "[guest g%d]\nkind = vm\nkernel = guest.bin\nmemory = 72M\n"
    machine = boot(IN_TURN + "".join(config % i for i in range(8)), {"guest.bin": guest_file("vm_hello")})
    assert machine.finish() == 0, machine.tail()
    assert machine.text().count("guest: PASS") == 8, machine.tail()
    assert_survived(machine, vms=8)


# In the order of tests/guests/vm_odd.asm.
ODD = [
    ("halt", r"halted for good with interrupts disabled: exit reason 0xc \(HLT\)"),
    # These raise an exception, and the guest has no handlers.
    ("hypercall", r"triple fault: exit reason 0x2 \(TRIPLE_FAULT\)"),
    ("vmx-on", r"triple fault: exit reason 0x2 \(TRIPLE_FAULT\)"),
    ("no-write-through", r"triple fault: exit reason 0x2 \(TRIPLE_FAULT\)"),
    ("unknown-msr", r"triple fault: exit reason 0x2 \(TRIPLE_FAULT\)"),
    ("single-step", r"triple fault: exit reason 0x2 \(TRIPLE_FAULT\)"),
    ("handler-nowhere", r"touched memory that it does not have: .* GPA 0xd00000\w+"),
]


def test_what_a_vm_cannot_do_ends_it(boot):
    config = "[guest %s]\nkind = vm\nkernel = guest.bin\nmemory = %dM\n"
    machine = boot("".join(config % (name, 32 + i) for i, (name, _) in enumerate(ODD)),
                   {"guest.bin": guest_file("vm_odd")})
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    for name, line in ODD:
        assert re.search(r"^guest %s: vCPU 0 %s" % (name, line), machine.text(), re.M), \
            machine.text()
        assert "tain: guest %s ended: " % name in machine.text(), machine.tail()
    assert "summary: MSR accesses refused: 1\n" in machine.text(), machine.tail()
    assert_survived(machine, vms=len(ODD))


def test_keys_reach_a_vm_and_ctrl_a_x_ends_it(boot_vm):
    machine = boot_vm("vm_echo")
    machine.expect("guest: type")
    for key in "az":
        machine.type(key)
        machine.expect(r"\[%s\]" % key, 30)
    machine.type("\x01m")
    machine.expect("tain: audit of guest vm_echo: every page is mapped once", 30)
    machine.type("\x01x")
    assert machine.finish() == 0, machine.tail()
    assert "ended from the console" in machine.text(), machine.tail()
    assert_survived(machine)


@pytest.mark.parametrize("lines, said", [
    ("processors = 0, 1", "processor 1, but the machine has 1"),
    ("kernel = other", "other is no bzImage: "),
])
def test_what_a_vm_cannot_be_is_refused(boot, lines, said):
    machine = boot("[guest no]\nkind = vm\nkernel = guest.bin\n%s\n" % lines,
                   {"guest.bin": guest_file("vm_hello"), "other": guest_file("vm_hello")})
    assert machine.finish() not in (0, 70), machine.tail()
    assert re.search("^guest no: " + said, machine.text(), re.M), machine.tail()
    assert "console of guest" not in machine.text(), machine.tail()


def test_two_vcpus_interrupt_each_other(boot):
    machine = boot("[guest vm_smp]\nkind = vm\nkernel = guest.bin\nmemory = 32M\nvcpus = 2\n",
                   {"guest.bin": guest_file("vm_smp")}, cpus=2)
    for line in ("the timer is in time", "the other one runs",
                 "100 interrupts went there and back", "xAPIC mode too", "PASS"):
        machine.expect("guest: " + line, 60)
    assert machine.finish() == 0, machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert_survived(machine)


def test_a_multiboot_image_starts_all_its_processors(boot):
    config = "[guest bare]\nkind = vm\nkernel = bare.flat\ncmdline = one two\nmemory = 32M\nvcpus = 3\n"
    machine = boot(config, {"bare.flat": guest_file("vm_multiboot")}, cpus=3)
    machine.expect("guest: started with: bare.flat one two\r?$")
    machine.expect("guest: all processors are online", 60)
    assert machine.finish() == 0, machine.tail()
    assert "ended itself by the test port with 0" in machine.text(), machine.tail()
    assert_survived(machine)


def test_guests_keep_the_registers_that_no_vmcs_keeps(boot):
    config = "[guest %s]\nkind = vm\nkernel = guest.bin\nmemory = %dM\n"
    machine = boot("".join(config % guest for guest in (("one", 33), ("two", 77))),
                   {"guest.bin": guest_file("vm_registers")})
    assert machine.finish() == 0, machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert machine.text().count("guest: all registers kept their values") == 2, machine.tail()
    assert_survived(machine, vms=2)


def test_what_a_vm_tries_has_the_answer_of_a_board(boot_vm):
    machine = boot_vm("vm_probe")
    machine.expect("guest: a string of bytes\r?$")
    machine.expect("guest: AVX-512 lives through an exit")
    machine.expect("guest: PASS", 30)
    assert machine.finish() == 0, machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert "summary: MSR accesses refused: 7\n" in machine.text(), machine.tail()
    assert_survived(machine)


def test_an_instruction_that_is_not_emulated_ends_the_vm(boot_vm):
    machine = boot_vm("vm_device")
    machine.expect("guest: copying to a device")
    assert machine.finish() not in (0, 70), machine.tail()
    assert "guest: FAIL" not in machine.text(), machine.tail()
    assert re.search(r"^guest vm_device: vCPU 0 used an instruction on a device that is not emulated: "
                     r"GPA 0xfec00000, RIP 0x1000\w\w, bytes a5\w{28}$", machine.text(), re.M), \
        machine.tail()
    assert_survived(machine)


def test_linux_as_a_vm_has_two_processors_and_a_clock(boot):
    """The kernel of the TD, as it is; the second vCPU is started by INIT and SIPI."""
    config = default_config().replace("kind = td\n", "kind = vm\n")
    assert "kind = vm\n" in config and "vcpus = 1\n" in config
    machine = boot(config.replace("vcpus = 1\n", "vcpus = 2\n"), guest_files(), cpus=2,
                   memory_mib=1024)
    machine.expect("tain: console of guest linux")
    machine.expect("It does NOT run as a TDX guest", LINUX_LIMIT_S)

    def ask(line, answer):
        machine.expect(r"td:\S+# ", 60)
        machine.type(line + "\r")
        return machine.expect(answer, 60)

    ask("echo processors: $(nproc)", r"^processors: 2\r?$")
    # Every interrupt that there is to see: the serial line's, timers, and those between vCPUs.
    ask("cat /proc/interrupts", r"IO-APIC +4-edge +ttyS0")
    for name in ("LOC", "CAL"):
        counts = machine.expect(r"%s: +(\d+) +(\d+) " % name)
        assert all(int(count) > 0 for count in counts.groups()), machine.tail()
    assert int(machine.expect(r"ERR: +(\d+)").group(1)) == 0, machine.tail()
    # Both vCPUs work at once, and the registers of each live through its exits.
    ask("for i in 1 2; do dd if=/dev/urandom bs=64k count=8 2>/dev/null | md5sum >/dev/null & "
        "done; wait; echo all-$((20+2))", r"^all-22\r?$")
    ask("time sleep 2", r"real\s+0m 2\.0\ds")
    found = ask("echo found: $(dmesg | grep -c -E 'WARNING|BUG|unchecked MSR|Oops')",
                r"^found: (\d+)\r?$")
    assert int(found.group(1)) == 0, machine.tail()
    ask("poweroff", "reboot: Power down")
    assert machine.finish() == 0, machine.tail()
    assert "tain: guest linux ended: powered off" in machine.text(), machine.tail()
    assert_survived(machine)
