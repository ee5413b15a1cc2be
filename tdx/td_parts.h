/* SPDX-License-Identifier: MIT */
/* What the files of a TD share: its external table as the mirror sees it, and its kicks. */
#ifndef TDX_TD_PARTS_H
#define TDX_TD_PARTS_H

#include "tdx/td.h"

/* The owner is the struct td. */
extern const struct mirror_ops td_mirror_ops;

/*
 * Takes the vCPU from the processor that it is associated with (VP.FLUSH there: it must be idle,
 * or be us). ERR_BUSY, ERR_REFUSED.
 */
enum error td_vcpu_flush(struct td_vcpu *vcpu);

/* To this processor: takes the vCPU from where it last ran, aims its interrupts. */
enum error td_vcpu_move(struct td_vcpu *vcpu);
/*
 * Before an entry, interrupts disabled, where the vCPU wants it: notifies of what was posted while
 * it was out.
 */
void td_vcpu_notify_self(struct td_vcpu *vcpu);

/* Kicks every vCPU that is in the guest and waits until each has left at least once. */
void td_vcpus_kick(struct td *td);

/* Frees what only the build needs. */
void td_source_free(struct td *td);

#endif
