/* SPDX-License-Identifier: MIT */
/* Leaves that are made once on every package. */
#ifndef TDX_PACKAGES_H
#define TDX_PACKAGES_H

#include "tdx/seamcall.h"

/*
 * Makes the leaf with RCX = `rcx` once on one processor of every package, one after another, and
 * again while keys cannot be made for want of entropy or caches are not yet written back. Each
 * package must have an idle processor, or be ours. Stops at the first that refuses; *done counts
 * the packages before it.
 */
enum error packages_call(enum tdh_leaf leaf, u64 rcx, const char *where, u32 *done);

#endif
