# SPDX-License-Identifier: MIT
"""The bench itself: it runs to its end, and every series has the samples that it should have."""
import os
import re

import bench
import pytest

TEARDOWNS = ("teardown_key_first", "teardown_by_page")
# Of these no part is the module's: the guest asks the VMM alone. Nor of those of an ordinary VM.
WITHOUT_MODULE = ("vmcall", "unshare_4k", "unshare_2m")


def series_names():
    with open(os.path.join(bench.BUILD, "../vmm/series.def")) as file:
        return re.findall(r"^SERIES\((\w+),", file.read(), re.M)


@pytest.fixture(scope="module")
def text():
    return bench.run(strict=False)


@pytest.fixture(scope="module")
def found(text):
    return bench.figures(text)


def test_every_series_is_measured(text, found):
    said = {name: int(n) for name, n in bench.GUEST_SERIES.findall(text)}
    assert sorted(said) == sorted(series_names()), text[-2000:]
    assert {name: found[name]["n"] for name in said} == said
    assert all(found[name]["n"] == 1 for name in TEARDOWNS)


def test_the_parts_of_vmm_and_module_are_there(found):
    for name, row in found.items():
        if name == "tables":
            continue
        assert 0 < row["vmm"]["min"] <= row["vmm"]["median"] <= row["vmm"]["p99"], name
        if name in WITHOUT_MODULE or name.startswith("vm_"):
            assert row["module"]["p99"] == 0, name
        else:
            assert 0 < row["module"]["min"] <= row["module"]["median"] <= row["module"]["p99"], name


def test_a_range_is_removed_faster_than_its_pages(found):
    for part in "vmm", "module":
        assert found["discard_4k"][part]["median"] < found["discard_by_page"][part]["median"]
        assert found["teardown_key_first"][part]["median"] < \
            found["teardown_by_page"][part]["median"]
    tables = found["tables"]
    assert tables["leaves_4k"] > 512 and tables["kib_per_gib"] < 8 * 1024, tables


def test_a_measured_run_leaves_nothing_behind(text):
    assert text.count("summary: teardown: complete") == 3
    assert text.count("summary: audit: mirror and external table agree") == 2
    assert text.count("summary: audit: every page is mapped once") == 1
    assert "PANIC" not in text and "not removed" not in text


def test_an_ordinary_vm_gets_blocks_and_pages(text, found):
    """2 MiB at a time, but for the end of its memory that is no whole block."""
    assert found["vm_fault_2m"]["n"] == 27 and found["vm_fault_4k"]["n"] == 254
    for name in "vm_fault_2m", "vm_fault_4k":
        vmm = found[name]["vmm"]
        assert vmm["median"] * 2 < vmm["p99"], "the median was not at hand"


def test_a_missed_goal_is_named():
    slow = {"discard_4k": {"vmm": {"median": bench.GOALS["discard_4k"] + 1}}}
    assert len(bench.missed(slow)) == 1 and "discard_4k" in bench.missed(slow)[0]
    met = {"discard_4k": {"vmm": {"median": bench.GOALS["discard_4k"]}}}
    assert not bench.missed(met)


def test_without_the_test_the_calls_are_unknown(boot):
    """An ordinary tain.cfg knows no series: the guest's first call of Tain's own is refused."""
    guest = os.path.join(bench.BUILD, "guests", "measure.bin")
    machine = boot("[guest measure]\nkind = td\nkernel = measure.bin\nmemory = 128M\n",
                   {"measure.bin": guest})
    machine.expect("guest: FAIL: a call of Tain's own is refused")
    machine.finish()
    assert "bench: " not in machine.text(), machine.tail()
