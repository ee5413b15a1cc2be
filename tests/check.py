#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`make check`: lint, host tests, traces, the model, the image built twice, emulator cases.
All run, whatever fails.

The last line is "N passed, N failed" over all of them; the exit status is 0 only if none failed.
"""
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAKE = ["make", "--no-print-directory", "-s", "-j2"]
JUNIT = os.path.join(ROOT, "build", "cases.xml")
EMULATORS_AT_ONCE = 2
LIMIT_S = 45 * 60  # a guard against a hang: two quiet cores need a third of it
start_s = time.monotonic()


def run(command, limit_s):
    """Shows the output as it comes; returns the status, None for a time-out, and the output."""
    limit_s = max(1, min(limit_s, LIMIT_S - (time.monotonic() - start_s)))
    said = []
    process = subprocess.Popen(["timeout", "-k", "10", "%d" % limit_s, *command], cwd=ROOT,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
    for line in process.stdout:
        said.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    status = process.wait()
    if status in (124, 137):
        print("check: %s: no end within %d s" % (" ".join(command), limit_s))
    return status, "".join(said)


def at_least_one(passed, failed, status):
    """A part that went wrong without counting it has failed once."""
    if status and not failed:
        failed = 1
    return passed, failed


def lint():
    status, said = run([*MAKE, "lint"], 180)
    match = re.search(r"^lint: (\d+) passed, (\d+) failed$", said, re.M)
    passed, failed = map(int, match.groups()) if match else (0, 0)
    return at_least_one(passed, failed, status)


def host_tests():
    names = run([*MAKE, "list-host-tests"], 60)[1].split()
    passed = failed = 0
    status, _ = run([*MAKE, "-k", *names], 600)
    for name in names:
        if not os.path.exists(os.path.join(ROOT, name)):
            print("check: %s was not built" % name)
            failed += 1
            continue
        test_status, said = run([name], 300)
        good = sum(map(int, re.findall(r"^\[  PASSED  \] (\d+) test\(s\)", said, re.M)))
        bad = sum(map(int, re.findall(r"^\[  FAILED  \] (\d+) test\(s\)", said, re.M)))
        if not good + bad and not test_status:
            print("check: %s ran no test" % name)
            bad = 1
        good, bad = at_least_one(good, bad, test_status)
        passed, failed = passed + good, failed + bad
    return at_least_one(passed, failed, status)


def cases(at_once, *folders):
    """What pytest finds in the folders."""
    if os.path.exists(JUNIT):
        os.unlink(JUNIT)
    status, _ = run([sys.executable, "-B", "-m", "pytest", "-v", "--tb=short", "-n", str(at_once),
                     "-p", "no:cacheprovider", "--junitxml", JUNIT, *folders], LIMIT_S)
    if not os.path.exists(JUNIT):
        return 0, 1
    total = failed = skipped = 0
    for suite in xml.etree.ElementTree.parse(JUNIT).getroot().iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    return at_least_one(total - failed - skipped, failed, status)


def traces():
    """What the software module answers, against what Intel's did."""
    status, _ = run([*MAKE, "build/host/replay"], 180)
    return (0, 1) if status else cases(0, "tests/soft")


def model():
    status, said = run([sys.executable, "-B", "tests/model.py", "--quick"], 120)
    passed, failed = (len(re.findall("^%s: " % word, said, re.M)) for word in ("ok", "FAILED"))
    return at_least_one(passed, failed, status)


def image_is_reproducible():
    status, _ = run([*MAKE, "reproducible"], 180)
    return (0, 1) if status else (1, 0)


def emulator_cases():
    status, _ = run([*MAKE, "all", "guests", "build/host/soft_mrtd"], 180)
    if status:
        print("check: the image is not built: no emulator case was run")
        return 0, 1
    return cases(EMULATORS_AT_ONCE, "tests/lint", "tests/attest", "tests/emulator")


PARTS = (("lint", lint), ("host tests", host_tests), ("traces", traces), ("model", model),
         ("image", image_is_reproducible), ("emulator cases", emulator_cases))


def main():
    results = []
    for name, part in PARTS:
        print("== %s" % name)
        sys.stdout.flush()
        results.append((name, *part()))
    print("==")
    for name, passed, failed in results:
        print("%-16s %d passed, %d failed" % (name + ":", passed, failed))
    passed, failed = (sum(result[i] for result in results) for i in (1, 2))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
