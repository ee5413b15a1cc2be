# SPDX-License-Identifier: MIT
"""build/host/replay: the traces, and what it says of a line that is not of their language."""
import pathlib
import resource
import subprocess

import pytest
import replay_compare

FOLDER = pathlib.Path(__file__).parent
TRACES = sorted((FOLDER / "traces").glob("*.trace"))
REPLAY = FOLDER.parent.parent / "build" / "host" / "replay"
SECONDS_OF_2000_LINES = 1


def replay(text, *flags):
    return subprocess.run([REPLAY, *flags], input=text, capture_output=True, timeout=60,
                          text=isinstance(text, str), check=False)


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.stem)
def test_the_module_answers_as_the_trace_says(trace):
    assert replay_compare.compare(REPLAY, trace, 5) == 0


def test_two_thousand_lines_take_less_than_a_second():
    lines = sum(len(trace.read_text().splitlines()) for trace in TRACES)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for trace in TRACES:
        replay(trace.read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert lines >= 2000
    assert seconds < SECONDS_OF_2000_LINES * lines / 2000


def test_lines_are_echoed_before_their_answers():
    assert replay("# bring-up\n\nlp 1\n21  # SYS.INIT\n", "-e").stdout == \
        "> # bring-up\n>\n> lp 1\n> 21  # SYS.INIT\n0 0 0 0 0 0 0\n"


@pytest.mark.parametrize("flags", (["-x"], ["-e", "sample.trace"]))
def test_what_is_no_option_gets_the_usage(flags):
    done = replay("", *flags)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.splitlines()[-1] == "usage: replay [-e] < NAME.trace"


DAMAGED = {
    "foo 1": 'neither a directive nor a leaf: "foo"',
    "td foo": 'no leaf: "foo"',
    "rep 2": 'an operand is missing of "rep"',
    "rep 0 21": 'it says "rep 0"',
    "w 1000": 'an operand is missing of "w"',
    "r 1000 1": 'one word too many: "1"',
    "1 2 3 4 5 6 7 8 9 a": 'one word too many: "a"',
    "r 0x10": 'no 64-bit hexadecimal number: "0x10"',
    "r -1": 'no 64-bit hexadecimal number: "-1"',
    "r 10000000000000000": 'no 64-bit hexadecimal number: "10000000000000000"',
    "exit c 0": 'no decimal number: "c"',
    "1:100": 'no version of a leaf: "100"',
    "sha 0 40000001": 'over 1 GiB: "40000001"',
    "lp 4": "the platform has no processor 4",
    "intr 2": "intr is 0 or 1",
    "cfg npkgs 1": "the platform is described before the first other line",
    "9" * 1024: "over 1024 bytes",
    "21\0": "a NUL byte in it",
}


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_named(line):
    done = replay("21\n# two good lines\n%s\n21\n" % line)
    assert done.returncode == 2
    assert done.stdout == "0 0 0 0 0 0 0\n"
    assert done.stderr == "replay: line 3: %s\n" % DAMAGED[line]


@pytest.mark.parametrize("platform, fault", (
    ("cfg nlps 0", "number of processors"), ("cfg nlps 65", "number of processors"),
    ("cfg npkgs 9", "number of packages"), ("cfg ntdx 1", "number of KeyIDs")))
def test_a_platform_that_cannot_be_is_named(platform, fault):
    done = replay(platform + "\n21\n")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "replay: line 2: no such platform: %s\n" % fault


@pytest.mark.parametrize("line, error", (
    ("cfg nlp 1", 'the platform has no "nlp"'), ("cmr 32 0 0", "convertible ranges are 0 to 31"),
    ("cfg nlps 4294967297", "nlps is no 32-bit number")))
def test_a_wrong_description_is_named(line, error):
    done = replay(line + "\n21\n")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "replay: line 1: %s\n" % error


def test_memory_is_reached_at_any_address():
    done = replay("w ffd 1122334455667788\nr ffd\nr ff8\nzeros 0 ffd\nzeros 0 ffe\n"
                  "fill ffe 4 a1\nr ffb\n")
    assert done.stdout == "1122334455667788\n6677880000000000\n1\n0\n" \
        "33000000a1880000\n"


def test_what_cannot_be_written_is_an_error():
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([REPLAY], input="21\n", stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=60, check=False)
    assert done.returncode == 1 and "not written" in done.stderr


@pytest.mark.parametrize("answer, expected, reason, same", (
    ("0 1 2 3 4 5 6", "0 1 2 3 4 5 6", None, True),
    ("0 1 2 3 4 5 6", "0 1 2 9 4 5 6", None, False),
    ("0 1 2 3 4 5 6", "0 1 2 9 4 5 6", "r8: random", True),
    ("0 1 2 3 4 5 6", "0 1 9 3 4 5 6", "r8: random", False),
    ("td 0 1 2 3 4 5 6", "td 0 1 2 9 4 5 6", "r8: random", True),
    ("td 0 1 2 3 4 5 6", "td 0 1 9 3 4 5 6", "r8: random", False),
    ("td 0 1 2 3 4 5 6", "td 9 9 9 9 9 9 9", "regs: #VE", True),
    ("vmm 0 1 2 3 4 5 6", "td 0 1 2 3 4 5 6", "regs: #VE", False),
    ("0 1 2 3 4 5 6", "9 9 9 9 9 9 9", "no part of it", True)))
def test_a_reason_says_what_counts_of_a_line(answer, expected, reason, same):
    assert replay_compare.same(answer, expected, reason) == same
