#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Replays traces on the software module and counts answers that differ from the expected ones.

replay_compare.py [--show N] REPLAY NAME.trace...

NAME.expected holds one line an answer; NAME.ignore (optional) names lines whose values depend on
the modelled processor: "LINE # reason". Of a line whose reason starts with "r8:" all but R8
counts, with "regs:" only its prefix, with anything else nothing but that it is there. Exit status
1 if anything differs.
"""

import argparse
import pathlib
import re
import subprocess
import sys

SECONDS_MAX = 120
QUIET = {"lp", "w", "fill", "intr", "cfg", "cmr"}


def ignored(trace):
    rows = {}
    path = trace.with_suffix(".ignore")
    if path.exists():
        for line in path.read_text().splitlines():
            found = re.match(r"\s*(\d+)\s*#\s*(.*)", line)
            if found:
                reason = re.sub(r"^trace line \d+: *", "", found[2])
                rows[int(found[1])] = reason
    return rows


def same(answer, expected, reason):
    if answer == expected:
        return True
    if reason is None:
        return False
    a, e = answer.split(), expected.split()
    if reason.startswith("regs:"):
        return a[:1] == e[:1]
    if reason.startswith("r8:"):
        at = 4 if e[:1] in (["td"], ["vmm"]) else 3
        return len(a) == len(e) and a[:at] + a[at + 1 :] == e[:at] + e[at + 1 :]
    return True


def speaking_lines(trace):
    lines = []
    for number, text in enumerate(trace.read_text().splitlines(), 1):
        words = text.split("#")[0].split()
        if words and words[0] not in QUIET:
            lines.append((number, text))
    return lines


def compare(replay, trace, show):
    with trace.open() as source:
        run = subprocess.run(
            [replay], stdin=source, capture_output=True, text=True, timeout=SECONDS_MAX
        )
    answers = run.stdout.splitlines()
    expected = trace.with_suffix(".expected").read_text().splitlines()
    rows, asked = ignored(trace), speaking_lines(trace)
    differences = abs(len(answers) - len(expected))
    for index, (answer, wanted) in enumerate(zip(answers, expected)):
        if same(answer, wanted, rows.get(index + 1)):
            continue
        differences += 1
        if differences <= show:
            number, text = asked[index]
            print(f"  {trace.name}:{number}: {text}\n    got      {answer}\n    expected {wanted}")
    if run.returncode:
        print(f"  {trace.name}: replay ended with {run.returncode}: {run.stderr.strip()[-300:]}")
        differences += 1
    print(f"{trace.stem}: {differences} of {len(expected)} differ")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("replay")
    parser.add_argument("traces", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    total = sum(compare(arguments.replay, trace, arguments.show) for trace in arguments.traces)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
