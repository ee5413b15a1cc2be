/* SPDX-License-Identifier: MIT */
/* SHA-384 (FIPS 180-4), running over any number of pieces. */
#ifndef TDX_SOFT_SHA384_H
#define TDX_SOFT_SHA384_H

#include "boot/types.h"

#define SHA384_BYTES 48
#define SHA384_BLOCK_BYTES 128

struct sha384 {
    u64 state[8];
    u64 len_bytes;
    u8 block[SHA384_BLOCK_BYTES]; /* the incomplete last block */
};

void sha384_start(struct sha384 *sha);
void sha384_update(struct sha384 *sha, const void *data, size_t len_bytes);
void sha384_finish(struct sha384 *sha, u8 digest[SHA384_BYTES]);

#endif
