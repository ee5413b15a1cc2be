# SPDX-License-Identifier: MIT
"""mrtd.py against sums made by hand, and against the software module on the host."""
import hashlib
import os
import random
import struct
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "../../build")
sys.path.insert(0, HERE)

import mrtd  # noqa: E402
import image as image_module  # noqa: E402

PAGE = 4096
MIB = 1 << 20
TOOL = [sys.executable, os.path.join(HERE, "mrtd.py")]
SOFT_MRTD = os.path.join(BUILD, "host/soft_mrtd")
RESET_VECTOR = bytes.fromhex("e90bf0ffff") + bytes(11)
KERNEL = random.Random(1).randbytes(PAGE + 100)
CONFIG = "[guest tiny]\nkernel = guest/tiny.bin\nmemory = 32M\n"


def shim(seed=2):
    return random.Random(seed).randbytes(PAGE - len(RESET_VECTOR)) + RESET_VECTOR


def program(*shims):
    """What BOOTX64.EFI may look like: shims, and other bytes around them."""
    return b"MZ" + bytes(1000) + b"".join(page + b"more" for page in shims)


@pytest.fixture
def image(tmp_path, monkeypatch):
    """image(tain_cfg, ...) -> the path of a USB image, without the partition table."""
    tool = image_module.tool
    # It takes sgdisk a second, and mrtd.py knows where the partition is.
    monkeypatch.setattr(image_module, "tool",
                        lambda *words: None if "sgdisk" in words[0] else tool(*words))

    def make(config=CONFIG, efi=program(shim()), files=None):
        contents = {"EFI/BOOT/BOOTX64.EFI": efi, "tain.cfg": config.encode()}
        contents.update({"guest/tiny.bin": KERNEL} if files is None else files)
        paths = {}
        for number, (path, content) in enumerate(contents.items()):
            paths[path] = str(tmp_path / ("%d" % number))
            with open(paths[path], "wb") as file:
                file.write(content)
        image_module.image_write(str(tmp_path / "tain.img"), paths)
        return str(tmp_path / "tain.img")

    return make


