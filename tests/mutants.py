#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the mirror, and the software module, on purpose, one rule at a time, in a copy under
build/mutants, and demands that a host test fails. Arguments: names of mutants, or mirror or soft
for all of one; none: all of them."""
import importlib.util
import os
import shutil
import subprocess
import sys

TESTS = {name: [os.path.join("build", "host", name)]
         for name in ("mirror", "mirror_failures", "mirror_enumerated", "history", "td", "enter")}
LIMIT_S = 120

# name: (file, old text, new text); the old text stands in the file exactly once.
MUTANTS = {
    "map-publish-first": (
        "mm/mirror.c", "    enum error error = hpa_is_none(request.source)\n",
        "    slot_publish(slot, entry_of_leaf(page, request.level));\n"
        "    atomic_fetch_or(slot, ENTRY_FROZEN);\n"
        "    enum error error = hpa_is_none(request.source)\n"),
    "freeze-more": (
        "mm/mirror_entry.h", "&expected, old.raw | ENTRY_FROZEN);\n",
        "&expected, old.raw | ENTRY_FROZEN | ENTRY_BLOCKED);\n"),
    "map-overwrite": (
        "mm/mirror.c", "    slot_publish(slot, entry_of_leaf(page, request.level));\n",
        "    slot_publish(slot, absent);\n"
        "    atomic_store(slot, entry_of_leaf(page, request.level).raw);\n"),
    "map-no-restore": (
        "mm/mirror.c", "        slot_publish(slot, absent);\n"
        "        page_cache_return(leaf_cache(request), page);\n",
        "        page_cache_return(leaf_cache(request), page);\n"),
    "map-return-used": (
        "mm/mirror.c", "    page_set_partner(table, external);\n",
        "    page_set_partner(table, external);\n"
        "    page_cache_return(&request->caches->external_tables, external);\n"),
    "remove-publish-first": (
        "mm/mirror_remove.c", "    enum error error = change_step(change, STEP_REMOVE, NULL",
        "    slot_publish(change->slot, (struct mirror_entry){0});\n"
        "    atomic_fetch_or(change->slot, ENTRY_FROZEN);\n"
        "    enum error error = change_step(change, STEP_REMOVE, NULL"),
    "remove-free-first": (
        "mm/mirror_remove.c", "    enum error error = change_step(change, STEP_REMOVE, NULL",
        "    page_free_level(entry_page(change->old), change->level);\n"
        "    enum error error = change_step(change, STEP_REMOVE, NULL"),
    "remove-publish-all": (
        "mm/mirror_remove.c", "    slots_publish(change->slot, change->done, ",
        "    slots_publish(change->slot, change->count, "),
    "remove-free-all": (
        "mm/mirror_remove.c", "    if (change->done)\n        pages_free(entry_page(change->old), "
        "change->done * ",
        "    if (change->done)\n        pages_free(entry_page(change->old), change->count * "),
    "busy-end-of-row": (
        "mm/mirror_change.c", "        if (error || change->count <= 1 || "
        "change->done == change->count)\n            return error;\n",
        "        return error;\n"),
    "row-of-anything": (
        "mm/mirror_entry.h", "    for (; count < most && slot_read(&slot[count]).raw == first.raw; ",
        "    for (; count < most && slot_read(&slot[count]).raw; "),
    "remove-off-by-one": (
        "mm/mirror_remove.c", "        gfn_t blocked_end = end;",
        "        gfn_t blocked_end = gfn(end.raw - (end.raw > start.raw));"),
    "skip-track": (
        "mm/mirror_change.c", "        return ops->track(owner);\n",
        "        return OK;\n"),
    "skip-kick": (
        "tdx/td_memory.c", "    if (!error)\n        td_vcpus_kick(td);\n", ""),
    "remove-no-restore": (
        "mm/mirror_change.c",
        "        slot_publish(&change->slot[i], unblocked ? present : blocked);\n",
        "        (void)present;\n        (void)blocked;\n"),
    "change-no-block": (
        "mm/mirror_change.c",
        "    enum error error = change_step(change, STEP_BLOCK, NULL, HPA_NONE);\n",
        "    enum error error = OK;\n"),
    "split-publish-early": (
        "mm/mirror_change.c", "    mirror_slot *slots = table_slot(table, gfn(0), LEVEL_4K);\n",
        "    mirror_slot *slots = table_slot(table, gfn(0), LEVEL_4K);\n"
        "    page_set_partner(table, external);\n"
        "    slot_publish(split->slot, entry_of_table(table));\n"
        "    atomic_fetch_or(split->slot, ENTRY_FROZEN);\n"),
    "split-overwrite": (
        "mm/mirror_change.c", "    slot_publish(split->slot, entry_of_table(table));\n",
        "    slot_publish(split->slot, split->old);\n"
        "    atomic_store(split->slot, entry_of_table(table).raw);\n"),
    "join-free-first": (
        "mm/mirror_size.c", "    slot_publish(change->slot, joined);\n"
        "    table_free(mirror, table);\n",
        "    table_free(mirror, table);\n"
        "    slot_publish(change->slot, change->old);\n"
        "    atomic_store(change->slot, joined.raw);\n"),
    "promote-any": (
        "mm/mirror_size.c",
        "    if (slots_in_a_row(slots, TABLE_ENTRIES, first, step) < TABLE_ENTRIES)\n",
        "    if (slots_in_a_row(slots, 1, first, step) < 1)\n"),
}


def soft_module():
    spec = importlib.util.spec_from_file_location("soft_mutants", "tests/soft/mutants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Copy:
    """The tree, built once; each mutant builds what it changes, and is undone."""

    def __init__(self, area, tests):
        self.folder = os.path.join("build", "mutants", area)
        self.tests = tests
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(".", self.folder, symlinks=True,
                        ignore=shutil.ignore_patterns("build", ".git", "__pycache__"))
        self.build(area)
        caught = self.failing_test()
        if caught:
            sys.exit("mutants: %s fails with nothing broken" % caught)

    def build(self, what):
        targets = [word for command in self.tests.values() for word in command
                   if word.startswith("build/host/")]
        built = subprocess.run(["make", "-s", "-j2", *targets], cwd=self.folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if built.returncode:
            sys.exit("mutants: %s does not build:\n%s" % (what, built.stdout))

    def failing_test(self):
        for name, command in self.tests.items():
            try:
                status = subprocess.run(command, cwd=self.folder, timeout=LIMIT_S, check=False,
                                        stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode
            except subprocess.TimeoutExpired:
                status = "time-out"
            if status:
                return "%s: %s" % (name, status)
        return None

    def caught_by(self, name, edits):
        before = {}
        for path, old, new in edits:
            full = os.path.join(self.folder, path)
            with open(full, encoding="utf-8") as source:
                text = source.read()
            before.setdefault(full, text)
            if text.count(old) != 1:
                sys.exit("mutants: %s: the text to change is %d times in %s"
                         % (name, text.count(old), path))
            with open(full, "w", encoding="utf-8") as source:
                source.write(text.replace(old, new))
        self.build(name)
        caught = self.failing_test()
        for full, text in before.items():
            with open(full, "w", encoding="utf-8") as source:
                source.write(text)
        return caught


def edits_of(mutant):
    return mutant if isinstance(mutant[0], tuple) else (mutant,)


def main():
    soft = soft_module()
    areas = {"mirror": (TESTS, MUTANTS), "soft": (soft.TESTS, soft.MUTANTS)}
    wanted = sys.argv[1:] or list(areas)
    unknown = set(wanted) - set(areas) - set(MUTANTS) - set(soft.MUTANTS)
    if unknown:
        sys.exit("mutants: there is no %s" % ", ".join(sorted(unknown)))
    survived = 0
    for area, (tests, mutants) in areas.items():
        names = [name for name in mutants if area in wanted or name in wanted]
        copy = Copy(area, tests) if names else None
        for name in names:
            caught = copy.caught_by(name, edits_of(mutants[name]))
            survived += caught is None
            print("%s: %s" % (name, "caught by " + caught if caught else "SURVIVES"), flush=True)
    print("mutants: %d survive" % survived)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
