/* SPDX-License-Identifier: MIT */
/*
 * Speed matters: the module runs on an emulator, and a guest image is measured in blocks. The
 * eight working variables stay in registers (the round macro renames them instead of moving
 * them) and the message schedule is a ring of 16 words.
 */
#include "tdx/soft/sha384.h"

#include "boot/string.h"

static const u64 round_constants[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

static inline u64 rotate(u64 x, unsigned count)
{
    return x >> count | x << (64 - count);
}

/* Rotations nested, which takes fewer moves: the inner ones by the differences. */
#define BIG_SIGMA0(x) rotate(rotate(rotate(x, 5) ^ (x), 6) ^ (x), 28)
#define BIG_SIGMA1(x) rotate(rotate(rotate(x, 23) ^ (x), 4) ^ (x), 14)
#define SMALL_SIGMA0(x) (rotate(rotate(x, 7) ^ (x), 1) ^ ((x) >> 7))
#define SMALL_SIGMA1(x) (rotate(rotate(x, 42) ^ (x), 19) ^ ((x) >> 6))

/*
 * Round `i` of 16. The first 16 rounds take the block's words, the others extend the ring in place:
 * with `i` a constant every index is one too.
 */
#define EXTEND(i) \
    (w[(i)&15] += \
     SMALL_SIGMA1(w[((i) + 14) & 15]) + w[((i) + 9) & 15] + SMALL_SIGMA0(w[((i) + 1) & 15]))
#define ROUND(a, b, c, d, e, f, g, h, word, i)                    \
    do {                                                          \
        h += BIG_SIGMA1(e) + (g ^ (e & (f ^ g))) + k[i] + (word); \
        d += h;                                                   \
        u64 a_xor_b = a ^ b; /* the next round's b ^ c */         \
        h += BIG_SIGMA0(a) + (b ^ (b_xor_c &= a_xor_b));          \
        b_xor_c = a_xor_b;                                        \
    } while (0)
#define EIGHT_ROUNDS(WORD, i)                                  \
    do {                                                       \
        ROUND(a, b, c, d, e, f, g, h, WORD((i) + 0), (i) + 0); \
        ROUND(h, a, b, c, d, e, f, g, WORD((i) + 1), (i) + 1); \
        ROUND(g, h, a, b, c, d, e, f, WORD((i) + 2), (i) + 2); \
        ROUND(f, g, h, a, b, c, d, e, WORD((i) + 3), (i) + 3); \
        ROUND(e, f, g, h, a, b, c, d, WORD((i) + 4), (i) + 4); \
        ROUND(d, e, f, g, h, a, b, c, WORD((i) + 5), (i) + 5); \
        ROUND(c, d, e, f, g, h, a, b, WORD((i) + 6), (i) + 6); \
        ROUND(b, c, d, e, f, g, h, a, WORD((i) + 7), (i) + 7); \
    } while (0)
#define TAKE(i) (w[i] = __builtin_bswap64(words[i]))

static void block_mix(struct sha384 *sha, const u8 *block)
{
    u64 w[16], words[16];
    const u64 *k = round_constants;

    memcpy(words, block, sizeof words);
    u64 a = sha->state[0], b = sha->state[1], c = sha->state[2], d = sha->state[3];
    u64 e = sha->state[4], f = sha->state[5], g = sha->state[6], h = sha->state[7];
    u64 b_xor_c = b ^ c;
    EIGHT_ROUNDS(TAKE, 0);
    EIGHT_ROUNDS(TAKE, 8);
    for (k += 16; k < round_constants + 80; k += 16) {
        EIGHT_ROUNDS(EXTEND, 0);
        EIGHT_ROUNDS(EXTEND, 8);
    }
    u64 mixed[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++)
        sha->state[i] += mixed[i];
}

void sha384_start(struct sha384 *sha)
{
    static const u64 initial[8] = {
        0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939,
        0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4,
    };
    memcpy(sha->state, initial, sizeof initial);
    sha->len_bytes = 0;
}

void sha384_update(struct sha384 *sha, const void *data, size_t len_bytes)
{
    const u8 *from = data;
    size_t filled = sha->len_bytes % SHA384_BLOCK_BYTES;
    sha->len_bytes += len_bytes;
    if (filled) {
        size_t room = SHA384_BLOCK_BYTES - filled;
        size_t piece = len_bytes < room ? len_bytes : room;
        memcpy(sha->block + filled, from, piece);
        from += piece;
        len_bytes -= piece;
        if (piece < room)
            return;
        block_mix(sha, sha->block);
    }
    for (; len_bytes >= SHA384_BLOCK_BYTES; len_bytes -= SHA384_BLOCK_BYTES) {
        block_mix(sha, from);
        from += SHA384_BLOCK_BYTES;
    }
    memcpy(sha->block, from, len_bytes);
}

void sha384_finish(struct sha384 *sha, u8 digest[SHA384_BYTES])
{
    u64 len_bits = sha->len_bytes * 8;
    size_t filled = sha->len_bytes % SHA384_BLOCK_BYTES;
    sha->block[filled++] = 0x80;
    if (filled > SHA384_BLOCK_BYTES - 16) {
        memset(sha->block + filled, 0, SHA384_BLOCK_BYTES - filled);
        block_mix(sha, sha->block);
        filled = 0;
    }
    memset(sha->block + filled, 0, SHA384_BLOCK_BYTES - 8 - filled);
    u64 big_endian = __builtin_bswap64(len_bits);
    memcpy(sha->block + SHA384_BLOCK_BYTES - 8, &big_endian, sizeof big_endian);
    block_mix(sha, sha->block);
    for (int i = 0; i < SHA384_BYTES / 8; i++) {
        big_endian = __builtin_bswap64(sha->state[i]);
        memcpy(digest + 8 * i, &big_endian, sizeof big_endian);
    }
}