def run(*words):
    return subprocess.run([*TOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)


def page_record(address, content):
    """One page that is added and then extended, as the ABI feeds it to the sum."""
    fed = b"MEM.PAGE.ADD" + bytes(4) + struct.pack("<Q", address) + bytes(104)
    for at in range(0, PAGE, 256):
        fed += b"MR.EXTEND" + bytes(7) + struct.pack("<Q", address + at) + bytes(104)
        fed += content[at:at + 256]
    return fed


def page_tables():
    """An identity map of 4 GiB in pages of 2 MiB, at 0xffff0000."""
    entries = [[0] * 512 for _ in range(6)]
    entries[0][0] = 0xffff1000 | 0x23
    for gib in range(4):
        entries[1][gib] = 0xffff2000 + gib * PAGE | 0x23
        entries[2 + gib] = [gib << 30 | i << 21 | 0xe3 for i in range(512)]
    return [struct.pack("<512Q", *table) for table in entries]


def tiny_pages(acpi, shared_bit):
    """The pages of the guest of CONFIG in their order; the ACPI tables are others' business."""
    parameters = struct.pack("<8Q", 0xffff0000, 32 * MIB, 0, MIB, 32 * MIB, 1 << shared_bit,
                             0xffff9000, 0xe4000)
    yield 0xe0000, acpi
    yield 0xe4000, bytes(PAGE)
    for number, table in enumerate(page_tables()):
        yield 0xffff0000 + number * PAGE, table
    yield 0xffff8000, bytes(PAGE)
    yield 0xffffe000, parameters + bytes(PAGE - len(parameters))
    yield 0xfffff000, shim()
    yield MIB, KERNEL[:PAGE]
    yield MIB + PAGE, KERNEL[PAGE:] + bytes(PAGE - 100)


def stream(*guests):
    """As initial_pages writes it."""
    out = b""
    for name, pieces in guests:
        out += b"flat %s\n" % name
        for start, content in pieces:
            out += b"piece %x %x what it is\n" % (start, len(content)) + content
        out += b"end\n"
    return out


def by_module(text):
    """{name: MRTD} as the software module measures."""
    done = subprocess.run([SOFT_MRTD], input=text, stdout=subprocess.PIPE, check=True)
    return {name: value for value, name in
            (line.split("  ", 1) for line in done.stdout.decode().splitlines())}


# --- The measurement --------------------------------------------------------------------------

def test_two_pages_are_measured_as_the_abi_says():
    first, second = KERNEL[:PAGE], b"short"
    by_hand = hashlib.sha384(page_record(0x7000, first) +
                             page_record(0x1000, second + bytes(PAGE - 5))).hexdigest()
    assert mrtd.measure([(0x7000, first), (0x1000, second)]) == by_hand


def test_the_software_module_measures_the_same():
    content = random.Random(3)
    guests = [
        (b"one page", [(0, content.randbytes(PAGE))]),
        (b"downwards", [(0x40000000 - i * PAGE, content.randbytes(PAGE)) for i in range(4)]),
        (b"short ends", [(0xfffff000, content.randbytes(1)),
                         (MIB, content.randbytes(3 * PAGE + 257))]),
        (b"zeros", [(0x200000, bytes(2 * PAGE))]),
    ]
    text = stream(*guests)
    measured = by_module(text)
    assert measured == {guest.name: guest.mrtd() for guest in mrtd.guests_read(text)}
    assert list(measured) == [name.decode() for name, _ in guests]
    assert len(set(measured.values())) == len(guests)


def test_a_guest_that_is_cut_short_is_none():
    text = stream((b"whole", [(0, KERNEL)]), (b"cut", [(0, KERNEL)]))
    for length in (len(text) - 2, len(text) - 1000, len(text) - 4 - len(KERNEL)):
        assert [guest.name for guest in mrtd.guests_read(text[:length])] == ["whole"]


# --- The layout -------------------------------------------------------------------------------

@pytest.mark.parametrize("options, shared_bit", [([], 39), (["--shared-bit", "47"], 47)])
def test_a_tiny_guest_is_measured_page_by_page(image, options, shared_bit):
    path = image()
    guests, failed = mrtd.guests_laid_out(path)
    acpi = guests[0].pieces[0][1]
    assert not failed and acpi.startswith(b"RSD PTR ")
    fed = b"".join(page_record(*page) for page in tiny_pages(acpi, shared_bit))
    done = run(*options, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "%s  tiny\n" % hashlib.sha384(fed).hexdigest()
    assert ("taken as 39" in done.stderr) == (not options)


def test_each_td_of_the_image_has_a_line(image):
    path = image(CONFIG + "[guest plain]\nkind = vm\nkernel = guest/tiny.bin\n"
                          "[guest two words]\nkernel = GUEST/tiny.bin\nvcpus = 2\n")
    done = run(path)
    values, names = zip(*(line.split("  ", 1) for line in done.stdout.splitlines()))
    assert done.returncode == 0 and names == ("tiny", "two words") and len(set(values)) == 2
    assert "guest plain is no TD" in done.stderr
    assert run(path, "two words").stdout == "%s  two words\n" % values[1]


def test_the_image_that_was_built_has_the_shim_of_this_tree():
    """And its Linux guest is measured by the software module as by the tool."""
    with open(os.path.join(BUILD, "tain.efi"), "rb") as file, \
            open(os.path.join(BUILD, "shim.bin"), "rb") as built:
        assert mrtd.boot_shim(file.read()) == built.read()
    guests, failed = mrtd.guests_laid_out(os.path.join(BUILD, "tain.img"))
    assert not failed and [guest.form for guest in guests] == ["linux"]
    measured = by_module(stream(*((guest.name.encode(), guest.pieces) for guest in guests)))
    assert measured == mrtd.image_mrtds(os.path.join(BUILD, "tain.img"))


@pytest.mark.parametrize("change", [
    {"efi": program(shim(3))},
    {"config": CONFIG.replace("32M", "64M")},
    {"config": CONFIG + "vcpus = 2\n"},
    {"files": {"guest/tiny.bin": KERNEL[:-1] + bytes([KERNEL[-1] ^ 1])}},
])
def test_what_the_guest_starts_from_changes_its_measurement(image, change):
    assert mrtd.image_mrtds(image()) != mrtd.image_mrtds(image(**change))


# --- What is wrong with an image --------------------------------------------------------------

@pytest.mark.parametrize("change, said", [
    ({"efi": program()}, "one boot shim expected, 0 found"),
    ({"efi": program(shim(), shim(3))}, "one boot shim expected, 2 found"),
    ({"files": {}}, "no guest/tiny.bin: "),
    ({"files": {"guest/tiny.bin": b""}}, "guest tiny: guest/tiny.bin is empty"),
    ({"config": CONFIG + "vcpu = 2\n"}, "tain.cfg:4: key 'vcpu': expected"),
    ({"config": CONFIG.replace("tiny.bin", "tiny")}, "guest tiny: guest/tiny is no bzImage"),
])
def test_what_is_wrong_is_named_in_one_line(image, change, said):
    if "files" not in change:
        change = dict(change, files={"guest/tiny.bin": KERNEL, "guest/tiny": KERNEL})
    done = run(image(**change))
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("guest", ["other", "tin"])
def test_a_guest_that_is_not_there_is_an_error(image, guest):
    done = run(image(), guest)
    assert done.returncode == 1 and done.stdout == "" and "no guest %s" % guest in done.stderr


def test_a_file_that_is_no_image_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2 * MIB))
    done = run(str(tmp_path / "file"))
    assert done.returncode == 1 and done.stderr.startswith("mrtd.py: ") and \
        "no tain.cfg" in done.stderr
