/* SPDX-License-Identifier: MIT */
/* Association of a vCPU with a logical processor, and the rest that its leaves share. */
#ifndef TDX_SOFT_VCPU_H
#define TDX_SOFT_VCPU_H

#include "tdx/soft/objects.h"

#define VCPU_NO_LP 0xffffffffu
#define VCPU_POINTER_NONE (~0ull)
#define VCPU_NO_VECTOR 0xffff

/* TDVPS pages of a TD with so many L2 VMs: all have to be there before VP.INIT. */
u32 vcpu_pages(const struct tdcs *tdcs);

/*
 * Associates the vCPU with this processor: VCPU_ASSOCIATED if it is another's. Its VMCS becomes
 * the current one.
 */
enum association {
    ASSOCIATION_KEPT,
    ASSOCIATION_NEW, /* nothing of it is in this processor's TLB or VMCS cache */
};
u64 vcpu_associate(struct tdvps *vcpu, struct tdcs *tdcs, enum association *association);

#endif
