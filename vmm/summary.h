/* SPDX-License-Identifier: MIT */
/* What is told at the end of a guest. */
#ifndef VMM_SUMMARY_H
#define VMM_SUMMARY_H

#include "vmm/vm.h"

struct vm_result {
    enum vm_end end;
    enum error audit; /* of mirror and external table, or of a VM's pages, before the teardown */
    enum error destroyed; /* vm_destroy's result */
    char audit_message[AUDIT_MESSAGE_BYTES];
    u64 private_pages, shared_pages;
    struct caches_stats caches;                  /* of all vCPUs */
    u64 leaves[MIRROR_LEAF_LEVELS], tables;      /* just before the teardown */
    u64 vmx_pages, vmx_exits[EXIT_REASON_LIMIT]; /* of a VM */
    u64 exits[TD_EXIT_KINDS], vmcalls[VMCALL_ROWS], msrs_refused;
};

/* Takes what is gone after vm_destroy. */
void summary_collect(struct vm_result *result, struct vm *vm);
/* After vm_destroy. The last line says how the guest ended. */
void summary_print(const struct vm *vm, const struct vm_result *result);
/* True if the guest ended well, the audit agreed, and nothing was leaked. */
bool vm_result_is_good(const struct vm *vm, const struct vm_result *result);

#endif
