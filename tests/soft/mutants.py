# SPDX-License-Identifier: MIT
"""Ways to break the software module, four kinds of them in each of its families. tests/mutants.py
makes them, and demands that one of the tests fails.

name: (file, old text, new text), or several of those; each old text stands in its file once.
"""
import glob

TESTS = {
    "exits": ["build/host/exits"],
    "accept": ["build/host/accept"],
    "trylock": ["build/host/trylock"],
    "tdcall": ["build/host/tdcall"],
    "refusals": ["build/host/refusals"],
    "replay": ["/usr/bin/python3", "-B", "tests/soft/replay_compare.py", "build/host/replay",
               *sorted(glob.glob("tests/soft/traces/*.trace"))],
    "fuzz": ["build/host/fuzz"],
    "soft_life": ["build/host/soft_life"],
    "pamt": ["build/host/pamt"],
}

# An answer names the wrong operand.
OPERANDS = {
    "aug-names-gpa": (
        "tdx/soft/mem_page.c",
        "    if (level == LEVEL_4K) {\n"
        "        struct page_operand operand = {page, OPERAND_R8,",
        "    if (level == LEVEL_4K) {\n"
        "        struct page_operand operand = {page, OPERAND_RCX,"),
    "unblock-names-gpa": (
        "tdx/soft/mem_block.c",
        "completion(TDX_TLB_TRACKING_NOT_DONE, OPERAND_SEPT_TREE)",
        "completion(TDX_TLB_TRACKING_NOT_DONE, OPERAND_RCX)"),
    "addcx-names-page": (
        "tdx/soft/mng.c",
        "leaf->regs->gpr[GPR_RDX], OPERAND_RDX, LOCK_EXCLUSIVE, &td);",
        "leaf->regs->gpr[GPR_RDX], OPERAND_RCX, LOCK_EXCLUSIVE, &td);"),
    "init-names-flags": (
        "tdx/soft/mng_init.c", "completion(TDX_OPERAND_INVALID, OPERAND_EPTP_CONTROLS)",
        "completion(TDX_OPERAND_INVALID, OPERAND_EXEC_CONTROLS)"),
    "vcpu-names-its-td": (
        "tdx/soft/vcpu.c", "&(struct page_operand){page, OPERAND_RCX, PT_NDA, LOCK_EXCLUSIVE},\n"
        "                           &entry);\n    if (status)\n        return status;\n"
        "    td_take_page(&td, entry, page, PT_TDVPR);",
        "&(struct page_operand){page, OPERAND_RDX, PT_NDA, LOCK_EXCLUSIVE},\n"
        "                           &entry);\n    if (status)\n        return status;\n"
        "    td_take_page(&td, entry, page, PT_TDVPR);"),
    "attributes-name-page": (
        "tdx/soft/tdcall_memory.c", "completion(TDX_OPERAND_INVALID, OPERAND_R8)",
        "completion(TDX_OPERAND_INVALID, OPERAND_RDX)"),
    "info-names-its-size": (
        "tdx/soft/metadata_leaves.c", "completion(TDX_OPERAND_INVALID, OPERAND_R9)",
        "completion(TDX_OPERAND_INVALID, OPERAND_RDX)"),
    "reclaim-names-td": (
        "tdx/soft/phymem.c",
        "type == PT_RSVD)\n        return completion(TDX_PAGE_METADATA_INCORRECT, OPERAND_RCX)",
        "type == PT_RSVD)\n        return completion(TDX_PAGE_METADATA_INCORRECT, OPERAND_TDR)"),
}

