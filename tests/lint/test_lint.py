# SPDX-License-Identifier: MIT
"""Each rule of lint.py finds an offence planted for it, and none in a clean tree."""
import os
import subprocess
import sys

import pytest

LINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lint.py")
SPDX = "/* SPDX-License-Identifier: MIT */\n"
CLEAN = {
    "boot/a.h": SPDX + "#ifndef A_H\n#define A_H\nint a(void);\n#endif\n",
    "boot/a.c": SPDX + '#include "boot/a.h"\n\nint a(void)\n{\n    return 1;\n}\n',
}
OFFENCES = [
    ("includes look down", "boot/b.c", SPDX + '#include "mm/x.h"\n'),
    ("includes look down", "tdx/soft/b.c", SPDX + '#include "mm/x.h"\n'),
    ("includes look down", "tdx/soft/b.c", SPDX + '#include "tdx/td.h"\n'),
    ("includes look down", "vmm/b.c", SPDX + '#include "tdx/soft/td.h"\n'),
    ("includes look down", "boot/b.c", SPDX + '#include "a.h"\n'),
    ("only efi sees the firmware", "mm/b.c", SPDX + "#include <efi.h>\n"),
    ("own header first", "boot/a.c", SPDX + '#include "boot/b.h"\n#include "boot/a.h"\n'),
    ("files say their licence", "boot/b.asm", "; nothing\n"),
    ("files are named for what they hold", "boot/helpers.c", SPDX),
    ("files fit a reader", "boot/b.c", SPDX + "\n" * 601),
    ("nothing is left for later", "boot/b.c", SPDX + "/* TO" "DO: later */\n"),
    ("hardware words have no bitfields", "boot/b.h", SPDX + "struct s {\n    u64 x : 3;\n};\n"),
    ("text is tidy", "boot/b.c", SPDX + "int b; \n"),
    ("formatting", "boot/b.c", SPDX + "int  b ;\n"),
    ("headers stand alone", "boot/b.h", SPDX + "#ifndef B\n#define B\nunknown_t b;\n#endif\n"),
    ("gcc warns of nothing", "boot/b.c", SPDX + "static int b;\n"),
    ("clang warns of nothing", "boot/b.c", SPDX + "static int b;\n"),
]


@pytest.fixture
def tree(tmp_path):
    """A tree of its own with a copy of lint.py; run(files) returns {rule: its line}."""
    root = tmp_path / "tree"

    def run(files):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        lint = root / "tests/lint/lint.py"
        lint.parent.mkdir(parents=True, exist_ok=True)
        with open(LINT, encoding="utf-8") as source:
            lint.write_text(source.read())
        style = os.path.join(os.path.dirname(LINT), "../../.clang-format")
        with open(style, encoding="utf-8") as source:
            (root / ".clang-format").write_text(source.read())
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        done = subprocess.run([sys.executable, str(lint), "--flags", "-std=gnu2x -Wall -Werror"],
                              stdout=subprocess.PIPE, text=True, check=False)
        lines = [line[len("lint: "):] for line in done.stdout.split("\n")
                 if line.startswith("lint: ")]
        return {line[:36].strip(): line[36:].strip() for line in lines}, done.returncode

    return run


def test_a_clean_tree_passes(tree):
    rules, status = tree(CLEAN)
    assert status == 0, rules


@pytest.mark.parametrize("rule, name, content", OFFENCES)
def test_an_offence_is_found(tree, rule, name, content):
    rules, status = tree({**CLEAN, name: content})
    assert status == 1
    assert rules[rule] == "1 offences" or (rule == "headers stand alone"
                                           and rules[rule] == "2 offences"), rules
