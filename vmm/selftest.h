/* SPDX-License-Identifier: MIT */
/* Faults that the VMM makes on purpose when tain.cfg asks for one (`test = NAME`). */
#ifndef VMM_SELFTEST_H
#define VMM_SELFTEST_H

#include "boot/error.h"

struct vm;

/* ERR_INVALID, with one line: there is no test of the name that tain.cfg gives. */
enum error selftest_check_name(void);
/* Writes to a private page: in strict mode a page fault, and its panic names the page. */
void selftest_before_start(struct vm *vm);
/* Corrupts an entry of a TD's mirror: the audit has to find it. */
void selftest_before_audit(struct vm *vm);

#endif