# Two checks change places.
ORDER = {
    "add-source-before-entry": (
        "tdx/soft/mem_page.c",
        "    status = mem_check_event(&call, SEPT_EVENT_ADD);\n    if (!status)\n"
        "        status = operand_shared(source, PAGE_BYTES, OPERAND_R9);",
        "    status = operand_shared(source, PAGE_BYTES, OPERAND_R9);\n    if (!status)\n"
        "        status = mem_check_event(&call, SEPT_EVENT_ADD);"),
    "gpa-before-state": (
        "tdx/soft/mem.c",
        "        status = td_check_state(leaf, &call->td, LOCK_SHARED);\n    if (!status)\n"
        "        status = mem_check_operand(call, shape);",
        "        status = mem_check_operand(call, shape);\n    if (!status)\n"
        "        status = td_check_state(leaf, &call->td, LOCK_SHARED);"),
    "addcx-number-before-keys": (
        "tdx/soft/mng.c",
        "    if (td.tdr->lifecycle != TD_KEYS_CONFIGURED)\n"
        "        return completion(TDX_TD_KEYS_NOT_CONFIGURED, 0);\n"
        "    u32 index = td.tdr->num_tdcx;\n    if (index >= TDCX_PAGES_MAX)\n"
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n",
        "    u32 index = td.tdr->num_tdcx;\n    if (index >= TDCX_PAGES_MAX)\n"
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n"
        "    if (td.tdr->lifecycle != TD_KEYS_CONFIGURED)\n"
        "        return completion(TDX_TD_KEYS_NOT_CONFIGURED, 0);\n"),
    "init-xfam-before-attributes": (
        "tdx/soft/mng_init.c",
        "    if (!attributes_are_valid(params->attributes))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_ATTRIBUTES);\n"
        "    if (!xfam_is_valid(params->xfam))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_XFAM);\n",
        "    if (!xfam_is_valid(params->xfam))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_XFAM);\n"
        "    if (!attributes_are_valid(params->attributes))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_ATTRIBUTES);\n"),
    "entry-state-before-pages": (
        "tdx/soft/enter.c",
        "    if (run->vcpu->num_pages < vcpu_pages(run->tdcs))\n"
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n"
        "    if (run->vcpu->state != VCPU_READY)\n"
        "        return completion(TDX_VCPU_STATE_INCORRECT, 0);\n",
        "    if (run->vcpu->state != VCPU_READY)\n"
        "        return completion(TDX_VCPU_STATE_INCORRECT, 0);\n"
        "    if (run->vcpu->num_pages < vcpu_pages(run->tdcs))\n"
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n"),
    "attributes-gpa-before-rights": (
        "tdx/soft/tdcall_memory.c",
        "    u64 status = attributes_check(tdcs, attributes, flags);\n"
        "    if (!status && !operand_is_valid(call->run, operand, ATTR_LEVEL_MAX))\n"
        "        status = completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n",
        "    u64 status = 0;\n"
        "    if (!operand_is_valid(call->run, operand, ATTR_LEVEL_MAX))\n"
        "        status = completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n"
        "    if (!status)\n        status = attributes_check(tdcs, attributes, flags);\n"),
    "report-data-before-buffer": (
        "tdx/soft/tdcall_measurement.c",
        "    if (!is_aligned(operand.address, REPORT_ALIGN))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n"
        "    if (!is_aligned(call->gpr[GPR_RDX], REPORT_DATA_ALIGN))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);\n",
        "    if (!is_aligned(call->gpr[GPR_RDX], REPORT_DATA_ALIGN))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RDX);\n"
        "    if (!is_aligned(operand.address, REPORT_ALIGN))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n"),
    "info-cmrs-before-size": (
        "tdx/soft/metadata_leaves.c",
        "    if (!status && info_bytes < SYSINFO_BYTES)\n"
        "        status = completion(TDX_OPERAND_INVALID, OPERAND_RDX);\n"
        "    if (!status)\n        status = operand_shared(cmrs, SYSINFO_CMR_BYTES, OPERAND_R8);\n",
        "    if (!status)\n        status = operand_shared(cmrs, SYSINFO_CMR_BYTES, OPERAND_R8);\n"
        "    if (!status && info_bytes < SYSINFO_BYTES)\n"
        "        status = completion(TDX_OPERAND_INVALID, OPERAND_RDX);\n"),
    "reclaim-life-before-alignment": (
        "tdx/soft/phymem.c",
        "    if (!is_aligned(page, PAGE_BYTES << TABLE_SHIFT * walk.level))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n"
        "    u64 owner = pamt_owner(walk.entry);\n"
        "    status = type == PT_TDR ? tdr_page_check(page) : child_page_check(leaf, owner);\n"
        "    if (status)\n        return status;\n",
        "    u64 owner = pamt_owner(walk.entry);\n"
        "    status = type == PT_TDR ? tdr_page_check(page) : child_page_check(leaf, owner);\n"
        "    if (status)\n        return status;\n"
        "    if (!is_aligned(page, PAGE_BYTES << TABLE_SHIFT * walk.level))\n"
        "        return completion(TDX_OPERAND_INVALID, OPERAND_RCX);\n"),
}

# Something is allowed in a state in which it is not.
EDGES = {
    "accept-blocked": (
        "tdx/soft/sept.def", "SEPT_EDGE(SEPT_PENDING, SEPT_EVENT_ACCEPT, SEPT_MAPPED)\n",
        "SEPT_EDGE(SEPT_PENDING, SEPT_EVENT_ACCEPT, SEPT_MAPPED)\n"
        "SEPT_EDGE(SEPT_PENDING_BLOCKED, SEPT_EVENT_ACCEPT, SEPT_BLOCKED)\n"),
    "unblock-mapped": (
        "tdx/soft/sept.def", "SEPT_EDGE(SEPT_BLOCKED, SEPT_EVENT_UNBLOCK, SEPT_MAPPED)\n",
        "SEPT_EDGE(SEPT_BLOCKED, SEPT_EVENT_UNBLOCK, SEPT_MAPPED)\n"
        "SEPT_EDGE(SEPT_MAPPED, SEPT_EVENT_UNBLOCK, SEPT_MAPPED)\n"),
    "aug-mapped": (
        "tdx/soft/sept.def", "SEPT_EDGE(SEPT_FREE, SEPT_EVENT_AUG, SEPT_PENDING)\n",
        "SEPT_EDGE(SEPT_FREE, SEPT_EVENT_AUG, SEPT_PENDING)\n"
        "SEPT_EDGE(SEPT_PENDING_BLOCKED, SEPT_EVENT_AUG, SEPT_PENDING)\n"),
    "remove-untracked": (
        "tdx/soft/mem.c", "    if (epoch_is_past(tdcs, owned->epoch))\n",
        "    if (tdcs->td_epoch >= owned->epoch)\n"),
    "add-to-running": (
        "tdx/soft/leaves.def", "tdh_mem_page_add, STATE_I)", "tdh_mem_page_add, STATE_I | STATE_R)"),
    "init-twice": (
        "tdx/soft/leaves.def", "tdh_mng_init, STATE_U)", "tdh_mng_init, STATE_U | STATE_I)"),
    "free-key-unflushed": (
        "tdx/soft/mng.c",
        "    if (td.tdr->lifecycle != TD_BLOCKED)\n"
        "        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);\n",
        "    if (td.tdr->lifecycle != TD_BLOCKED && td.tdr->lifecycle != TD_KEYS_CONFIGURED)\n"
        "        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);\n"),
    "flush-done-twice": (
        "tdx/soft/mng.c",
        "td.tdr->lifecycle != TD_HKID_ASSIGNED && td.tdr->lifecycle != TD_KEYS_CONFIGURED)",
        "td.tdr->lifecycle == TD_TEARDOWN)"),
    "vcpu-init-twice": (
        "tdx/soft/vcpu.c",
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n"
        "    if (vcpu->state != VCPU_UNINITIALIZED)\n",
        "        return completion(TDX_TDCX_NUM_INCORRECT, 0);\n"
        "    if (vcpu->state != VCPU_UNINITIALIZED && vcpu->state != VCPU_READY)\n"),
    "enter-disabled": (
        "tdx/soft/enter.c", "    if (run->vcpu->state != VCPU_READY)\n",
        "    if (run->vcpu->state != VCPU_READY && run->vcpu->state != VCPU_DISABLED)\n"),
    "ve-info-twice": (
        "tdx/soft/tdcall.c", "    vcpu->ve.valid = 0;\n", ""),
    "read-uninitialized": (
        "tdx/soft/leaves.def", "tdh_mng_rd, STATE_I | STATE_R)",
        "tdh_mng_rd, STATE_U | STATE_I | STATE_R)"),
    "reclaim-reserved": (
        "tdx/soft/phymem.c", "    if (type == PT_NDA || type == PT_RSVD)\n",
        "    if (type == PT_NDA)\n"),
    "reclaim-blocked": (
        "tdx/soft/phymem.c",
        "    return tdr->lifecycle == TD_TEARDOWN ? 0 :",
        "    return tdr->lifecycle >= TD_BLOCKED ? 0 :"),
}


def kept(path, *edits):
    """A lock taken behind the leaf's back, and given back only where the leaf succeeds."""
    return tuple((path, old, new) for old, new in edits)


# A lock stays behind on an error path.
LOCKS = {
    "dispatch-keeps-all": (
        "tdx/soft/dispatch.c", "    leaf_unlock_all(&leaf);\n",
        "    if (!(status & TDX_STATUS_ERROR))\n        leaf_unlock_all(&leaf);\n"),
    "tdcall-keeps-all": (
        "tdx/soft/tdcall.c", "    leaf_unlock_all(&leaf);\n",
        "    if (!(status & TDX_STATUS_ERROR))\n        leaf_unlock_all(&leaf);\n"),
    "memory-keeps-tree": kept(
        "tdx/soft/mem.c",
        ("    if (!leaf_lock(leaf, &call->td.tdcs->sept_lock, shape.tree))\n",
         "    if (shape.tree == LOCK_SHARED && !trylock_share(&call->td.tdcs->sept_lock))\n"
         "        return completion(TDX_OPERAND_BUSY, OPERAND_SEPT_TREE);\n"
         "    if (shape.tree != LOCK_SHARED &&\n"
         "        !leaf_lock(leaf, &call->td.tdcs->sept_lock, shape.tree))\n"),
        ("    if (!sept_entry_lock(leaf, &call->walk))\n"
         "        return mem_entry_error(call, TDX_OPERAND_BUSY);\n    return 0;\n",
         "    if (!sept_entry_lock(leaf, &call->walk))\n"
         "        return mem_entry_error(call, TDX_OPERAND_BUSY);\n"
         "    if (shape.tree == LOCK_SHARED)\n"
         "        trylock_unshare(&call->td.tdcs->sept_lock);\n    return 0;\n")),
    "track-keeps-epoch": kept(
        "tdx/soft/mem_block.c",
        ("    if (!leaf_lock(leaf, &td.tdcs->epoch_lock, LOCK_EXCLUSIVE))\n",
         "    if (!trylock_exclude(&td.tdcs->epoch_lock))\n"),
        ("    td.tdcs->td_epoch++;\n",
         "    td.tdcs->td_epoch++;\n    trylock_unexclude(&td.tdcs->epoch_lock);\n")),
    "free-key-keeps-keys": kept(
        "tdx/soft/mng.c",
        ("        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);\n"
         "    if (!leaf_lock(leaf, &soft_system.keys_lock, LOCK_EXCLUSIVE))\n",
         "        return completion(TDX_LIFECYCLE_STATE_INCORRECT, 0);\n"
         "    if (!trylock_exclude(&soft_system.keys_lock))\n"),
        ("    td.tdr->lifecycle = TD_TEARDOWN;\n",
         "    td.tdr->lifecycle = TD_TEARDOWN;\n"
         "    trylock_unexclude(&soft_system.keys_lock);\n")),
    "state-keeps-op-state": kept(
        "tdx/soft/objects.c",
        ("    if (!(leaf->op_states & 1u << td->tdcs->op_state))\n"
         "        return completion(TDX_OP_STATE_INCORRECT, 0);\n",
         "    if (!(leaf->op_states & 1u << td->tdcs->op_state)) {\n"
         "        (void)trylock_share(&td->tdcs->op_state_lock);\n"
         "        return completion(TDX_OP_STATE_INCORRECT, 0);\n    }\n")),
    "enter-keeps-epoch": (
        "tdx/soft/enter.c",
        "    case ZERO_STEP_REFUSED:\n        epoch_leave(run.tdcs, epoch);\n",
        "    case ZERO_STEP_REFUSED:\n"),
    "vcpu-keeps-index": (
        "tdx/soft/vcpu.c", "        tdcs->num_vcpus--;\n", ""),
    "write-back-keeps-package": kept(
        "tdx/soft/phymem.c",
        ("    if (!leaf_lock(leaf, &soft_system.write_back[package].lock, LOCK_EXCLUSIVE))\n",
         "    if (!trylock_exclude(&soft_system.write_back[package].lock))\n"),
        ("    soft_system.write_back[package].is_interrupted = false;\n    return 0;\n",
         "    soft_system.write_back[package].is_interrupted = false;\n"
         "    trylock_unexclude(&soft_system.write_back[package].lock);\n    return 0;\n")),
    "pair-keeps-page": (
        "tdx/soft/pamt_pair.c",
        "            pamt_page_mark(tdmr_of(pair->pages[k]), pair->pages[k], false);\n",
        "            (void)tdmr_of(pair->pages[k]);\n"),
    "system-keeps-init": kept(
        "tdx/soft/sys.c",
        ("    if (soft_system.state != SYSTEM_INIT_PENDING)\n"
         "        return completion(TDX_SYS_INIT_NOT_PENDING, 0);\n",
         "    if (soft_system.state != SYSTEM_INIT_PENDING) {\n"
         "        leaf->held_count = 0;\n"
         "        return completion(TDX_SYS_INIT_NOT_PENDING, 0);\n    }\n")),
}

MUTANTS = {**OPERANDS, **ORDER, **EDGES, **LOCKS}
