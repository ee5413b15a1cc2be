#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the mirror on purpose, one rule at a time, in a copy under build/mutants, and demands
that a host test fails. Arguments: names of mutants; none: all of them."""
import os
import shutil
import subprocess
import sys

TESTS = [os.path.join("build", "host", name)
         for name in ("mirror", "mirror_failures", "mirror_enumerated", "history", "td", "enter")]

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


def mutant_is_caught(name):
    """What caught it, or None."""
    path, old, new = MUTANTS[name]
    with open(path, encoding="utf-8") as source:
        text = source.read()
    if text.count(old) != 1:
        sys.exit("mutants: %s: the text to change is %d times in %s"
                 % (name, text.count(old), path))
    folder = os.path.join("build", "mutants", name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(".", folder, symlinks=True, ignore=shutil.ignore_patterns("build", ".git"))
    with open(os.path.join(folder, path), "w", encoding="utf-8") as source:
        source.write(text.replace(old, new))
    built = subprocess.run(["make", "-s", "-j2", *TESTS], cwd=folder, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if built.returncode:
        sys.exit("mutants: %s does not build:\n%s" % (name, built.stdout))
    for test in TESTS:
        try:
            status = subprocess.run([os.path.abspath(os.path.join(folder, test))], cwd=folder,
                                    timeout=60, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired:
            status = "time-out"
        if status:
            return "%s: %s" % (os.path.basename(test), status)
    return None


def main():
    failed = 0
    for name in sys.argv[1:] or MUTANTS:
        caught = mutant_is_caught(name)
        failed += caught is None
        print("%s: %s" % (name, "caught by " + caught if caught else "SURVIVES"), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
