# SPDX-License-Identifier: MIT
"""The code that mutants change is there: `make mutants`, which says more, takes minutes."""
import importlib.util
import os

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def table(path):
    spec = importlib.util.spec_from_file_location("mutants", os.path.join(ROOT, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTANTS


@pytest.mark.parametrize("path", ("tests/mutants.py", "tests/soft/mutants.py"))
def test_each_mutant_finds_what_it_changes(path):
    lost = []
    for name, mutant in table(path).items():
        for file, old, _ in mutant if isinstance(mutant[0], tuple) else (mutant,):
            with open(os.path.join(ROOT, file), encoding="utf-8") as source:
                if source.read().count(old) != 1:
                    lost.append("%s: %s" % (name, file))
    assert not lost
