#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks mm/mirror.pml with Spin: the model holds, its essential states are reached, and each
mutant violates an assertion. One line each; the exit status says whether all is as it must be.
--quick leaves out the states."""
import os
import re
import subprocess
import sys

MODEL = os.path.abspath("mm/mirror.pml")
MUTANTS = ("PUBLISH_EARLY", "SKIP_TRACK", "SKIP_KICK", "NO_RESTORE", "RETURN_USED")
STATES = ("a lost race", "a refused table", "a refused leaf", "a mapped leaf", "a removed leaf",
          "a leaf restored after a refusal", "a leaf left blocked")


def pan_run(name, define):
    """(errors, what pan said)"""
    folder = os.path.join("build", "model", name)
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["spin", *define, "-a", MODEL], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"],
                   cwd=folder, check=True)
    output = subprocess.run(["./pan", "-m1000000"], cwd=folder, timeout=300, text=True,
                            stdout=subprocess.PIPE).stdout
    found = re.search(r"errors: (\d+)", output)
    if not found or "max search depth too small" in output or "out of memory" in output:
        sys.exit("model: %s: the search did not end:\n%s" % (name, output))
    reason = re.search(r"pan:1: (.*?) \(at", output)
    return int(found.group(1)), reason.group(1) if reason else "no error"


def main():
    runs = [("mirror", [], False, "the protocol holds")]
    runs += [("reach%d" % number, ["-DREACH=%d" % number], True, state + " is reached")
             for number, state in enumerate(STATES, 1)]
    runs += [(name, ["-D" + name], True, "mutant %s is caught" % name) for name in MUTANTS]
    if "--quick" in sys.argv:
        runs = [run for run in runs if not run[0].startswith("reach")]
    failed = 0
    for name, define, must_fail, text in runs:
        errors, reason = pan_run(name, define)
        good = bool(errors) == must_fail
        if name.startswith("reach"):
            good = good and "%s!=%s" % (name[5:], name[5:]) in reason.replace(" ", "")
        failed += not good
        print("%s: %s (%s)" % ("ok" if good else "FAILED", text, reason), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
